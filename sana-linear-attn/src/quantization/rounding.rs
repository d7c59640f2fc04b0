//! Values on the host, their scales and nearest integers.

use burn::tensor::Tensor;

/// The values of a float tensor on the host, in f32.
pub(super) fn host_values(weight: Tensor<2>) -> Vec<f32> {
    weight.into_data().iter::<f32>().collect()
}

/// The integer nearest to a number of at most 2^22 in magnitude, ties to even. By an addition that leaves it in the low
/// bits of the sum, which the compiler vectorises for every processor.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23
    ((x + SHIFT).to_bits()).wrapping_sub(SHIFT.to_bits()) as i32
}

/// The least scale with which integers up to 127 reach a magnitude, and by what values are multiplied to become those
/// integers.
///
/// Where that would not be finite they become 0: below 4e-37, and of a magnitude that is not finite, whose
/// scale is NaN.
#[inline(always)]
pub(crate) fn scale_of(largest: f32) -> (f32, f32) {
    let inverse = 127.0 / largest;
    match largest.is_finite() {
        true if inverse.is_finite() => (largest / 127.0, inverse),
        true => (0.0, 0.0),
        false => (f32::NAN, 0.0),
    }
}

/// The largest magnitude, infinite or NaN where a value is.
#[inline(always)]
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    // As integers magnitudes are in the same order, and NaN is above all.
    let bits = values.iter().map(|value| value.to_bits() & 0x7fff_ffff);
    f32::from_bits(bits.fold(0, u32::max))
}
