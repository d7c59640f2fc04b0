//! The kernels themselves, on the CPU backend's tensors in f32: rayon over rows, planes or tiles,
//! inner loops that the compiler vectorises, GEMMs by the crate that burn's CPU backend uses or, for
//! linear layers on AVX-512 and AVX2, by `gemm::dense` and, with quantized weights, `gemm::int8`.
//!
//! [`backend`] makes operations of burn's backends of them.

mod attention;
pub(super) mod backend;
mod conv;
mod disjoint;
mod elementwise;
mod gemm;
mod layout;
mod norm;
