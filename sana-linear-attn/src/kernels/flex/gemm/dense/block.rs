//! All tiles of a layer: rows of `x` and rows of the weight, packed and multiplied by tasks.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::tile::{OUTPUTS, ROWS, Tile};
use crate::kernels::flex::elementwise::sigmoid;

/// Bytes of weights that one task keeps in cache.
const WEIGHT_BYTES: usize = 1 << 18;
/// Tasks for each thread, where there is so much to do.
const TASKS: usize = 4;

/// A layer without its input.
pub(super) struct Layer<'a> {
    pub columns: usize,
    /// Of a row.
    pub units: usize,
    pub weight: &'a [u8],
    pub bias: Option<&'a [f32]>,
    pub silu: bool,
}

impl Layer<'_> {
    /// The layer's output for some rows.
    ///
    /// # Safety
    /// The processor has the instructions of `U`.
    pub(super) unsafe fn block<U: Instructions>(&self, x: &[f32], out: &mut [MaybeUninit<f32>]) {
        let rows = out.len() / self.columns;
        let (panels, size) = (rows.div_ceil(U::ROWS), self.units * U::ROWS);
        let mut packed = Vec::with_capacity(panels * size);
        packed.spare_capacity_mut()[..panels * size]
            .par_chunks_mut(size)
            .zip(x.par_chunks(U::ROWS * self.units * U::VALUES))
            // SAFETY: as the caller promises.
            .for_each(|(panel, x)| unsafe { U::pack(x, self.units, panel) });
        // SAFETY: `pack` has written each panel.
        unsafe { packed.set_len(panels * size) };

        let block = Block {
            layer: self,
            packed: &packed,
            rows,
            out: out.as_mut_ptr().cast(),
        };
        let tiles = (WEIGHT_BYTES / (4 * U::OUTPUTS * self.units)).clamp(1, 8);
        let columns_step = tiles * U::OUTPUTS;
        let column_tasks = self.columns.div_ceil(columns_step);
        // Few weight rows, many cores: the rows of `x` are cut too.
        let row_tasks = (TASKS * rayon::current_num_threads())
            .div_ceil(column_tasks)
            .min(panels);
        let panels_step = panels.div_ceil(row_tasks);
        (0..column_tasks * row_tasks).into_par_iter().for_each_init(
            Vec::new,
            |buffer: &mut Vec<u32>, task| {
                let column = task / row_tasks * columns_step;
                let panel = (task % row_tasks * panels_step).min(panels);
                let task = Task {
                    columns: column..self.columns.min(column + columns_step),
                    panels: panel..panels.min(panel + panels_step),
                };
                // SAFETY: as the caller promises; no two tasks have a column and a panel in common.
                unsafe { U::run(&block, task, buffer) };
            },
        );
    }
}

/// Rows of an input, packed, and their output.
pub(super) struct Block<'a> {
    pub layer: &'a Layer<'a>,
    /// Panels of rows: unit by unit, that of all its rows. Rows beyond the last are 0.
    pub packed: &'a [u32],
    pub rows: usize,
    /// `[rows, columns]`.
    pub out: *mut f32,
}

// SAFETY: tasks write through `out` elements that no other task has, and read none.
unsafe impl Sync for Block<'_> {}

/// The part of an output of these columns and panels of rows.
pub(super) struct Task {
    pub columns: Range<usize>,
    pub panels: Range<usize>,
}

/// What a processor's instructions multiply at a time, and what is compiled for them.
pub(super) trait Instructions {
    /// Values of a unit.
    const VALUES: usize;
    /// Weight rows of one tile.
    const OUTPUTS: usize;
    /// Rows of `x` of one tile.
    const ROWS: usize;

    /// Up to [`ROWS`](Self::ROWS) rows of `x` as `[units, ROWS]`; rows beyond the last are 0.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn pack(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]);

    /// [`run`], compiled for these instructions.
    ///
    /// # Safety
    /// The processor has them, and nothing else writes the task's part of the output.
    unsafe fn run(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>);

    /// Up to [`OUTPUTS`](Self::OUTPUTS) weight rows as `[units, OUTPUTS]`; rows beyond the last are 0.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn pack_weight(weight: &[u8], units: usize, packed: &mut [u32]);

    /// `bias + x W^T`, the columns after each other.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply(x: &[u32], weight: &[u32], bias: &[f32; OUTPUTS], out: &mut Tile);

    /// Writes the first rows and columns of a tile as rows that are `step` apart.
    ///
    /// # Safety
    /// The processor has the instructions, and the places may be written.
    unsafe fn store(tile: &Tile, size: [usize; 2], out: *mut f32, step: usize);
}

/// # Safety
/// The processor has the instructions of `U`, and nothing else writes the task's part of the output.
#[inline(always)]
pub(super) unsafe fn run<U: Instructions>(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>) {
    let layer = block.layer;
    let size = layer.units * U::OUTPUTS;
    let tiles = task.columns.len().div_ceil(U::OUTPUTS);
    buffer.resize(tiles * size, 0);
    let columns_of = |tile: usize| {
        let first = task.columns.start + tile * U::OUTPUTS;
        first..task.columns.end.min(first + U::OUTPUTS)
    };
    for (tile, packed) in buffer.chunks_exact_mut(size).enumerate() {
        let columns = columns_of(tile);
        let row = 4 * layer.units; // bytes
        let weight = &layer.weight[row * columns.start..row * columns.end];
        // SAFETY: as the caller promises.
        unsafe { U::pack_weight(weight, layer.units, packed) };
    }
    let mut sums: Tile = [0f32; OUTPUTS * ROWS];
    for panel in task.panels {
        let rows = panel * U::ROWS..block.rows.min((panel + 1) * U::ROWS);
        let x = &block.packed[panel * layer.units * U::ROWS..][..layer.units * U::ROWS];
        for (tile, weight) in buffer.chunks_exact(size).enumerate() {
            let columns = columns_of(tile);
            let mut bias = [0f32; OUTPUTS];
            if let Some(from) = layer.bias {
                for (bias, from) in bias.iter_mut().zip(&from[columns.clone()]) {
                    *bias = *from;
                }
            }
            // SAFETY: as the caller promises; the tile's rows and columns are those of the output.
            unsafe {
                U::multiply(x, weight, &bias, &mut sums);
                if layer.silu {
                    for sum in &mut sums[..U::OUTPUTS * U::ROWS] {
                        *sum *= sigmoid(*sum);
                    }
                }
                let place = block.out.add(rows.start * layer.columns + columns.start);
                U::store(&sums, [rows.len(), columns.len()], place, layer.columns);
            }
        }
    }
}
