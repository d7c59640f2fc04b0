//! 3x3 convolution of stride 1 by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray,
//! "Fast Algorithms for Convolutional Neural Networks", 2016): 36 products where 144 multiplications
//! would be, for every tile of 4x4 outputs.
//!
//! ```text
//! y = A^T [ (G w G^T) . (B^T x B) ] A        x 6x6, w 3x3, y 4x4, "." element by element
//! ```
//!
//! The sum over input channels turns the 36 element-wise products into 36 GEMMs
//! `[output, input] x [input, tiles]`.

mod tiles;
mod transforms;

use rayon::prelude::*;

use self::tiles::{Band, Place, READ, Shape, TILE};
use self::transforms::{transform_input, transform_kernels, transform_output};
use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::disjoint::{Disjoint, filled};
use crate::kernels::flex::gemm::prefetch::prefetch;
use crate::kernels::flex::gemm::{Strides, gemm};

/// The convolution with padding 1 and bias, then SiLU where asked for. Of `doubled` input, each pixel
/// is read as a square of 2x2.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`, `weight` `[out, in, 3, 3]`, `bias` `[out]`
/// - result `[batch, out, height, width]`, of doubled input `[batch, out, 2 height, 2 width]`
pub(crate) fn forward(
    x: Primitive,
    weight: Primitive,
    bias: Option<Primitive>,
    doubled: bool,
    silu: bool,
) -> Primitive {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let shape = Shape::new(&x, &weight, doubled);
    // What `transformed_kernel` relies on.
    assert_eq!(
        dims::<4>(&weight),
        [shape.output, shape.input, 3, 3],
        "shape of the kernel"
    );
    let bias = bias.map(contiguous);
    let bias = bias.as_ref().map(values);
    let kernel = transformed_kernel(values(&weight), &shape);
    let x = values(&x);
    let pixels = shape.height * shape.width;
    let plane = match doubled {
        true => pixels / 4,
        false => pixels,
    };
    let length = shape.batch * shape.output * pixels;
    // SAFETY: the bands of an image have all its rows, and each writes all channels of its own.
    #[allow(unsafe_code)]
    let out = unsafe {
        filled(length, |target| {
            shape.bands().into_par_iter().for_each_init(
                || (Vec::new(), Vec::new()),
                |(inputs, products), band| {
                    let image = &x[band.item * shape.input * plane..][..shape.input * plane];
                    transform_band(image, &shape, band, inputs);
                    multiply_band(&kernel, &shape, band, inputs, products);
                    store_band(products, &shape, band, bias, silu, target);
                },
            );
        })
    };
    tensor(out, [shape.batch, shape.output, shape.height, shape.width])
}

/// `B^T x B` of all tiles of a band: `[36, input, tiles]`.
fn transform_band(image: &[f32], shape: &Shape, band: Band, inputs: &mut Vec<f32>) {
    let tiles = band.rows * shape.tile_columns;
    inputs.resize(READ * READ * shape.input * tiles, 0.0);
    let size = image.len() / shape.input;
    let pixels = shape.pixels(band);
    for (channel, plane) in image.chunks_exact(size).enumerate() {
        let next = (channel + 1) * size;
        if let Some(next) = image.get(next + pixels.start..next + pixels.end) {
            prefetch(next);
        }
        for row in 0..band.rows {
            let place = Place {
                start: channel * tiles + row * shape.tile_columns,
                step: shape.input * tiles,
            };
            transform_input(plane, shape, band.first + row, inputs, place);
        }
    }
}

/// The 36 products: `[36, output, tiles]`.
fn multiply_band(
    kernel: &[f32],
    shape: &Shape,
    band: Band,
    inputs: &[f32],
    products: &mut Vec<f32>,
) {
    let tiles = band.rows * shape.tile_columns;
    products.resize(READ * READ * shape.output * tiles, 0.0);
    let per_product = kernel
        .chunks_exact(shape.output * shape.input)
        .zip(inputs.chunks_exact(shape.input * tiles))
        .zip(products.chunks_exact_mut(shape.output * tiles));
    for ((kernel, inputs), products) in per_product {
        gemm(
            [shape.output, tiles, shape.input],
            products,
            Strides::rows(tiles),
            false,
            kernel,
            Strides::rows(shape.input),
            inputs,
            Strides::rows(tiles),
        );
    }
}

/// Pixels from the products of a band, into the result.
fn store_band(
    products: &[f32],
    shape: &Shape,
    band: Band,
    bias: Option<&[f32]>,
    silu: bool,
    target: &Disjoint<'_>,
) {
    let tiles = band.rows * shape.tile_columns;
    let mut rows = vec![0f32; TILE * shape.tile_columns * TILE];
    for channel in 0..shape.output {
        let bias = bias.map_or(0.0, |bias| bias[channel]);
        for row in 0..band.rows {
            let place = Place {
                start: channel * tiles + row * shape.tile_columns,
                step: shape.output * tiles,
            };
            transform_output(products, place, shape.tile_columns, bias, silu, &mut rows);
            let plane = (band.item * shape.output + channel) * shape.height * shape.width;
            let first = TILE * (band.first + row);
            let lines = rows.chunks_exact(TILE * shape.tile_columns);
            for (y, line) in (first..shape.height.min(first + TILE)).zip(lines) {
                // SAFETY: a task writes the rows of its own band alone, and bands of an image do
                // not overlap; rows end inside their plane.
                #[allow(unsafe_code)]
                unsafe {
                    target.write(plane + y * shape.width, &line[..shape.width]);
                }
            }
        }
    }
}

/// `G w G^T` of every kernel: `[36, output, input]`.
fn transformed_kernel(weight: &[f32], shape: &Shape) -> Vec<f32> {
    let Shape { input, output, .. } = *shape;
    let write = |target: &Disjoint<'_>| {
        weight.par_chunks(9 * input).enumerate().for_each_init(
            || vec![0f32; READ * READ * input],
            |rows, (o, weight)| {
                transform_kernels(weight, input, rows);
                for (p, row) in rows.chunks_exact(input).enumerate() {
                    // SAFETY: every output channel writes its own row of each product.
                    #[allow(unsafe_code)]
                    unsafe {
                        target.write((p * output + o) * input, row);
                    }
                }
            },
        );
    };
    // SAFETY: `weight` has a kernel for every row of each product, and that row is written.
    #[allow(unsafe_code)]
    unsafe {
        filled(READ * READ * output * input, write)
    }
}
