//! Rows of a weight, expanded to 8 bits where they have 4.

use crate::quantization::{nearest, scale_of};

/// A weight `[columns, depth]`.
pub(crate) enum Weight<'a> {
    /// See [`Int8Rows`](crate::quantization::Int8Rows).
    Int8 { values: &'a [i8], scales: &'a [f32] },
    /// See [`Uint4Groups`](crate::quantization::Uint4Groups).
    ///
    /// It is multiplied as 8 bits: [`to_int8`](crate::quantization::Uint4Groups::to_int8).
    Uint4 {
        packed: &'a [u8],
        scales: &'a [f32],
        zero_points: &'a [f32],
        group: usize,
    },
}

impl Weight<'_> {
    /// # Panics
    /// Where lengths are not those of `[columns, depth]`.
    pub(super) fn check(&self, [columns, depth]: [usize; 2]) {
        match self {
            Weight::Int8 { values, scales } => {
                assert_eq!(values.len(), columns * depth, "values of the weight");
                assert_eq!(scales.len(), columns, "scales of the weight");
            }
            Weight::Uint4 {
                packed,
                scales,
                zero_points,
                group,
            } => {
                assert!(depth.is_multiple_of(2) && *group > 0 && group.is_multiple_of(2));
                assert_eq!(packed.len(), columns * depth / 2, "bytes of the weight");
                let groups = columns * depth.div_ceil(*group);
                assert_eq!(scales.len(), groups, "scales of the weight");
                assert_eq!(zero_points.len(), groups, "zero points of the weight");
            }
        }
    }

    /// Writes a row's values, of which there are as many as the depth, those of 4 bits as [`expand`]
    /// does, and returns its scale.
    #[inline(always)]
    pub(super) fn row(
        &self,
        row: usize,
        target: &mut [i8],
        look_up: impl Fn(&[i8; 16], &[u8], &mut [i8]),
    ) -> f32 {
        let depth = target.len();
        match self {
            Weight::Int8 { values, scales } => {
                target.copy_from_slice(&values[row * depth..(row + 1) * depth]);
                scales[row]
            }
            Weight::Uint4 {
                packed,
                scales,
                zero_points,
                group,
            } => {
                let groups = depth.div_ceil(*group);
                let place = row * groups..(row + 1) * groups;
                let (scales, zero_points) = (&scales[place.clone()], &zero_points[place]);
                let (scale, inverse) = range(scales, zero_points);
                let packed = &packed[row * depth / 2..(row + 1) * depth / 2];
                let targets = target.chunks_mut(*group).zip(packed.chunks(group / 2));
                let of_groups = scales.iter().zip(zero_points);
                for ((target, packed), (of_group, zero_point)) in targets.zip(of_groups) {
                    let table = table(*of_group, *zero_point, inverse);
                    look_up(&table, packed, target);
                }
                scale
            }
        }
    }
}

/// The scale that holds a row of 4 bits in 8, and by what its values are multiplied to become integers.
#[inline(always)]
fn range(scales: &[f32], zero_points: &[f32]) -> (f32, f32) {
    // As integers magnitudes are in the same order, and NaN is above all.
    let magnitude = |x: f32| x.to_bits() & 0x7fff_ffff;
    let mut largest = 0;
    for (scale, zero_point) in scales.iter().zip(zero_points) {
        let end = scale * 15.0 + zero_point;
        largest = largest.max(magnitude(*zero_point)).max(magnitude(end));
    }
    scale_of(f32::from_bits(largest))
}

/// The 8 bits of each of 4 bits.
#[inline(always)]
fn table(scale: f32, zero_point: f32, inverse: f32) -> [i8; 16] {
    let mut table = [0; 16];
    if inverse > 0.0 {
        for (value, table) in table.iter_mut().enumerate() {
            *table = nearest((value as f32 * scale + zero_point) * inverse) as i8;
        }
    }
    table
}

/// The values of both halves of each byte through a table, one after another.
#[inline(always)]
pub(super) fn expand(table: &[i8; 16], packed: &[u8], values: &mut [i8]) {
    let (pairs, _) = values.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(packed) {
        *pair = [table[usize::from(byte & 15)], table[usize::from(byte >> 4)]];
    }
}
