//! Rows of `x`, quantized, and rows of a weight, packed in the order of use.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::tile::Tile;
use super::weight::Weight;
use crate::kernels::flex::gemm::transpose::transpose;
use crate::quantization::{largest_magnitude, nearest, scale_of};

/// Up to [`Tile::ROWS`] rows of `x` as `[units, ROWS]`, and their scales. Rows beyond the last, and values beyond the
/// depth, multiply to 0.
///
/// # Safety
/// The processor has the instructions of `T`.
#[inline(always)]
pub(super) unsafe fn pack_rows<T: Tile>(
    x: &[f32],
    depth: usize,
    scales: &mut [f32],
    buffer: &mut Vec<u32>,
    panel: &mut [MaybeUninit<u32>],
) {
    let units = depth.div_ceil(T::VALUES);
    assert_eq!(panel.len(), units * T::ROWS, "units of a panel");
    assert!(scales.len() == T::ROWS && x.len() <= T::ROWS * depth);
    buffer.resize(units * T::ROWS, 0);
    for (row, scale) in scales.iter_mut().enumerate() {
        let place = &mut buffer[row * units..(row + 1) * units];
        let inverse;
        let x = x.get(row * depth..(row + 1) * depth).unwrap_or(&[]);
        (*scale, inverse) = scale_of(largest_magnitude(x));
        if T::VALUES == 4 {
            let values = bytes(place);
            values[x.len()..].fill(T::OFFSET as u8);
            for (value, x) in values.iter_mut().zip(x) {
                *value = (nearest(x * inverse) + T::OFFSET) as u8;
            }
        } else {
            let values = words(place);
            values[x.len()..].fill(0);
            for (value, x) in values.iter_mut().zip(x) {
                *value = nearest(x * inverse) as i16;
            }
        }
    }
    // SAFETY: both have units for all rows.
    unsafe {
        transpose(
            [T::ROWS, units],
            (buffer.as_ptr(), units),
            (panel.as_mut_ptr().cast(), T::ROWS),
        );
    }
}

/// Up to [`Tile::OUTPUTS`] rows of the weight as `[units, OUTPUTS]`, with what sums start at and the scales; rows
/// beyond the last are 0.
///
/// # Safety
/// The processor has the instructions of `T`.
#[inline(always)]
pub(super) unsafe fn pack_weight<T: Tile>(
    weight: &Weight<'_>,
    depth: usize,
    columns: Range<usize>,
    buffer: &mut Vec<u32>,
    packed: &mut [u32],
    (starts, scales): (&mut [i32], &mut [f32]),
) {
    let units = depth.div_ceil(T::VALUES);
    assert_eq!(
        packed.len(),
        units * T::OUTPUTS,
        "units of a tile's weights"
    );
    // Rows in words have their bytes behind them.
    let spare = depth.div_ceil(4);
    buffer.clear();
    buffer.resize(units * T::OUTPUTS + spare, 0);
    let (rows, spare) = buffer.split_at_mut(units * T::OUTPUTS);
    for (output, column) in columns.enumerate() {
        let units = &mut rows[output * units..(output + 1) * units];
        let look_up = |table: &[i8; 16], packed: &[u8], values: &mut [i8]| {
            // SAFETY: as the caller promises.
            unsafe { T::look_up(table, packed, values) }
        };
        if T::VALUES == 4 {
            let values = signed(&mut bytes(units)[..depth]);
            scales[output] = weight.row(column, values, look_up);
            let sum: i32 = values.iter().map(|value| i32::from(*value)).sum();
            starts[output] = -T::OFFSET * sum;
        } else {
            let values = signed(&mut bytes(spare)[..depth]);
            scales[output] = weight.row(column, values, look_up);
            for (word, value) in words(units).iter_mut().zip(values) {
                *word = i16::from(*value);
            }
            starts[output] = 0;
        }
    }
    // SAFETY: both have units for all rows.
    unsafe {
        transpose(
            [T::OUTPUTS, units],
            (rows.as_ptr(), units),
            (packed.as_mut_ptr(), T::OUTPUTS),
        );
    }
}

/// Bytes with signs.
fn signed(bytes: &mut [u8]) -> &mut [i8] {
    // SAFETY: all values of both types are valid.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// The bytes of units.
fn bytes(units: &mut [u32]) -> &mut [u8] {
    // SAFETY: all values of both types are valid, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts_mut(units.as_mut_ptr().cast(), 4 * units.len()) }
}

/// The pairs of words of units.
fn words(units: &mut [u32]) -> &mut [i16] {
    // SAFETY: all values of both types are valid, and the alignment of words is smaller.
    unsafe { std::slice::from_raw_parts_mut(units.as_mut_ptr().cast(), 2 * units.len()) }
}
