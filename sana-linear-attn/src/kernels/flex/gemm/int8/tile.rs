//! What a processor's instructions multiply at a time.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::weight::Weight;

/// Sums of the largest tile.
pub(super) const LARGEST_TILE: usize = 12 * 32;

/// The sums of [`OUTPUTS`](Self::OUTPUTS) weight rows with [`ROWS`](Self::ROWS) rows of `x`, in registers over
/// the whole depth, and what is compiled for the instructions.
pub(super) trait Tile {
    /// Weight rows of a tile.
    const OUTPUTS: usize;
    /// Rows of `x` of a tile, a multiple of 4.
    const ROWS: usize;
    /// Values of a unit: four bytes, those of `x` unsigned, or two signed words.
    const VALUES: usize;
    /// What is added to each value of `x`.
    const OFFSET: i32 = if Self::VALUES == 4 { 128 } else { 0 };

    /// [`pack_rows`](super::pack::pack_rows), compiled for these instructions.
    ///
    /// # Safety
    /// The processor has them.
    unsafe fn pack(
        x: &[f32],
        depth: usize,
        scales: &mut [f32],
        buffer: &mut Vec<u32>,
        panel: &mut [MaybeUninit<u32>],
    );

    /// [`run`](super::run::run), compiled for these instructions.
    ///
    /// # Safety
    /// The processor has them, and nothing else writes the task's part of the output.
    unsafe fn run(block: &Block<'_>, task: Task, buffers: &mut Buffers);

    /// Sums from `starts` on, the columns after each other: `x` `[units, ROWS]`, `weight`
    /// `[units, OUTPUTS]`, `sums` `[OUTPUTS, ROWS]` and more.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply(x: &[u32], weight: &[u32], starts: &[i32], sums: &mut [i32; LARGEST_TILE]);

    /// Bytes from 0 to 15 of 16 at a time through `table`: see [`expand`](super::weight::expand).
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn look_up(table: &[i8; 16], packed: &[u8], values: &mut [i8]);
}

/// A layer without its input.
pub(super) struct Layer<'a> {
    pub columns: usize,
    pub depth: usize,
    pub weight: &'a Weight<'a>,
    pub bias: Option<&'a [f32]>,
    pub silu: bool,
}

/// Rows of an input, packed, and their output.
pub(super) struct Block<'a> {
    pub layer: &'a Layer<'a>,
    /// Panels of rows: unit by unit, that of all its rows. Rows beyond the last are 0.
    pub packed: &'a [u32],
    /// Of the rows of all panels.
    pub scales: &'a [f32],
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

/// What a thread keeps between tasks.
#[derive(Default)]
pub(super) struct Buffers {
    /// Rows of a weight in order.
    pub rows: Vec<u32>,
    /// The weights of a task in the order of use, one tile after another.
    pub weight: Vec<u32>,
    /// Of each row of the weight: where sums start, and the scale.
    pub starts: Vec<i32>,
    pub scales: Vec<f32>,
}
