//! All tiles of a layer: rows of `x` and rows of the weight, packed and multiplied by tasks.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::pack::pack_weight;
use super::tile::{Block, Buffers, LARGEST_TILE, Layer, Task, Tile};
use crate::kernels::flex::elementwise::sigmoid;
use crate::kernels::flex::gemm::transpose::transpose;

/// Bytes of weights that one task keeps in cache.
const WEIGHT_BYTES: usize = 1 << 18;
/// Panels of `x` that are packed at a time, which bounds the memory for it.
const PANELS: usize = 64;
/// Tasks for each thread, where there is so much to do.
const TASKS: usize = 4;
impl Layer<'_> {
    /// The layer's output.
    ///
    /// # Safety
    /// The processor has the instructions of `T`.
    pub(super) unsafe fn forward<T: Tile>(&self, x: &[f32], out: &mut [MaybeUninit<f32>]) {
        let rows = PANELS * T::ROWS;
        for (x, out) in x
            .chunks(rows * self.depth)
            .zip(out.chunks_mut(rows * self.columns))
        {
            // SAFETY: as the caller promises.
            unsafe { self.block::<T>(x, out) };
        }
    }

    /// The layer's output for some rows.
    ///
    /// # Safety
    /// The processor has the instructions of `T`.
    unsafe fn block<T: Tile>(&self, x: &[f32], out: &mut [MaybeUninit<f32>]) {
        let rows = out.len() / self.columns;
        let units = self.depth.div_ceil(T::VALUES);
        let (panels, size) = (rows.div_ceil(T::ROWS), units * T::ROWS);
        let mut packed = Vec::with_capacity(panels * size);
        let mut scales = vec![0f32; panels * T::ROWS];
        packed.spare_capacity_mut()[..panels * size]
            .par_chunks_mut(size)
            .zip(scales.par_chunks_mut(T::ROWS))
            .zip(x.par_chunks(T::ROWS * self.depth))
            .for_each_init(Vec::new, |buffer, ((panel, scales), x)| {
                // SAFETY: as the caller promises.
                unsafe { T::pack(x, self.depth, scales, buffer, panel) }
            });
        // SAFETY: `pack` has written each panel.
        unsafe { packed.set_len(panels * size) };

        let block = Block {
            layer: self,
            packed: &packed,
            scales: &scales,
            rows,
            out: out.as_mut_ptr().cast(),
        };
        let tiles = (WEIGHT_BYTES / (4 * T::OUTPUTS * units)).clamp(1, 8);
        let columns_step = tiles * T::OUTPUTS;
        let column_tasks = self.columns.div_ceil(columns_step);
        // Few weight rows, many cores: the rows of `x` are cut too.
        let row_tasks = (TASKS * rayon::current_num_threads())
            .div_ceil(column_tasks)
            .min(panels);
        let panels_step = panels.div_ceil(row_tasks);
        (0..column_tasks * row_tasks).into_par_iter().for_each_init(
            Buffers::default,
            |buffers, task| {
                let column = task / row_tasks * columns_step;
                let panel = (task % row_tasks * panels_step).min(panels);
                let task = Task {
                    columns: column..self.columns.min(column + columns_step),
                    panels: panel..panels.min(panel + panels_step),
                };
                // SAFETY: as the caller promises; no two tasks have a column and a panel in common.
                unsafe { T::run(&block, task, buffers) };
            },
        );
    }
}

/// # Safety
/// The processor has the instructions of `T`, and nothing else writes the task's part of the output.
#[inline(always)]
pub(super) unsafe fn run<T: Tile>(block: &Block<'_>, task: Task, buffers: &mut Buffers) {
    let layer = block.layer;
    let units = layer.depth.div_ceil(T::VALUES);
    let size = units * T::OUTPUTS;
    let tiles = task.columns.len().div_ceil(T::OUTPUTS);
    let Buffers {
        rows: buffer,
        weight: packed,
        starts,
        scales,
    } = buffers;
    packed.resize(tiles * size, 0);
    starts.resize(tiles * T::OUTPUTS, 0);
    scales.resize(tiles * T::OUTPUTS, 0.0);
    let columns_of = |tile: usize| {
        let first = task.columns.start + tile * T::OUTPUTS;
        first..task.columns.end.min(first + T::OUTPUTS)
    };
    for tile in 0..tiles {
        let place = tile * T::OUTPUTS..(tile + 1) * T::OUTPUTS;
        let packed = &mut packed[tile * size..(tile + 1) * size];
        let of_rows = (&mut starts[place.clone()], &mut scales[place]);
        let columns = columns_of(tile);
        // SAFETY: as the caller promises.
        unsafe { pack_weight::<T>(layer.weight, layer.depth, columns, buffer, packed, of_rows) };
    }
    let mut sums = [0i32; LARGEST_TILE];
    let mut results = [0f32; LARGEST_TILE];
    for panel in task.panels {
        let rows = panel * T::ROWS..block.rows.min((panel + 1) * T::ROWS);
        let x = &block.packed[panel * units * T::ROWS..][..units * T::ROWS];
        let x_scales = &block.scales[panel * T::ROWS..][..T::ROWS];
        for (tile, weight) in packed.chunks_exact(size).enumerate() {
            let columns = columns_of(tile);
            let starts = &starts[tile * T::OUTPUTS..][..T::OUTPUTS];
            // SAFETY: as the caller promises.
            unsafe { T::multiply(x, weight, starts, &mut sums) };
            for (output, column) in columns.clone().enumerate() {
                let scale = scales[tile * T::OUTPUTS + output];
                let bias = layer.bias.map_or(0.0, |bias| bias[column]);
                let place = output * T::ROWS..(output + 1) * T::ROWS;
                let results = &mut results[place.clone()];
                for ((result, sum), x_scale) in results.iter_mut().zip(&sums[place]).zip(x_scales) {
                    *result = *sum as f32 * x_scale * scale + bias;
                }
            }
            if layer.silu {
                for result in &mut results[..T::OUTPUTS * T::ROWS] {
                    *result *= sigmoid(*result);
                }
            }
            // SAFETY: the tile's rows and columns are those of the output, and ours alone.
            unsafe {
                let place = block.out.add(rows.start * layer.columns + columns.start);
                transpose(
                    [columns.len(), rows.len()],
                    (results.as_ptr().cast(), T::ROWS),
                    (place.cast(), layer.columns),
                );
            }
        }
    }
}
