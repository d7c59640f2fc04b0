//! The three transforms, of the lanes of several tiles at a time.

use multiversion::multiversion;

use super::tiles::{LANES, Lanes, Place, READ, Shape, TILE};
use crate::kernels::flex::elementwise::sigmoid;

/// `G w G^T` of the kernels of one output channel: `[input, 9]` to `[36, input]`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn transform_kernels(weight: &[f32], input: usize, out: &mut [f32]) {
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
pub(super) fn transform_input(
    plane: &[f32],
    shape: &Shape,
    tile_row: usize,
    out: &mut [f32],
    place: Place,
) {
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
pub(super) fn transform_output(
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
