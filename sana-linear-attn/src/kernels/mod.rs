//! One function per fused operation.
//!
//! Each has a plain-tensor form, which every backend and autodiff can run and which is the oracle
//! of the faster forms beside it:
//!
//! | function | CPU (`flex`) | others |
//! |---|---|---|
//! | [`relu_linear_attention`] | plain | plain |
//! | [`conv3x3`] | im2col tiles and GEMM, all cores, with its own gradients | plain |
//! | [`depthwise_tokens`] | channels innermost, all cores, with its own gradients | plain |
//! | [`rms_norm_channels`] | one pass, all cores, with its own gradients | plain |
//! | [`silu`], [`silu_gate`] | one pass, all cores, with its own gradients | plain |
//!
//! The fast forms serve f32 tensors on burn's `flex` backend when the crate's feature `flex` is
//! on (and `autodiff` for tensors that track gradients); every other tensor takes the plain form.

mod attention;
mod conv;
mod elementwise;
#[cfg(feature = "flex")]
// The gradients serve autodiff alone.
#[cfg_attr(not(feature = "autodiff"), allow(dead_code))]
mod flex;
mod norm;
#[cfg(feature = "flex")]
mod ops;

pub use attention::{ATTENTION_EPS, relu_linear_attention, relu_quadratic_attention};
pub use conv::{conv3x3, conv3x3_plain, depthwise_tokens, depthwise_tokens_plain};
pub use elementwise::{silu, silu_gate, silu_gate_plain};
pub use norm::{rms_norm_channels, rms_norm_channels_plain};

/// Whether the CPU kernels take these tensors: f32 on flex, contiguous or not, and a tracked
/// tensor only when the gradients are compiled in.
#[cfg(feature = "flex")]
fn on_flex<const D: usize>(x: &burn::tensor::Tensor<D>) -> bool {
    use burn::tensor::{DType, Device};
    x.dtype() == DType::F32
        && x.device() == Device::flex()
        && (cfg!(feature = "autodiff") || !x.is_autodiff())
}
