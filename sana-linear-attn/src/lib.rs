#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod kernels;
mod layers;
#[cfg(feature = "parity")]
pub mod parity;
pub mod precision;
pub mod transformer;
pub mod weights;

pub use kernels::layer_norm;
#[doc(hidden)]
pub use layers::LinearLayers;
pub use layers::{
    Conv3x3, CrossAttention, CrossAttentionConfig, DepthwiseConv, GluMbConv, GluMbConvConfig,
    GluMbConvNorm, LinearAttention, LinearAttentionConfig, LowRank, MultiScaleLinearAttention,
    MultiScaleLinearAttentionConfig, PointwiseConv, RmsNormAffine, TextKeysValues, TorchLinear,
    mask_bias,
};
pub use precision::{Bf16Gemm, compute_dtype};
pub use transformer::{
    SanaControlNet, SanaControlNetConfig, SanaTransformer, SanaTransformerConfig,
};
pub use weights::{
    KeyMap, LoadOptions, SaveOptions, WeightError, Weights, load_module, save_module,
};
