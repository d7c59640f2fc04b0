//! 3x3 convolution by tiles: the nine shifted copies of a few output rows ("im2col") make one
//! matrix, and a GEMM per tile does the rest. Tiles of all images run in parallel.

use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{
    Primitive, contiguous, dims, sum_in_order, tensor, values,
};
use crate::kernels::flex::gemm::{Strides, gemm};

/// Elements of one im2col tile: about half of a core's second-level cache.
const TILE_ELEMENTS: usize = 1 << 16;

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    input: usize,
    output: usize,
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    stride: usize,
}

impl Shape {
    fn new(x: &Primitive, weight: &Primitive, stride: usize) -> Self {
        let [batch, input, height, width] = dims(x);
        let [output, _, _, _] = dims(weight);
        let (out_height, out_width) = (height.div_ceil(stride), width.div_ceil(stride));
        Self {
            batch,
            input,
            output,
            height,
            width,
            out_height,
            out_width,
            stride,
        }
    }

    fn depth(&self) -> usize {
        9 * self.input
    }

    fn image(&self) -> usize {
        self.input * self.height * self.width
    }

    fn out_image(&self) -> usize {
        self.output * self.out_height * self.out_width
    }

    fn rows_per_tile(&self) -> usize {
        (TILE_ELEMENTS / (self.depth() * self.out_width)).clamp(1, self.out_height)
    }

    /// `(first row, rows)` of every tile of an image.
    fn tiles(&self) -> Vec<(usize, usize)> {
        let step = self.rows_per_tile();
        (0..self.out_height)
            .step_by(step)
            .map(|first| (first, step.min(self.out_height - first)))
            .collect()
    }

    /// Visits every run of a tile: `visit(offset in the matrix, offset in the image, length)`,
    /// elements `stride` apart in the image. What is not visited lies in the padding.
    fn runs(&self, (first, rows): (usize, usize), mut visit: impl FnMut(usize, usize, usize)) {
        let columns = rows * self.out_width;
        for c in 0..self.input {
            for ky in 0..3 {
                for kx in 0..3 {
                    let matrix_row = ((c * 3 + ky) * 3 + kx) * columns;
                    // Output columns whose source column `x * stride + kx - 1` is on the image.
                    let x0 = usize::from(kx == 0);
                    let x1 = ((self.width + 1).saturating_sub(kx))
                        .div_ceil(self.stride)
                        .min(self.out_width);
                    if x0 >= x1 {
                        continue;
                    }
                    for row in 0..rows {
                        let Some(y) = ((first + row) * self.stride + ky).checked_sub(1) else {
                            continue;
                        };
                        if y >= self.height {
                            continue;
                        }
                        let source = (c * self.height + y) * self.width + x0 * self.stride + kx - 1;
                        visit(matrix_row + row * self.out_width + x0, source, x1 - x0);
                    }
                }
            }
        }
    }

    fn gather(&self, tile: (usize, usize), image: &[f32], matrix: &mut Vec<f32>) {
        matrix.clear();
        matrix.resize(self.depth() * tile.1 * self.out_width, 0.0);
        self.runs(tile, |to, from, length| {
            let target = &mut matrix[to..to + length];
            if self.stride == 1 {
                target.copy_from_slice(&image[from..from + length]);
            } else {
                let source = image[from..].iter().step_by(self.stride);
                for (target, source) in target.iter_mut().zip(source) {
                    *target = *source;
                }
            }
        });
    }

    fn scatter_add(&self, tile: (usize, usize), matrix: &[f32], image: &mut [f32]) {
        self.runs(tile, |from, to, length| {
            let source = &matrix[from..from + length];
            if self.stride == 1 {
                for (target, source) in image[to..to + length].iter_mut().zip(source) {
                    *target += source;
                }
            } else {
                let target = image[to..].iter_mut().step_by(self.stride);
                for (target, source) in target.zip(source) {
                    *target += source;
                }
            }
        });
    }
}

pub(crate) fn forward(x: Primitive, weight: Primitive, stride: usize) -> Primitive {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let shape = Shape::new(&x, &weight, stride);
    let depth = shape.depth();
    let pixels = shape.out_height * shape.out_width;
    let (x, weight) = (values(&x), values(&weight));
    let tiles = shape.tiles();

    let tasks: Vec<(usize, (usize, usize))> = (0..shape.batch)
        .flat_map(|b| tiles.iter().map(move |&tile| (b, tile)))
        .collect();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map_init(Vec::new, |matrix, &(b, tile)| {
            let image = &x[b * shape.image()..][..shape.image()];
            shape.gather(tile, image, matrix);
            let columns = tile.1 * shape.out_width;
            let mut part = vec![0f32; shape.output * columns];
            gemm(
                [shape.output, columns, depth],
                &mut part,
                Strides {
                    row: columns,
                    column: 1,
                },
                false,
                weight,
                Strides {
                    row: depth,
                    column: 1,
                },
                matrix,
                Strides {
                    row: columns,
                    column: 1,
                },
            );
            part
        })
        .collect();

    let mut out = vec![0f32; shape.batch * shape.out_image()];
    for (&(b, (first, rows)), part) in tasks.iter().zip(&parts) {
        let columns = rows * shape.out_width;
        for (channel, row) in part.chunks_exact(columns).enumerate() {
            let start = b * shape.out_image() + channel * pixels + first * shape.out_width;
            out[start..start + columns].copy_from_slice(row);
        }
    }
    tensor(
        out,
        [shape.batch, shape.output, shape.out_height, shape.out_width],
    )
}

pub(crate) fn input_gradient(
    x: Primitive,
    weight: Primitive,
    grad: Primitive,
    stride: usize,
) -> Primitive {
    let (weight, grad) = (contiguous(weight), contiguous(grad));
    let shape = Shape::new(&x, &weight, stride);
    let depth = shape.depth();
    let pixels = shape.out_height * shape.out_width;
    let (weight, grad) = (values(&weight), values(&grad));
    let tiles = shape.tiles();
    let mut out = vec![0f32; shape.batch * shape.image()];
    out.par_chunks_mut(shape.image())
        .enumerate()
        .for_each_init(Vec::new, |matrix, (b, image)| {
            for &tile in &tiles {
                let columns = tile.1 * shape.out_width;
                matrix.clear();
                matrix.resize(depth * columns, 0.0);
                gemm(
                    [depth, columns, shape.output],
                    matrix,
                    Strides {
                        row: columns,
                        column: 1,
                    },
                    false,
                    weight,
                    Strides {
                        row: 1,
                        column: depth,
                    },
                    &grad[b * shape.out_image() + tile.0 * shape.out_width..],
                    Strides {
                        row: pixels,
                        column: 1,
                    },
                );
                shape.scatter_add(tile, matrix, image);
            }
        });
    tensor(out, [shape.batch, shape.input, shape.height, shape.width])
}

pub(crate) fn weight_gradient(
    x: Primitive,
    weight: Primitive,
    grad: Primitive,
    stride: usize,
) -> Primitive {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let shape = Shape::new(&x, &weight, stride);
    let depth = shape.depth();
    let pixels = shape.out_height * shape.out_width;
    let (x, grad) = (values(&x), values(&grad));
    let tiles = shape.tiles();
    let images_per_task = shape
        .batch
        .div_ceil(2 * rayon::current_num_threads())
        .max(1);
    let starts: Vec<usize> = (0..shape.batch).step_by(images_per_task).collect();
    let parts: Vec<Vec<f32>> = starts
        .into_par_iter()
        .map(|first| {
            let mut sums = vec![0f32; shape.output * depth];
            let mut matrix = Vec::new();
            for b in first..(first + images_per_task).min(shape.batch) {
                let image = &x[b * shape.image()..][..shape.image()];
                for &tile in &tiles {
                    let columns = tile.1 * shape.out_width;
                    shape.gather(tile, image, &mut matrix);
                    gemm(
                        [shape.output, depth, columns],
                        &mut sums,
                        Strides {
                            row: depth,
                            column: 1,
                        },
                        true,
                        &grad[b * shape.out_image() + tile.0 * shape.out_width..],
                        Strides {
                            row: pixels,
                            column: 1,
                        },
                        &matrix,
                        Strides {
                            row: 1,
                            column: columns,
                        },
                    );
                }
            }
            sums
        })
        .collect();
    tensor(sum_in_order(parts), [shape.output, shape.input, 3, 3])
}
