#![doc = include_str!("../README.md")]

pub mod cross_attention;
pub mod glumbconv;
pub mod kernels;
pub mod linear;
pub mod linear_attention;
pub mod multiscale;
pub mod norm;
#[cfg(feature = "parity")]
pub mod parity;
pub mod precision;
pub mod transformer;
pub mod weights;
mod widen;

pub use cross_attention::{CrossAttention, CrossAttentionConfig, TextKeysValues, mask_bias};
pub use glumbconv::{GluMbConv, GluMbConvConfig, GluMbConvNorm};
pub use kernels::layer_norm;
pub use linear::{Conv3x3, DepthwiseConv, LowRank, PointwiseConv, TorchLinear};
pub use linear_attention::{LinearAttention, LinearAttentionConfig};
pub use multiscale::{MultiScaleLinearAttention, MultiScaleLinearAttentionConfig};
pub use norm::RmsNormAffine;
pub use precision::compute_dtype;
pub use transformer::{
    SanaControlNet, SanaControlNetConfig, SanaTransformer, SanaTransformerConfig,
};
pub use weights::{
    KeyMap, LoadOptions, SaveOptions, WeightError, Weights, load_module, save_module,
};
