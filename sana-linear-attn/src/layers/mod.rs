//! What the attentions and feed-forwards at the [crate root](crate) are made of.

mod any;
mod conv;
pub(crate) mod cross_attention;
pub(crate) mod glumbconv;
pub(crate) mod linear;
pub(crate) mod linear_attention;
pub(crate) mod multiscale;
mod norm;
mod quantized;

pub(crate) use cross_attention::{CrossAttention, CrossAttentionConfig};
pub(crate) use glumbconv::{GluMbConv, GluMbConvConfig, GluMbConvNorm};
pub(crate) use linear::TorchLinear;
pub(crate) use linear_attention::{LinearAttention, LinearAttentionConfig};

#[doc(hidden)]
pub use any::AnyLinear;
pub use conv::{Conv3x3, DepthwiseConv, PointwiseConv};
pub use cross_attention::{TextKeysValues, mask_bias};
#[doc(hidden)]
pub use linear::LinearLayers;
pub use norm::RmsNormAffine;
pub use quantized::{LowRank, QuantizedWeight};
