//! `x W^T` on AVX-512 or AVX2, with weights as they are stored: f32, or on AVX-512 bf16 through the dot
//! product instruction of AVX512-BF16, which adds in f32.
//!
//! Rows of `x` lie across the lanes of a register. What is multiplied with a register is then one
//! number of a weight's row, or in bf16 a pair of neighbours, and such a pair is already contiguous in
//! memory. Both are 32 bits, here called a *unit*: all but the conversion of `x` and the
//! multiplication is the same for both.
//!
//! A tile is the sums of some weight rows with some rows of `x`, in registers over the whole depth, so an
//! element is summed in the same order whatever is computed with it. A task has some weight rows,
//! brought into the order of use in a buffer that stays in the second-level cache while all rows of `x`
//! pass by. Parts of the depth one after another, for the first-level cache, were measured to be slower.
#![allow(unsafe_code)]

mod avx2;
mod avx512;
mod block;
#[cfg(test)]
mod tests;
mod tile;
mod unit;

use half::bf16;

use self::avx2::Avx2;
use self::block::Layer;

/// Rows of `x` that are packed at a time, which bounds the memory for it.
const BLOCK: usize = 1024;
/// What the weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    /// The other factor is rounded to bf16 too, to nearest, ties to even; subnormal numbers are 0.
    Bf16,
}

impl Stored {
    /// Whether this processor has the instructions; a row of bf16 must be of whole pairs.
    pub fn is_supported(self, depth: usize) -> bool {
        let whole = depth > 0 && depth.is_multiple_of(self.values());
        whole
            && match self {
                Stored::F32 => is_x86_feature_detected!("avx512f") || Avx2::is_supported(),
                Stored::Bf16 => {
                    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
                }
            }
    }

    /// Values of a unit.
    fn values(self) -> usize {
        match self {
            Stored::F32 => 1,
            Stored::Bf16 => 2,
        }
    }
}

/// `x W^T + b`, then SiLU where asked for.
///
/// # Shapes
/// - `x` `[rows, depth]`, `weight` `[columns, depth]` as bytes, `bias` `[columns]`
/// - result `[rows, columns]`
///
/// # Panics
/// Where lengths do not fit or the GEMM is not [supported](Stored::is_supported).
pub(crate) fn gemm(
    [rows, columns, depth]: [usize; 3],
    x: &[f32],
    (weight, stored): (&[u8], Stored),
    bias: Option<&[f32]>,
    silu: bool,
) -> Vec<f32> {
    assert!(stored.is_supported(depth), "no instructions for it");
    let form = match stored {
        Stored::F32 if is_x86_feature_detected!("avx512f") => Form::Avx512,
        Stored::F32 => Form::Avx2,
        Stored::Bf16 => Form::Avx512Bf16,
    };
    // SAFETY: the processor has the instructions.
    unsafe { gemm_as(form, [rows, columns, depth], x, weight, bias, silu) }
}

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Avx512,
    Avx512Bf16,
    Avx2,
}

/// [`gemm`] with these instructions.
///
/// # Safety
/// The processor has them.
unsafe fn gemm_as(
    form: Form,
    [rows, columns, depth]: [usize; 3],
    x: &[f32],
    weight: &[u8],
    bias: Option<&[f32]>,
    silu: bool,
) -> Vec<f32> {
    let stored = match form {
        Form::Avx512 | Form::Avx2 => Stored::F32,
        Form::Avx512Bf16 => Stored::Bf16,
    };
    let units = depth / stored.values();
    assert_eq!(x.len(), rows * depth, "elements of x");
    assert_eq!(weight.len(), 4 * columns * units, "bytes of the weight");
    assert!(
        bias.is_none_or(|bias| bias.len() == columns),
        "elements of the bias"
    );
    let layer = Layer {
        columns,
        units,
        weight,
        bias,
        silu,
    };
    let mut out = Vec::with_capacity(rows * columns);
    if columns > 0 {
        let spare = &mut out.spare_capacity_mut()[..rows * columns];
        for (x, out) in x
            .chunks(BLOCK * depth)
            .zip(spare.chunks_mut(BLOCK * columns))
        {
            // SAFETY: as the caller promises.
            unsafe {
                match form {
                    Form::Avx512 => layer.block::<f32>(x, out),
                    Form::Avx512Bf16 => layer.block::<bf16>(x, out),
                    Form::Avx2 => layer.block::<Avx2>(x, out),
                }
            }
        }
    }
    // SAFETY: each block has been written by its tasks, all columns of all rows.
    unsafe { out.set_len(rows * columns) };
    out
}
