//! Rows of `x`, quantized and packed in the order of use.

use std::mem::MaybeUninit;

use super::tile::Tile;
use super::transpose::transpose;
use crate::quantization::{largest_magnitude, nearest};

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
        (*scale, inverse) = scale_of(x);
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

/// The scale of a row, and by what its values are multiplied to become integers.
///
/// Where that would not be finite they become 0: those of a row of zeros, or of less than 1e-36, and
/// those of a row with a value that is not finite, whose scale is NaN then.
#[inline(always)]
pub(super) fn scale_of(x: &[f32]) -> (f32, f32) {
    let largest = largest_magnitude(x);
    let inverse = 127.0 / largest;
    match largest.is_finite() {
        true if inverse.is_finite() => (largest / 127.0, inverse),
        true => (0.0, 0.0),
        false => (f32::NAN, 0.0),
    }
}

/// The bytes of units.
pub(super) fn bytes(units: &mut [u32]) -> &mut [u8] {
    // SAFETY: all values of both types are valid, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts_mut(units.as_mut_ptr().cast(), 4 * units.len()) }
}

/// The pairs of words of units.
pub(super) fn words(units: &mut [u32]) -> &mut [i16] {
    // SAFETY: all values of both types are valid, and the alignment of words is smaller.
    unsafe { std::slice::from_raw_parts_mut(units.as_mut_ptr().cast(), 2 * units.len()) }
}
