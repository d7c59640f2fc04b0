//! Depthwise convolution on tokens: channels are innermost, so every tap is one multiply-add of
//! contiguous rows.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{
    Primitive, contiguous, dims, sum_in_order, tensor, values,
};

/// Channels handled at once, so that a row of outputs stays in registers and first-level cache.
const LANES: usize = 256;

struct Shape {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    kernel: usize,
}

impl Shape {
    fn new(x: &Primitive, taps: &Primitive, [height, width]: [usize; 2]) -> Self {
        let [batch, tokens, channels] = dims(x);
        let [count, _] = dims(taps);
        assert_eq!(
            tokens,
            height * width,
            "tokens of a {height} x {width} grid"
        );
        Self {
            batch,
            height,
            width,
            channels,
            kernel: count.isqrt(),
        }
    }

    /// Input rows or columns that tap `k` of output position `o` reads, if on the grid.
    fn source(&self, o: usize, k: usize, length: usize) -> Option<usize> {
        (o + k).checked_sub(self.kernel / 2).filter(|&i| i < length)
    }

    /// Calls `f(output token, tap, input token)` for every tap of one output row that lies on the
    /// grid.
    fn taps_of_row(&self, y: usize, mut f: impl FnMut(usize, usize, usize)) {
        for x in 0..self.width {
            for ky in 0..self.kernel {
                let Some(iy) = self.source(y, ky, self.height) else {
                    continue;
                };
                for kx in 0..self.kernel {
                    let Some(ix) = self.source(x, kx, self.width) else {
                        continue;
                    };
                    f(x, ky * self.kernel + kx, iy * self.width + ix);
                }
            }
        }
    }
}

pub(crate) fn forward(x: Primitive, taps: Primitive, grid: [usize; 2]) -> Primitive {
    let (x, taps) = (contiguous(x), contiguous(taps));
    let shape = Shape::new(&x, &taps, grid);
    convolve(values(&x), values(&taps), &shape)
}

fn convolve(x: &[f32], taps: &[f32], shape: &Shape) -> Primitive {
    let Shape {
        batch,
        height,
        width,
        channels,
        ..
    } = *shape;
    let image = height * width * channels;
    let mut out = vec![0f32; batch * image];
    out.par_chunks_mut(width * channels)
        .enumerate()
        .for_each(|(row, out)| {
            let (b, y) = (row / height, row % height);
            let x = &x[b * image..(b + 1) * image];
            for start in (0..channels).step_by(LANES) {
                let lanes = start..(start + LANES).min(channels);
                shape.taps_of_row(y, |column, tap, source| {
                    let out = &mut out[column * channels..][lanes.clone()];
                    let w = &taps[tap * channels..][lanes.clone()];
                    let x = &x[source * channels..][lanes.clone()];
                    add_products(out, w, x);
                });
            }
        });
    tensor(out, [batch, height * width, channels])
}

/// The convolution of the gradient with the kernel turned by half a turn.
pub(crate) fn input_gradient(
    x: Primitive,
    taps: Primitive,
    grad: Primitive,
    grid: [usize; 2],
) -> Primitive {
    let (grad, taps) = (contiguous(grad), contiguous(taps));
    let shape = Shape::new(&x, &taps, grid);
    let turned: Vec<f32> = values(&taps)
        .chunks_exact(shape.channels)
        .rev()
        .flatten()
        .copied()
        .collect();
    convolve(values(&grad), &turned, &shape)
}

pub(crate) fn taps_gradient(
    x: Primitive,
    taps: Primitive,
    grad: Primitive,
    grid: [usize; 2],
) -> Primitive {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let shape = Shape::new(&x, &taps, grid);
    let Shape {
        batch,
        height,
        width,
        channels,
        kernel,
    } = shape;
    let image = height * width * channels;
    let (x, grad) = (values(&x), values(&grad));
    let images_per_task = batch.div_ceil(4 * rayon::current_num_threads()).max(1);
    let starts: Vec<usize> = (0..batch).step_by(images_per_task).collect();
    let parts: Vec<Vec<f32>> = starts
        .into_par_iter()
        .map(|first| {
            let mut sums = vec![0f32; kernel * kernel * channels];
            for b in first..(first + images_per_task).min(batch) {
                let x = &x[b * image..(b + 1) * image];
                let grad = &grad[b * image..(b + 1) * image];
                for start in (0..channels).step_by(LANES) {
                    let lanes = start..(start + LANES).min(channels);
                    for y in 0..height {
                        shape.taps_of_row(y, |column, tap, source| {
                            let sums = &mut sums[tap * channels..][lanes.clone()];
                            let g = &grad[(y * width + column) * channels..][lanes.clone()];
                            let x = &x[source * channels..][lanes.clone()];
                            add_products(sums, g, x);
                        });
                    }
                }
            }
            sums
        })
        .collect();
    tensor(sum_in_order(parts), [kernel * kernel, channels])
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn add_products(sums: &mut [f32], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}
