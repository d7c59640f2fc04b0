use burn::tensor::{DType, Tensor};

/// A tensor in another dtype; the tensor itself where it has the dtype already.
///
/// What layers do with their weights when their input has another dtype than these: see
/// [`precision`](crate::precision).
pub fn cast<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype {
        return x;
    }
    #[cfg(feature = "flex")]
    if dtype == DType::F32 && widens_on_flex(&x) {
        return super::ops::widen(x);
    }
    x.cast(dtype)
}

/// Whether the CPU kernel takes the tensor: 16-bit floats on flex, and a tracked one only when the
/// gradients are compiled in.
#[cfg(feature = "flex")]
fn widens_on_flex<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16)
        && crate::precision::is_cpu(&x.device())
        && (cfg!(feature = "autodiff") || !x.is_autodiff())
}
