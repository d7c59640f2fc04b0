//! Every instruction set of this processor against sums in plain integers, bit for bit.

use super::*;
use crate::kernels::flex::elementwise::sigmoid;

/// Numbers without a pattern, from -1 to 1.
fn waves(count: usize, seed: f32) -> Vec<f32> {
    let value = |i| (i as f32 * 0.731 + seed + (i as f32 * 0.0131).cos()).sin();
    (0..count).map(value).collect()
}

/// A weight, owned.
enum Owned {
    Int8(Vec<i8>, Vec<f32>),
    Uint4(Vec<u8>, Vec<f32>, Vec<f32>, usize),
}

impl Owned {
    fn int8([columns, depth]: [usize; 2]) -> Self {
        // All of them, the extremes next to each other.
        let value = |i: usize| ((i * i + i / 3) % 255) as i32 - 127;
        let values = (0..columns * depth).map(|i| value(i) as i8).collect();
        Self::Int8(values, waves(columns, 0.5))
    }

    fn uint4([columns, depth]: [usize; 2], group: usize) -> Self {
        let packed = (0..columns * depth / 2).map(|i| (i * 37 + i / 5) as u8);
        let groups = columns * depth.div_ceil(group);
        let scales = waves(groups, 0.1).iter().map(|x| x.abs()).collect();
        Self::Uint4(packed.collect(), scales, waves(groups, 3.0), group)
    }

    fn borrowed(&self) -> Weight<'_> {
        match self {
            Self::Int8(values, scales) => Weight::Int8 { values, scales },
            Self::Uint4(packed, scales, zero_points, group) => Weight::Uint4 {
                packed,
                scales,
                zero_points,
                group: *group,
            },
        }
    }

    /// Integers and scale of a row.
    fn row(&self, row: usize, depth: usize) -> (Vec<i32>, f32) {
        match self {
            Self::Int8(values, scales) => {
                let values = &values[row * depth..(row + 1) * depth];
                (values.iter().map(|q| i32::from(*q)).collect(), scales[row])
            }
            Self::Uint4(packed, scales, zero_points, group) => {
                let groups = depth.div_ceil(*group);
                let (scales, zero_points) = (&scales[row * groups..], &zero_points[row * groups..]);
                let ends = (0..groups).flat_map(|g| {
                    let (scale, zero_point) = (scales[g], zero_points[g]);
                    [zero_point, scale * 15.0 + zero_point]
                });
                let largest = ends.fold(0f32, |largest, end| largest.max(end.abs()));
                let values = (0..depth).map(|i| {
                    let byte = packed[(row * depth + i) / 2];
                    let q = if i % 2 == 0 { byte & 15 } else { byte >> 4 };
                    let w = f32::from(q) * scales[i / group] + zero_points[i / group];
                    (w * (127.0 / largest)).round_ties_even() as i32
                });
                (values.collect(), largest / 127.0)
            }
        }
    }
}

fn oracle(
    [rows, columns, depth]: [usize; 3],
    x: &[f32],
    weight: &Owned,
    bias: Option<&[f32]>,
    silu: bool,
) -> Vec<f32> {
    let mut out = Vec::new();
    for x in x.chunks(depth).take(rows) {
        let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let x: Vec<i32> = x
            .iter()
            .map(|x| (x * inverse).round_ties_even() as i32)
            .collect();
        for column in 0..columns {
            let (w, scale) = weight.row(column, depth);
            let sum: i32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
            let bias = bias.map_or(0.0, |bias| bias[column]);
            let y = sum as f32 * (largest / 127.0) * scale + bias;
            out.push(if silu { y * sigmoid(y) } else { y });
        }
    }
    out
}

fn supported() -> impl Iterator<Item = Instructions> {
    Instructions::ALL
        .iter()
        .copied()
        .filter(|i| i.is_supported())
}

fn check(shape: [usize; 3], x: &[f32], weight: &Owned) {
    let bias = waves(shape[1], 2.0);
    for bias in [None, Some(bias.as_slice())] {
        for silu in [false, true] {
            let expected = oracle(shape, x, weight, bias, silu);
            for instructions in supported() {
                let ours = gemm(shape, x, &weight.borrowed(), bias, silu, instructions);
                let same = ours
                    .iter()
                    .zip(&expected)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(
                    same && ours.len() == expected.len(),
                    "{shape:?}, {instructions:?}, bias {}, silu {silu}",
                    bias.is_some()
                );
            }
        }
    }
}

/// `[rows, columns, depth]`: tiles, lanes, units and panels cut evenly and not.
const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 13, 6],
    [3, 5, 8],
    [32, 12, 32],
    [33, 13, 34],
    [70, 97, 62],
    [5, 30, 1001],
    [16, 6, 127],
    [130, 100, 66],
    [2100, 7, 5], // more than one block of panels
];

#[test]
fn int8_equals_plain_integers() {
    for shape in SHAPES {
        let [rows, columns, depth] = shape;
        let x = waves(rows * depth, 1.0);
        check(shape, &x, &Owned::int8([columns, depth]));
    }
}

#[test]
fn uint4_equals_plain_integers() {
    for ([rows, columns, depth], group) in [
        ([1, 1, 2], 64),
        ([33, 13, 64], 64),
        ([34, 25, 192], 64),
        ([5, 14, 96], 64),
        ([7, 12, 130], 32),
        ([3, 3, 12], 4),
    ] {
        let x = waves(rows * depth, 1.0);
        let weight = Owned::uint4([columns, depth], group);
        check([rows, columns, depth], &x, &weight);
    }
}

/// The largest magnitudes everywhere: what saturates in 16 bits, or overflows 32.
#[test]
fn extremes_do_not_saturate() {
    let depth = LARGEST_DEPTH;
    for sign in [1.0f32, -1.0] {
        let x = vec![sign; 2 * depth];
        for value in [127, -127] {
            let weight = Owned::Int8(vec![value; depth], vec![1.0]);
            check([2, 1, depth], &x, &weight);
        }
    }
}

#[test]
fn rows_without_a_scale() {
    let depth = 70;
    let mut x = waves(5 * depth, 1.0);
    x[..depth].fill(0.0);
    x[depth..2 * depth].fill(1e-40); // 127 by it is infinite
    x[2 * depth] = f32::NAN;
    x[3 * depth + 69] = f32::NEG_INFINITY;
    let weight = Owned::int8([3, depth]);
    for instructions in supported() {
        let weight = weight.borrowed();
        let y = gemm([5, 3, depth], &x, &weight, None, false, instructions);
        assert_eq!(y[..6], [0.0; 6], "{instructions:?}");
        assert!(y[6..12].iter().all(|y| y.is_nan()), "{instructions:?}");
        assert!(y[12..].iter().all(|y| y.is_finite()), "{instructions:?}");
    }
}

/// A row of 4 bits whose scale is not finite.
#[test]
fn weights_that_are_not_finite_stay_so() {
    let scales = vec![f32::NAN, 1.0];
    let weight = Owned::Uint4(vec![7; 8], scales, vec![0.0; 2], 8);
    for instructions in supported() {
        let y = gemm(
            [1, 2, 8],
            &[1.0; 8],
            &weight.borrowed(),
            None,
            false,
            instructions,
        );
        assert!(y[0].is_nan() && y[1].is_finite(), "{instructions:?}");
    }
}
