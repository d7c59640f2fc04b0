//! The layers that the transformer, the autoencoder and the text encoder are made of.

mod conv;
mod cross_attention;
mod glumbconv;
mod linear;
mod linear_attention;
mod multiscale;
mod norm;

pub use conv::{Conv3x3, DepthwiseConv, PointwiseConv};
pub use cross_attention::{CrossAttention, CrossAttentionConfig, TextKeysValues, mask_bias};
pub use glumbconv::{GluMbConv, GluMbConvConfig, GluMbConvNorm};
pub use linear::{LinearLayers, LowRank, TorchLinear};
pub use linear_attention::{LinearAttention, LinearAttentionConfig};
pub use multiscale::{MultiScaleLinearAttention, MultiScaleLinearAttentionConfig};
pub use norm::RmsNormAffine;
