//! The dtype a network computes in, which need not be that of its weights.
//!
//! Layers compute in the dtype of their input and cast their own weights to it when they are
//! applied, where the two differ. So a network whose weights are bf16 in memory and whose inputs
//! are f32 is one in f32 with weights rounded to bf16: each layer widens its weights for its own
//! use and drops the widened ones afterwards. Nothing is cast where the dtypes agree. Linear layers
//! on a processor that multiplies bf16 do not widen by default: see [`Bf16Gemm`].

use burn::tensor::{DType, Device, Tensor};

/// How linear layers multiply f32 rows by a bf16 weight on burn's CPU backend `flex`. Elsewhere it
/// makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bf16Gemm {
    /// In bf16 with sums in f32 where the [processor can](Self::is_supported), else as
    /// [`Widened`](Self::Widened). Twice as fast or more, and the rows are rounded to bf16.
    #[default]
    Native,
    /// In f32, with the weight widened for each use: bit for bit what the same weights give in f32.
    Widened,
}

impl Bf16Gemm {
    /// Whether this processor and this build multiply pairs of bf16 (AVX512-BF16).
    pub fn is_supported() -> bool {
        #[cfg(all(feature = "flex", target_arch = "x86_64"))]
        let supported =
            is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(all(feature = "flex", target_arch = "x86_64")))]
        let supported = false;
        supported
    }
}

/// The dtype that a network with weights of this dtype computes in on a device, where nothing else
/// was asked for: f32 on burn's CPU backend `flex`, which converts bf16 to f32 and back at every
/// operation and for which this crate's kernels are f32, and the dtype of the weights everywhere
/// else.
///
/// The CPU backend is known by this crate's feature `flex`; without the feature every device is
/// another one.
pub fn compute_dtype(weights: DType, device: &Device) -> DType {
    match weights {
        DType::F16 | DType::BF16 if is_cpu(device) => DType::F32,
        other => other,
    }
}

/// Whether a device is burn's CPU backend `flex`.
#[cfg(feature = "flex")]
#[doc(hidden)]
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

/// Whether a device is burn's CPU backend `flex`, which this build does not have.
#[cfg(not(feature = "flex"))]
#[doc(hidden)]
pub fn is_cpu(_: &Device) -> bool {
    false
}

/// Whether no element is NaN or infinite. A tensor that cannot be read from the device counts as
/// finite.
#[doc(hidden)]
pub fn is_finite<const D: usize>(tensor: &Tensor<D>) -> bool {
    let finite = tensor.clone().cast(DType::F32).is_finite().all();
    finite.try_into_scalar::<bool>().unwrap_or(true)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_f32() {
        let cpu = Device::flex();
        for weights in [DType::F32, DType::F16, DType::BF16] {
            assert_eq!(compute_dtype(weights, &cpu), DType::F32);
        }
        assert_eq!(compute_dtype(DType::F64, &cpu), DType::F64);
        assert_eq!(
            compute_dtype(DType::BF16, &cpu.clone().autodiff()),
            DType::F32
        );
    }
}
