//! Commands on checkpoints: made, described, converted, quantized, of another depth, and those in the cache.

pub mod convert;
pub mod depth;
pub mod init;
pub mod inspect;
#[cfg(feature = "hub")]
pub mod models;
pub mod quantize;
