use burn::tensor::{DType, Tensor};

#[cfg(feature = "flex")]
use crate::kernels::flex;

/// A tensor in another dtype; the tensor itself where it has the dtype already.
///
/// What layers do with their weights when their input has another dtype than these: see
/// [`precision`](crate::precision).
pub fn cast<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype {
        return x;
    }
    #[cfg(feature = "flex")]
    if dtype == DType::F32 && flex::backend::supports::widen(&x) {
        return flex::backend::differentiable::widen(x);
    }
    x.cast(dtype)
}
