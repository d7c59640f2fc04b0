//! `x W^T` in integers of 8 bits, with f32 scales for the rows of both: `x` is quantized while it is
//! packed, a weight of 4 bits is expanded to 8 while it is. Sums are exact in 32 bits, so that every
//! processor gives the same result, bit for bit.
//!
//! Rows of `x` lie across the lanes of a register. What is multiplied with a register is then one
//! *unit* of a weight's row, 32 bits, as in [`dense`](crate::kernels::flex::gemm::dense):
//!
//! | [`Instructions`] | `x` | weight | values of a unit |
//! |---|---|---|---|
//! | VNNI, of 512 or 256 bits | u8: 128 is added, and subtracted from the sums | i8 | 4 |
//! | AVX2 and others | i16 | i16 | 2 |
//!
//! For the same multiplications AVX2 needs fewer instructions with `vpmaddwd` of pairs than with `vpmaddubsw`
//! and signs moved from one factor to the other, and it cannot saturate.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod instructions;
mod pack;
mod portable;
mod run;
#[cfg(test)]
mod tests;
mod tile;
mod weight;

pub(crate) use self::instructions::Instructions;
use self::tile::Layer;
pub(crate) use self::weight::Weight;

/// Values of a row at most, so that a sum of products of two magnitudes up to 127 has 31 bits.
pub(crate) const LARGEST_DEPTH: usize = 1 << 17;

/// `x W^T + b`, then SiLU where asked for: a row of `x` is rounded to `scale * q` with `q` from -127 to
/// 127 and the least scale that holds it. A row with a value that is not finite becomes NaN.
///
/// # Shapes
/// - `x` `[rows, depth]`, `weight` `[columns, depth]`, `bias` `[columns]`
/// - result `[rows, columns]`
///
/// # Panics
/// Where lengths do not fit, there are no columns, or the depth is 0 or exceeds [`LARGEST_DEPTH`].
pub(crate) fn gemm(
    shape: [usize; 3],
    x: &[f32],
    weight: &Weight<'_>,
    bias: Option<&[f32]>,
    silu: bool,
    instructions: Instructions,
) -> Vec<f32> {
    let [rows, columns, depth] = shape;
    assert!(depth > 0 && depth <= LARGEST_DEPTH, "a depth of {depth}");
    assert!(columns > 0, "no columns");
    assert!(instructions.is_supported(), "no {instructions:?}");
    assert_eq!(x.len(), rows * depth, "elements of x");
    weight.check([columns, depth]);
    assert!(
        bias.is_none_or(|bias| bias.len() == columns),
        "elements of the bias"
    );
    let layer = Layer {
        columns,
        depth,
        weight,
        bias,
        silu,
    };
    let mut out = Vec::with_capacity(rows * columns);
    let spare = &mut out.spare_capacity_mut()[..rows * columns];
    // SAFETY: the processor has the instructions, by the assertion.
    unsafe { instructions.run(&layer, x, spare) };
    // SAFETY: each block has been written by its tasks, all columns of all rows.
    unsafe { out.set_len(rows * columns) };
    out
}
