//! The kernels of burn's GPU backends: one source, in CubeCL, for CUDA, ROCm, Vulkan, Metal and
//! WebGPU.
//!
//! They compute in f32 whatever the dtype of their tensors, and add in an order that depends neither
//! on the GPU nor on the run. Their limits are those that WebGPU guarantees: 256 units and 16 KiB of
//! shared memory to a cube. They use no plane operations.
//!
//! There is no kernel for what burn's fusion makes of plain operations: sums, gates and activations
//! are fused with the matmuls before them, and a kernel of ours would keep them separate.

mod attention;
pub(super) mod backend;
mod depthwise;
mod layout;
mod norm;
mod quantized_linear;
#[cfg(test)]
mod tests;
