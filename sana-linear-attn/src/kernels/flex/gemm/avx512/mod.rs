//! `x W^T` on AVX-512, with weights as they are stored: f32, or bf16 through the dot product
//! instruction of AVX512-BF16, which adds in f32.
//!
//! Rows of `x` lie across the lanes of a register. What is multiplied with a register is then one
//! number of a weight's row, or in bf16 a pair of neighbours, and such a pair is already contiguous in
//! memory. Both are 32 bits, here called a *unit*: all but the conversion of `x` and the
//! multiplication is the same for both.
//!
//! A tile is the sums of [`OUTPUTS`] weight rows with [`ROWS`] rows of `x`, in registers over the
//! whole depth, so an element is summed in the same order whatever is computed with it. A task has some
//! weight rows, brought into the order of use in a buffer that stays in the second-level cache while
//! all rows of `x` pass by.
#![allow(unsafe_code)]

mod tile;
mod unit;

use std::mem::MaybeUninit;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use self::tile::{OUTPUTS, ROWS, Tile, multiply, pack_rows, pack_weight, store};
use self::unit::Unit;
use crate::kernels::flex::elementwise::sigmoid;

/// Bytes of weights that one task keeps in cache.
const WEIGHT_BYTES: usize = 1 << 18;
/// Rows of `x` that are packed at a time, which bounds the memory for it.
const BLOCK: usize = 32 * ROWS;
/// Tasks for each thread, where there is so much to do.
const TASKS: usize = 4;

/// What the weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    /// The other factor is rounded to bf16 too, to nearest, ties to even; subnormal numbers are 0.
    Bf16,
}

impl Stored {
    /// Whether this processor has the instructions; a row of bf16 must be of whole pairs.
    pub fn is_supported(self, depth: usize) -> bool {
        let whole = depth > 0 && depth.is_multiple_of(self.values());
        whole
            && is_x86_feature_detected!("avx512f")
            && (self == Stored::F32 || is_x86_feature_detected!("avx512bf16"))
    }

    /// Values of a unit.
    fn values(self) -> usize {
        match self {
            Stored::F32 => 1,
            Stored::Bf16 => 2,
        }
    }
}

/// `x W^T + b`, then SiLU where asked for.
///
/// # Shapes
/// - `x` `[rows, depth]`, `weight` `[columns, depth]` as bytes, `bias` `[columns]`
/// - result `[rows, columns]`
///
/// # Panics
/// Where lengths do not fit or the GEMM is not [supported](Stored::is_supported).
pub(crate) fn gemm(
    [rows, columns, depth]: [usize; 3],
    x: &[f32],
    (weight, stored): (&[u8], Stored),
    bias: Option<&[f32]>,
    silu: bool,
) -> Vec<f32> {
    assert!(stored.is_supported(depth), "no instructions for it");
    let units = depth / stored.values();
    assert_eq!(x.len(), rows * depth, "elements of x");
    assert_eq!(weight.len(), 4 * columns * units, "bytes of the weight");
    assert!(
        bias.is_none_or(|bias| bias.len() == columns),
        "elements of the bias"
    );
    let layer = Layer {
        columns,
        units,
        weight,
        bias,
        silu,
    };
    let mut out = Vec::with_capacity(rows * columns);
    if columns > 0 {
        let spare = &mut out.spare_capacity_mut()[..rows * columns];
        for (x, out) in x
            .chunks(BLOCK * depth)
            .zip(spare.chunks_mut(BLOCK * columns))
        {
            // SAFETY: the processor has the instructions, by the first assertion.
            unsafe {
                match stored {
                    Stored::F32 => layer.block::<f32>(x, out),
                    Stored::Bf16 => layer.block::<bf16>(x, out),
                }
            }
        }
    }
    // SAFETY: each block has been written by its tasks, all columns of all rows.
    unsafe { out.set_len(rows * columns) };
    out
}

/// A layer without its input.
struct Layer<'a> {
    columns: usize,
    /// Of a row.
    units: usize,
    weight: &'a [u8],
    bias: Option<&'a [f32]>,
    silu: bool,
}

impl Layer<'_> {
    /// The layer's output for some rows.
    ///
    /// # Safety
    /// The processor has the instructions of `U`.
    unsafe fn block<U: Instructions>(&self, x: &[f32], out: &mut [MaybeUninit<f32>]) {
        let rows = out.len() / self.columns;
        let (panels, size) = (rows.div_ceil(ROWS), self.units * ROWS);
        let mut packed = Vec::with_capacity(panels * size);
        packed.spare_capacity_mut()[..panels * size]
            .par_chunks_mut(size)
            .zip(x.par_chunks(ROWS * self.units * U::VALUES))
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
        let tiles = (WEIGHT_BYTES / (4 * OUTPUTS * self.units)).clamp(1, 8);
        let columns_step = tiles * OUTPUTS;
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
struct Block<'a> {
    layer: &'a Layer<'a>,
    /// Panels of [`ROWS`] rows: unit by unit, that of all its rows. Rows beyond the last are 0.
    packed: &'a [u32],
    rows: usize,
    /// `[rows, columns]`.
    out: *mut f32,
}

// SAFETY: tasks write through `out` elements that no other task has, and read none.
unsafe impl Sync for Block<'_> {}

/// The part of an output of these columns and panels of rows.
struct Task {
    columns: Range<usize>,
    panels: Range<usize>,
}

/// A unit with what is compiled for its instructions.
trait Instructions: Unit {
    /// [`pack_rows`], compiled for these instructions.
    ///
    /// # Safety
    /// The processor has them.
    unsafe fn pack(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]);

    /// [`run`], compiled for these instructions.
    ///
    /// # Safety
    /// The processor has them, and nothing else writes the task's part of the output.
    unsafe fn run(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>);
}

impl Instructions for f32 {
    #[target_feature(enable = "avx512f")]
    unsafe fn pack(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]) {
        // SAFETY: as the caller promises.
        unsafe { pack_rows::<Self>(x, units, panel) }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn run(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>) {
        // SAFETY: as the caller promises.
        unsafe { run::<Self>(block, task, buffer) }
    }
}

impl Instructions for bf16 {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn pack(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]) {
        // SAFETY: as the caller promises.
        unsafe { pack_rows::<Self>(x, units, panel) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn run(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>) {
        // SAFETY: as the caller promises.
        unsafe { run::<Self>(block, task, buffer) }
    }
}

/// # Safety
/// The processor has the instructions of `U`, and nothing else writes the task's part of the output.
#[inline(always)]
unsafe fn run<U: Unit>(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>) {
    let layer = block.layer;
    let size = layer.units * OUTPUTS;
    let tiles = task.columns.len().div_ceil(OUTPUTS);
    buffer.resize(tiles * size, 0);
    for (tile, packed) in buffer.chunks_exact_mut(size).enumerate() {
        let first = task.columns.start + tile * OUTPUTS;
        let columns = first..task.columns.end.min(first + OUTPUTS);
        let row = 4 * layer.units; // bytes
        let weight = &layer.weight[row * columns.start..row * columns.end];
        // SAFETY: as the caller promises.
        unsafe { pack_weight(weight, layer.units, packed) };
    }
    let mut sums: Tile = [0f32; OUTPUTS * ROWS];
    for panel in task.panels {
        let rows = panel * ROWS..block.rows.min((panel + 1) * ROWS);
        let x = &block.packed[panel * layer.units * ROWS..][..layer.units * ROWS];
        for (tile, weight) in buffer.chunks_exact(size).enumerate() {
            let first = task.columns.start + tile * OUTPUTS;
            let columns = first..task.columns.end.min(first + OUTPUTS);
            let mut bias = [0f32; OUTPUTS];
            if let Some(from) = layer.bias {
                for (bias, from) in bias.iter_mut().zip(&from[columns.clone()]) {
                    *bias = *from;
                }
            }
            // SAFETY: as the caller promises; the tile's rows and columns are those of the output.
            unsafe {
                multiply::<U>(x, weight, &bias, &mut sums);
                if layer.silu {
                    for sum in &mut sums {
                        *sum *= sigmoid(*sum);
                    }
                }
                let place = block.out.add(rows.start * layer.columns + columns.start);
                store(&sums, [rows.len(), columns.len()], place, layer.columns);
            }
        }
    }
}
