//! 3x3 convolution of stride 1 by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray,
//! "Fast Algorithms for Convolutional Neural Networks", 2016): 36 products where 144 multiplications
//! would be, for every tile of 4x4 outputs.
//!
//! ```text
//! y = A^T [ (G w G^T) . (B^T x B) ] A        x 6x6, w 3x3, y 4x4, "." element by element
//! ```
//!
//! The sum over input channels turns the 36 element-wise products into 36 matrix products
//! `[output, input] x [input, tiles]`.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::disjoint::{Disjoint, filled};
use super::elementwise::sigmoid;
use super::gemm::{Strides, gemm};
use super::prefetch::prefetch;
use super::primitive::{Primitive, contiguous, dims, tensor, values};

/// Outputs of a tile along an axis.
const TILE: usize = 4;
/// Inputs that a tile reads along an axis, and its products.
const READ: usize = 6;
/// Tiles that are transformed together.
const LANES: usize = 16;
/// Bytes of transformed inputs and products that one task holds at a time, about: a core's
/// second-level cache and a part of the third.
const TASK_BYTES: usize = 2 << 20;
/// Tiles of a task at least: products with fewer columns are slow.
const TASK_TILES: usize = 48;

/// Tasks of an image at least, where it has as many rows of tiles.
const IMAGE_TASKS: usize = 8;

/// A number for each of the tiles that are transformed together.
type Lanes = [f32; LANES];

#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    input: usize,
    output: usize,
    /// Of the output, and of the input where it is not doubled.
    height: usize,
    width: usize,
    /// Whether each pixel of the input stands for a square of 2x2.
    doubled: bool,
    tile_rows: usize,
    tile_columns: usize,
}

/// The tile rows of one task.
#[derive(Clone, Copy)]
struct Band {
    item: usize,
    first: usize,
    rows: usize,
}

impl Shape {
    fn new(x: &Primitive, weight: &Primitive, doubled: bool) -> Self {
        let [batch, input, height, width] = dims(x);
        let [output, ..] = dims::<4>(weight);
        let scale = 1 + usize::from(doubled);
        let (height, width) = (scale * height, scale * width);
        Self {
            batch,
            input,
            output,
            height,
            width,
            doubled,
            tile_rows: height.div_ceil(TILE),
            tile_columns: width.div_ceil(TILE),
        }
    }

    /// The pixels of a channel that a band reads.
    fn pixels(&self, band: Band) -> Range<usize> {
        let rows = (TILE * band.first).saturating_sub(1)
            ..self.height.min(TILE * (band.first + band.rows) + 1);
        match self.doubled {
            true => {
                let width = self.width / 2;
                rows.start / 2 * width..rows.end.div_ceil(2) * width
            }
            false => rows.start * self.width..rows.end * self.width,
        }
    }

    fn bands(&self) -> Vec<Band> {
        let bytes_per_tile = READ * READ * (self.input + self.output) * size_of::<f32>();
        let tiles = (TASK_BYTES / bytes_per_tile).max(TASK_TILES);
        // Neither batch nor threads decide: a picture is the same alone and in a batch.
        let shared = self.tile_rows.div_ceil(IMAGE_TASKS).max(1);
        let rows = tiles.div_ceil(self.tile_columns).clamp(1, shared);
        (0..self.batch)
            .flat_map(|item| {
                (0..self.tile_rows)
                    .step_by(rows)
                    .map(move |first| (item, first))
            })
            .map(|(item, first)| Band {
                item,
                first,
                rows: rows.min(self.tile_rows - first),
            })
            .collect()
    }
}

/// The convolution with padding 1 and bias, then SiLU where asked for. Of `doubled` input, each pixel
/// is read as a square of 2x2.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`, `weight` `[out, in, 3, 3]`, `bias` `[out]`
/// - result `[batch, out, height, width]`, of doubled input `[batch, out, 2 height, 2 width]`
pub(super) fn forward(
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

/// Where the tiles of one row and channel stand in a buffer: those of product `p` from
/// `start + p * step`.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    step: usize,
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

/// `G w G^T` of the kernels of one output channel: `[input, 9]` to `[36, input]`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn transform_kernels(weight: &[f32], input: usize, out: &mut [f32]) {
    let mut columns = [[[0f32; LANES]; READ]; 3]; // [x of the kernel][y of the product]
    let mut line = [[0f32; LANES]; READ];
    for first in (0..input).step_by(LANES) {
        let count = LANES.min(input - first);
        let mut taps = [[0f32; LANES]; 9];
        let (kernels, _) = weight[9 * first..].as_chunks::<9>();
        for (lane, kernel) in kernels.iter().take(count).enumerate() {
            for (tap, value) in taps.iter_mut().zip(kernel) {
                tap[lane] = *value;
            }
        }
        for (x, column) in columns.iter_mut().enumerate() {
            kernel_column([&taps[x], &taps[3 + x], &taps[6 + x]], column);
        }
        let [left, middle, right] = &columns;
        for (y, ((left, middle), right)) in left.iter().zip(middle).zip(right).enumerate() {
            kernel_column([left, middle, right], &mut line);
            for (x, lanes) in line.iter().enumerate() {
                let start = (y * READ + x) * input + first;
                copy(&lanes[..count], &mut out[start..start + count]);
            }
        }
    }
}

/// `G` times a column of three.
#[inline(always)]
fn kernel_column(w: [&Lanes; 3], out: &mut [Lanes; READ]) {
    for lane in 0..LANES {
        let (a, b, c) = (w[0][lane], w[1][lane], w[2][lane]);
        let (even, odd) = (a + c, b);
        let (far_even, far_odd) = (a / 24.0 + c / 6.0, b / 12.0);
        out[0][lane] = a / 4.0;
        out[1][lane] = (even + odd) / -6.0;
        out[2][lane] = (even - odd) / -6.0;
        out[3][lane] = far_even + far_odd;
        out[4][lane] = far_even - far_odd;
        out[5][lane] = c;
    }
}

/// `B^T` times a column of six.
#[inline(always)]
fn input_column(d: &[Lanes; READ], out: &mut [Lanes; READ]) {
    for lane in 0..LANES {
        let (d0, d1, d2) = (d[0][lane], d[1][lane], d[2][lane]);
        let (d3, d4, d5) = (d[3][lane], d[4][lane], d[5][lane]);
        let (near_even, near_odd) = (d4 - 4.0 * d2, d3 - 4.0 * d1);
        let (far_even, far_odd) = (d4 - d2, 2.0 * (d3 - d1));
        out[0][lane] = 4.0 * d0 - 5.0 * d2 + d4;
        out[1][lane] = near_even + near_odd;
        out[2][lane] = near_even - near_odd;
        out[3][lane] = far_even + far_odd;
        out[4][lane] = far_even - far_odd;
        out[5][lane] = 4.0 * d1 - 5.0 * d3 + d5;
    }
}

/// `A^T` times a column of six.
#[inline(always)]
fn output_column(m: &[Lanes; READ], out: &mut [Lanes; TILE]) {
    for lane in 0..LANES {
        let (m0, m1, m2) = (m[0][lane], m[1][lane], m[2][lane]);
        let (m3, m4, m5) = (m[3][lane], m[4][lane], m[5][lane]);
        let (near_sum, near_difference) = (m1 + m2, m1 - m2);
        let (far_sum, far_difference) = (m3 + m4, m3 - m4);
        out[0][lane] = m0 + near_sum + far_sum;
        out[1][lane] = near_difference + 2.0 * far_difference;
        out[2][lane] = near_sum + 4.0 * far_sum;
        out[3][lane] = near_difference + 8.0 * far_difference + m5;
    }
}

/// Copies lanes from or to memory. All of them at once is one move of a register; a length that is
/// known only at run time would be a call.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match (<&Lanes>::try_from(from), <&mut Lanes>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// Pixels of a line that [`LANES`] tiles read, and those of a line before it is doubled.
const LINE: usize = TILE * LANES + READ - TILE;
const HALF_LINE: usize = LINE / 2 + 1;

/// The pixels from `first - 1` on; those beyond the ends are padding and keep what `line` has.
#[inline(always)]
fn read(row: &[f32], first: usize, line: &mut [f32]) {
    let padding = usize::from(first == 0);
    let from = first + padding - 1;
    let count = (line.len() - padding).min(row.len() - from);
    let (row, line) = (
        &row[from..from + count],
        &mut line[padding..padding + count],
    );
    for (line, row) in line.chunks_exact_mut(LANES).zip(row.chunks_exact(LANES)) {
        copy(row, line);
    }
    match (row.last_chunk::<LANES>(), line.last_chunk_mut::<LANES>()) {
        (Some(row), Some(line)) => *line = *row,
        _ => line.copy_from_slice(row),
    }
}

/// `B^T x B` of a row of tiles of one channel.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn transform_input(plane: &[f32], shape: &Shape, tile_row: usize, out: &mut [f32], place: Place) {
    // [x of the tile][y of the tile], and what becomes of the columns
    let mut columns = [[[0f32; LANES]; READ]; READ];
    let mut lines = [[[0f32; LANES]; READ]; READ]; // [product row][x]
    for first in (0..shape.tile_columns).step_by(LANES) {
        let count = LANES.min(shape.tile_columns - first);
        for y in 0..READ {
            let row = (TILE * tile_row + y).checked_sub(1);
            let row = row.filter(|&row| row < shape.height);
            if shape.doubled {
                let mut line = [0f32; HALF_LINE];
                if let Some(row) = row {
                    let width = shape.width / 2;
                    let row = &plane[row / 2 * width..][..width];
                    read(row, TILE / 2 * first, &mut line);
                }
                for (x, column) in columns.iter_mut().enumerate() {
                    for lane in 0..LANES {
                        column[y][lane] = line[TILE / 2 * lane + x.div_ceil(2)];
                    }
                }
            } else {
                let mut line = [0f32; LINE];
                if let Some(row) = row {
                    let row = &plane[row * shape.width..][..shape.width];
                    read(row, TILE * first, &mut line);
                }
                for (x, column) in columns.iter_mut().enumerate() {
                    for lane in 0..LANES {
                        column[y][lane] = line[TILE * lane + x];
                    }
                }
            }
        }
        let mut transformed = [[0f32; LANES]; READ];
        for (x, column) in columns.iter().enumerate() {
            input_column(column, &mut transformed);
            for (line, lanes) in lines.iter_mut().zip(&transformed) {
                line[x] = *lanes;
            }
        }
        for (y, line) in lines.iter().enumerate() {
            input_column(line, &mut transformed);
            for (x, lanes) in transformed.iter().enumerate() {
                let start = place.start + (y * READ + x) * place.step + first;
                copy(&lanes[..count], &mut out[start..start + count]);
            }
        }
    }
}

/// `A^T m A` of a row of tiles of one channel, with bias and activation, as four lines of pixels.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn transform_output(
    products: &[f32],
    place: Place,
    tile_columns: usize,
    bias: f32,
    silu: bool,
    rows: &mut [f32],
) {
    let mut columns = [[[0f32; LANES]; READ]; READ]; // [x][y]
    let mut lines = [[[0f32; LANES]; READ]; TILE]; // [y of the output][x]
    for first in (0..tile_columns).step_by(LANES) {
        let count = LANES.min(tile_columns - first);
        for (x, column) in columns.iter_mut().enumerate() {
            for (y, lanes) in column.iter_mut().enumerate() {
                let start = place.start + (y * READ + x) * place.step + first;
                copy(&products[start..start + count], &mut lanes[..count]);
            }
        }
        let mut transformed = [[0f32; LANES]; TILE];
        for (x, column) in columns.iter().enumerate() {
            output_column(column, &mut transformed);
            for (line, lanes) in lines.iter_mut().zip(&transformed) {
                line[x] = *lanes;
            }
        }
        for (y, line) in lines.iter().enumerate() {
            output_column(line, &mut transformed);
            let mut pixels = [0f32; TILE * LANES];
            for lane in 0..LANES {
                for x in 0..TILE {
                    pixels[TILE * lane + x] = transformed[x][lane] + bias;
                }
            }
            if silu {
                for pixel in &mut pixels {
                    *pixel *= sigmoid(*pixel);
                }
            }
            let start = TILE * (y * tile_columns + first);
            rows[start..start + TILE * count].copy_from_slice(&pixels[..TILE * count]);
        }
    }
}
