//! The kernels themselves, on the CPU backend's tensors in f32: rayon over rows, planes or tiles,
//! inner loops that the compiler vectorises, GEMMs by the crate that burn's CPU backend uses or, for
//! linear layers on AVX-512, by `gemm_avx512`.
//!
//! [`differentiable`] and [`inference`] make operations of burn's backends of them.

mod conv3x3;
mod depthwise;
mod depthwise_gate;
pub(super) mod differentiable;
mod disjoint;
mod elementwise;
mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_avx512;
mod gemm_int8;
mod grouped_linear;
pub(super) mod inference;
mod layout;
mod linear;
mod linear_attention;
mod norm_modulate;
mod prefetch;
mod primitive;
mod quantized_linear;
mod rms_norm;
mod softmax_attention;
pub(super) mod supports;
mod widen;
mod winograd;
