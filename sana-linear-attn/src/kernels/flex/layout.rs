//! Images to tokens and back, and pixels doubled: copies that all cores share.

use rayon::prelude::*;

use super::disjoint::Disjoint;
use super::{Primitive, contiguous, dims, tensor, values};

/// Rows and columns that are turned at a time: both sides of a block then lie in the first-level
/// cache.
const BLOCK: usize = 32;

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
pub(in super::super) fn transpose(x: Primitive) -> Primitive {
    let x = contiguous(x);
    let [batch, rows, columns] = dims(&x);
    let mut out = vec![0f32; batch * rows * columns];
    let x = values(&x);
    let target = Disjoint::new(&mut out);
    let tasks: Vec<(usize, usize)> = (0..batch)
        .flat_map(|item| (0..columns).step_by(BLOCK).map(move |first| (item, first)))
        .collect();
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
    tensor(out, [batch, columns, rows])
}

/// Each pixel four times: `[batch, channels, height, width]` to
/// `[batch, channels, 2 height, 2 width]`.
pub(in super::super) fn upsample(x: Primitive) -> Primitive {
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
