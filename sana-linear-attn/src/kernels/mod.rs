//! One function per fused operation.
//!
//! Each has a form in plain tensor operations, which every backend and autodiff can run and which is
//! the oracle of the faster forms next to it:
//!
//! | function | CPU (`flex`) | GPUs | others |
//! |---|---|---|---|
//! | [`relu_linear_attention`], [`relu_linear_attention_packed`] | heads read out of token rows, all cores | the same, sums over chunks of tokens | plain |
//! | [`softmax_attention`] | a few queries at a time, all cores | with mask and cap: tiles of keys, no map in memory | plain |
//! | [`linear`] | on AVX-512 and AVX2 with the weight as stored, bf16 through AVX512-BF16; else GEMM; bias and SiLU in the same pass | plain | plain |
//! | [`quantized_linear`] | in integers of 8 bits with quantized rows, by AVX512-VNNI, AVX-VNNI or AVX2 where the processor has them; bias and SiLU in the same pass | CubeK's matmul, which dequantizes tile by tile | plain |
//! | [`grouped_linear`] | a GEMM for each group, read out of token rows, all cores | plain | plain |
//! | [`conv3x3`] | im2col tiles and GEMM, all cores, with its own gradients | plain | plain |
//! | [`conv3x3_fused`], [`conv3x3_upsampled`] | Winograd F(4x4, 3x3) where stride and channels allow, bias and SiLU in the same pass | plain | plain |
//! | [`depthwise_tokens`] | channels innermost, all cores, with its own gradients | rows of pixels, taps in shared memory | plain |
//! | [`gelu_gate`] | one pass, all cores | plain | plain |
//! | [`depthwise_gate`] | convolution, bias and gate in one pass, all cores | the same | plain |
//! | [`norm_modulate`] | one pass, all cores | one pass | plain |
//! | [`gated_residual`] | one pass, all cores | plain | plain |
//! | [`rms_norm_channels`] | one pass, all cores, with its own gradients | one pass, in the layout of the input | plain |
//! | [`rms_norm_residual`] | one pass, all cores | the same | plain |
//! | [`add`] | one pass, all cores | plain | plain |
//! | [`add_upsampled`] | one pass, all cores | plain, [channels last](channels_last) | plain |
//! | [`image_to_tokens`], [`tokens_to_image`], [`nearest_upsample`] | copies by all cores | plain, [channels last](channels_last) | plain |
//! | [`pixel_shuffle`], [`pixel_unshuffle`], [`repeat_channels`] | plain | plain, [channels last](channels_last) | plain |
//! | [`silu`], [`silu_gate`] | one pass, all cores, with its own gradients | plain | plain |
//! | [`cast()`] of 16-bit floats to f32 | all cores, into large pages | plain | plain |
//!
//! The CPU's forms serve f32 tensors ([`cast()`] 16-bit ones, [`linear`] bf16 weights too) on burn's `flex` backend when the
//! crate's feature `flex` is on. Those without gradients of their own leave tensors that track
//! gradients to the plain form, the others need the feature `autodiff` for them; every other tensor
//! takes the plain form.
//!
//! The two depthwise convolutions, alone and gated, are two files in `flex`, whose loops differ, and
//! one kernel on GPUs, in `cube/depthwise.rs`.
//!
//! Those of GPUs are CubeCL kernels, one source for CUDA, ROCm, Vulkan, Metal and WebGPU. They serve
//! tensors of f32, f16 and bf16 that track no gradients, compute in f32 and round once, where the
//! feature of a GPU backend is on. Burn's kernel fusion runs what is plain there, and fuses it with
//! the matmuls around it.

mod attention;
mod conv;
#[cfg(feature = "cubecl-backend")]
mod cube;
mod elementwise;
#[cfg(feature = "flex")]
// The gradients serve autodiff alone.
#[cfg_attr(not(feature = "autodiff"), allow(dead_code))]
mod flex;
mod layout;
mod linear;
mod norm;
#[doc(hidden)]
pub mod plain;
#[cfg(any(feature = "flex", feature = "cubecl-backend"))]
mod shapes;

pub use attention::ATTENTION_EPS;
pub use attention::linear_attention::{relu_linear_attention, relu_linear_attention_packed};
pub use attention::softmax_attention::softmax_attention;
#[doc(hidden)]
pub use attention::split_heads;
pub use conv::{conv3x3, conv3x3_fused, conv3x3_upsampled, depthwise_gate, depthwise_tokens};
pub use elementwise::cast::cast;
pub use elementwise::{add, gelu_gate, silu, silu_gate};
pub use layout::pixels::{channels_last, pixel_shuffle, pixel_unshuffle, repeat_channels};
pub use layout::{add_upsampled, image_to_tokens, nearest_upsample, tokens_to_image};
pub use linear::epilogue::Epilogue;
pub(crate) use linear::quantized_linear::for_its_device;
pub use linear::quantized_linear::quantized_linear;
pub use linear::{grouped_linear, linear};
pub use norm::modulate::{gated_residual, norm_modulate};
pub use norm::{rms_norm_channels, rms_norm_residual};
pub use plain::{layer_norm, relu_quadratic_attention, relu_quadratic_attention_packed};
