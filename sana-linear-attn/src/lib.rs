#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod gpu;
pub mod kernels;
pub mod layers;
#[cfg(feature = "parity")]
#[doc(hidden)]
pub mod parity;
pub mod precision;
pub mod quantization;
pub mod transformer;
pub mod weights;

pub use layers::cross_attention::{CrossAttention, CrossAttentionConfig};
pub use layers::glumbconv::{GluMbConv, GluMbConvConfig, GluMbConvNorm};
pub use layers::linear::TorchLinear;
pub use layers::linear_attention::{LinearAttention, LinearAttentionConfig};
pub use layers::multiscale::{MultiScaleLinearAttention, MultiScaleLinearAttentionConfig};
pub use transformer::config::SanaTransformerConfig;
pub use transformer::controlnet::{SanaControlNet, SanaControlNetConfig};
pub use transformer::input::ControlWiring;
pub use transformer::model::SanaTransformer;
pub use weights::error::WeightError;
pub use weights::load::{LoadOptions, load_module};
pub use weights::names::KeyMap;
pub use weights::save::{SaveOptions, save_module};
pub use weights::tensors::Weights;
