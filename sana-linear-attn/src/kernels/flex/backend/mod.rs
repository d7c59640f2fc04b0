//! How the kernels become operations of burn: the tensors that each takes, with gradients and without.

pub(in crate::kernels) mod differentiable;
pub(in crate::kernels) mod inference;
pub(super) mod primitive;
pub(in crate::kernels) mod supports;
