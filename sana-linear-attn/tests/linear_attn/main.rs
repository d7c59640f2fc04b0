//! The layers, kernels and networks of the crate: against reference outputs, against plain forms of
//! the same computation, and by what holds without either. One binary, since each links burn.

mod attention_edges;
mod bf16_gemm;
mod blocks;
mod config;
mod controlnet;
#[cfg(feature = "cubecl-backend")]
mod cube_forms;
#[cfg(feature = "cubecl-backend")]
mod cube_kernels;
mod depth;
mod empty;
mod kernels;
mod lora;
mod non_finite;
mod original;
mod precision;
mod properties;
mod quantized;
mod transformer;
mod weights;
