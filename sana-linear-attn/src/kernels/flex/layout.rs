//! Images to tokens and back, pixels doubled, channels turned into pixels: copies that all cores share.

use multiversion::multiversion;
use rayon::prelude::*;

use super::disjoint::{Disjoint, filled};
use super::elementwise::CHUNK;
use crate::kernels::flex::backend::primitive::{
    Primitive, contiguous, dims, tensor, unique_values, values,
};

/// Rows and columns that are turned at a time: both sides of a block then lie in the first-level
/// cache.
const BLOCK: usize = 32;

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
pub(super) fn transpose(x: Primitive) -> Primitive {
    let x = contiguous(x);
    let [batch, rows, columns] = dims(&x);
    let x = values(&x);
    let tasks: Vec<(usize, usize)> = (0..batch)
        .flat_map(|item| (0..columns).step_by(BLOCK).map(move |first| (item, first)))
        .collect();
    let write = |target: &Disjoint<'_>| {
        tasks.into_par_iter().for_each(|(item, first)| {
            let count = BLOCK.min(columns - first);
            let start = item * rows * columns;
            let mut block = [[0f32; BLOCK]; BLOCK];
            for row in (0..rows).step_by(BLOCK) {
                let height = BLOCK.min(rows - row);
                for y in 0..height {
                    let line = &x[start + (row + y) * columns + first..][..count];
                    for (column, &value) in block.iter_mut().zip(line) {
                        column[y] = value;
                    }
                }
                for (column, line) in block.iter().enumerate().take(count) {
                    // SAFETY: a task writes its own rows of the result, inside the item.
                    #[allow(unsafe_code)]
                    unsafe {
                        target.write(start + (first + column) * rows + row, &line[..height]);
                    }
                }
            }
        });
    };
    // SAFETY: the tasks have all rows of all items between them.
    #[allow(unsafe_code)]
    let out = unsafe { filled(x.len(), write) };
    tensor(out, [batch, columns, rows])
}

/// Each pixel four times: `[batch, channels, height, width]` to
/// `[batch, channels, 2 height, 2 width]`.
pub(super) fn upsample(x: Primitive) -> Primitive {
    let x = contiguous(x);
    let [batch, channels, height, width] = dims(&x);
    let mut out = vec![0f32; 4 * values(&x).len()];
    out.par_chunks_mut((4 * width).max(1))
        .zip(values(&x).par_chunks(width.max(1)))
        .for_each(|(out, x)| {
            let (first, second) = out.split_at_mut(2 * width);
            for (pair, &pixel) in first.chunks_exact_mut(2).zip(x) {
                pair.fill(pixel);
            }
            second.copy_from_slice(first);
        });
    tensor(out, [batch, channels, 2 * height, 2 * width])
}

/// `y + pixel_shuffle(repeat_channels(x, repeats))`, in the memory of `y` where nothing else needs it.
///
/// # Shapes
/// - `y` and result `[batch, channels, 2 height, 2 width]`
/// - `x` `[batch, 4 channels / repeats, height, width]`
pub(super) fn add_upsampled(y: Primitive, x: Primitive, repeats: usize) -> Primitive {
    let (mut y, x) = (contiguous(y), contiguous(x));
    let shape: [usize; 4] = dims(&y);
    let [_, inputs, height, width] = dims(&x);
    let [_, channels, ..] = shape;
    let x = values(&x);
    let add = |(row, y): (usize, &mut [f32])| {
        let (plane, row) = (row / (2 * height), row % (2 * height));
        let (item, channel) = (plane / channels, plane % channels);
        // The square's left and right pixel of this row.
        let sources = [0, 1].map(|right| {
            let input = (4 * channel + 2 * (row % 2) + right) / repeats;
            &x[((item * inputs + input) * height + row / 2) * width..][..width]
        });
        add_pairs(y, sources[0], sources[1]);
    };
    let rows = CHUNK.div_ceil(2 * width);
    if let Some(values) = unique_values(&mut y) {
        values
            .par_chunks_mut(2 * width)
            .with_min_len(rows)
            .enumerate()
            .for_each(add);
        return y;
    }
    let mut out = values(&y).to_vec();
    out.par_chunks_mut(2 * width)
        .with_min_len(rows)
        .enumerate()
        .for_each(add);
    tensor(out, shape)
}

/// Adds two rows to the even and the odd elements of a third.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn add_pairs(y: &mut [f32], even: &[f32], odd: &[f32]) {
    let (pairs, _) = y.as_chunks_mut::<2>();
    for ((pair, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
        pair[0] += even;
        pair[1] += odd;
    }
}
