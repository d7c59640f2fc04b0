//! How the kernels become operations of burn, and the tensors that each takes.

pub(in crate::kernels) mod inference;
pub(in crate::kernels) mod supports;
