//! `x W^T` on AVX-512, with weights as they are stored: f32, or bf16 through the dot product
//! instruction of AVX512-BF16, which adds in f32.
//!
//! Rows of `x` lie across the lanes of a register. What is multiplied with a register is then one
//! number of a weight's row, or in bf16 a pair of neighbours, and such a pair stands side by side in
//! memory already. Both are 32 bits, here called a *unit*: all but the conversion of `x` and the
//! multiplication is the same for both.
//!
//! A tile is the sums of [`OUTPUTS`] weight rows with [`ROWS`] rows of `x`, in registers over the
//! whole depth, so an element is summed in the same order whatever stands beside it. A task has some
//! weight rows, brought into the order of use in a buffer that stays in the second-level cache while
//! all rows of `x` pass by.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::{MaybeUninit, transmute};
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::elementwise::sigmoid;

/// Weight rows of one tile.
const OUTPUTS: usize = 12;
/// Rows of `x` of one tile: two registers of lanes. Together 24 registers of sums, of 32.
const ROWS: usize = 2 * LANES;
const LANES: usize = 16;
/// Bytes of weights that one task keeps in cache.
const WEIGHT_BYTES: usize = 1 << 18;
/// Rows of `x` that are packed at a time, which bounds the memory for it.
const BLOCK: usize = 32 * ROWS;
/// Tasks for each thread, where there is so much to do.
const TASKS: usize = 4;

type Tile = [f32; OUTPUTS * ROWS];

/// What the weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
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
/// Where lengths do not fit or the product is not [supported](Stored::is_supported).
pub(super) fn gemm(
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
    unsafe fn block<U: Unit>(&self, x: &[f32], out: &mut [MaybeUninit<f32>]) {
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

/// 32 bits of a row: what one instruction multiplies in a lane.
trait Unit {
    /// Values of the row that it holds.
    const VALUES: usize;

    /// [`LANES`] units of a row.
    ///
    /// # Safety
    /// [`LANES`]` * VALUES` values can be read, with the instructions of this unit.
    unsafe fn convert(x: *const f32) -> __m512i;

    /// One unit.
    fn convert_one(x: &[f32]) -> u32;

    /// `sum + x * weight` in each lane.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn multiply_add(sum: __m512, x: __m512i, weight: __m512i) -> __m512;

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

impl Unit for f32 {
    const VALUES: usize = 1;

    #[inline(always)]
    unsafe fn convert(x: *const f32) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_si512(x.cast()) }
    }

    fn convert_one(x: &[f32]) -> u32 {
        x[0].to_bits()
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, x: __m512i, weight: __m512i) -> __m512 {
        // SAFETY: as the caller promises.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(weight), sum) }
    }

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

impl Unit for bf16 {
    const VALUES: usize = 2;

    #[inline(always)]
    unsafe fn convert(x: *const f32) -> __m512i {
        // SAFETY: as the caller promises; both types are 512 bits of any value.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(LANES)));
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }

    fn convert_one(x: &[f32]) -> u32 {
        let [low, high] = [x[0], x[1]].map(|x| u32::from(bf16::from_f32(x).to_bits()));
        low | high << 16
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, x: __m512i, weight: __m512i) -> __m512 {
        // SAFETY: as the caller promises; both types are 512 bits of any value.
        unsafe {
            let [x, weight] = [x, weight].map(|x| transmute::<__m512i, __m512bh>(x));
            _mm512_dpbf16_ps(sum, x, weight)
        }
    }

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

/// Up to [`ROWS`] rows of `x` as `[units, ROWS]`.
///
/// # Safety
/// The processor has the instructions of `U`.
#[inline(always)]
unsafe fn pack_rows<U: Unit>(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]) {
    assert_eq!(panel.len(), units * ROWS, "units of a panel");
    let depth = units * U::VALUES;
    let rows = x.len() / depth;
    if rows < ROWS {
        panel.fill(MaybeUninit::new(0));
    }
    let whole = (rows / 4 * 4, units / LANES * LANES);
    for unit in (0..whole.1).step_by(LANES) {
        for row in (0..whole.0).step_by(4) {
            // SAFETY: rows and units up to those of `whole` lie in `x`, their places in `panel`.
            unsafe {
                let start = x.as_ptr().add(row * depth + unit * U::VALUES);
                let quad = [
                    U::convert(start),
                    U::convert(start.add(depth)),
                    U::convert(start.add(2 * depth)),
                    U::convert(start.add(3 * depth)),
                ];
                let place = panel.as_mut_ptr().add(unit * ROWS + row);
                store_transposed(quad, place.cast(), ROWS);
            }
        }
    }
    for row in 0..rows {
        let from = if row < whole.0 { whole.1 } else { 0 };
        for unit in from..units {
            let value = U::convert_one(&x[row * depth + unit * U::VALUES..]);
            panel[unit * ROWS + row] = MaybeUninit::new(value);
        }
    }
}

/// Up to [`OUTPUTS`] weight rows as `[units, OUTPUTS]`; rows beyond the last are 0.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn pack_weight(weight: &[u8], units: usize, packed: &mut [u32]) {
    assert_eq!(packed.len(), units * OUTPUTS, "units of a tile's weights");
    let (weight, _) = weight.as_chunks::<4>();
    let rows = weight.len() / units;
    if rows < OUTPUTS {
        packed.fill(0);
    }
    let whole = (rows / 4 * 4, units / LANES * LANES);
    for unit in (0..whole.1).step_by(LANES) {
        for row in (0..whole.0).step_by(4) {
            // SAFETY: rows and units up to those of `whole` lie in `weight`, their places in `packed`.
            unsafe {
                let start = weight.as_ptr().add(row * units + unit);
                let quad = [
                    _mm512_loadu_si512(start.cast()),
                    _mm512_loadu_si512(start.add(units).cast()),
                    _mm512_loadu_si512(start.add(2 * units).cast()),
                    _mm512_loadu_si512(start.add(3 * units).cast()),
                ];
                let place = packed.as_mut_ptr().add(unit * OUTPUTS + row);
                store_transposed(quad, place, OUTPUTS);
            }
        }
    }
    for row in 0..rows {
        let from = if row < whole.0 { whole.1 } else { 0 };
        for unit in from..units {
            packed[unit * OUTPUTS + row] = u32::from_ne_bytes(weight[row * units + unit]);
        }
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
    let mut sums = [0f32; OUTPUTS * ROWS];
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

/// `bias + x W^T`, the columns after each other.
///
/// # Safety
/// The processor has the instructions of `U`.
#[inline(always)]
unsafe fn multiply<U: Unit>(x: &[u32], weight: &[u32], bias: &[f32; OUTPUTS], out: &mut Tile) {
    let (x, _) = x.as_chunks::<ROWS>();
    let (weight, _) = weight.as_chunks::<OUTPUTS>();
    // SAFETY: as the caller promises; registers are read from and written to whole arrays.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; OUTPUTS];
        for (sums, bias) in sums.iter_mut().zip(bias) {
            *sums = [_mm512_set1_ps(*bias); 2];
        }
        for (x, weight) in x.iter().zip(weight) {
            let low = _mm512_loadu_si512(x.as_ptr().cast());
            let high = _mm512_loadu_si512(x[LANES..].as_ptr().cast());
            for (sums, weight) in sums.iter_mut().zip(weight) {
                let weight = _mm512_set1_epi32(weight.cast_signed());
                sums[0] = U::multiply_add(sums[0], low, weight);
                sums[1] = U::multiply_add(sums[1], high, weight);
            }
        }
        let (out, _) = out.as_chunks_mut::<ROWS>();
        for (out, sums) in out.iter_mut().zip(sums) {
            _mm512_storeu_ps(out.as_mut_ptr(), sums[0]);
            _mm512_storeu_ps(out[LANES..].as_mut_ptr(), sums[1]);
        }
    }
}

/// Writes the first rows and columns of a tile as rows that are `step` apart.
///
/// # Safety
/// The processor has AVX-512F, and the places may be written.
#[inline(always)]
unsafe fn store(tile: &Tile, [rows, columns]: [usize; 2], out: *mut f32, step: usize) {
    if [rows, columns] != [ROWS, OUTPUTS] {
        for row in 0..rows {
            for column in 0..columns {
                // SAFETY: as the caller promises.
                unsafe { *out.add(row * step + column) = tile[column * ROWS + row] };
            }
        }
        return;
    }
    for row in (0..ROWS).step_by(LANES) {
        for column in (0..OUTPUTS).step_by(4) {
            // SAFETY: as the caller promises; the quad lies in the tile.
            unsafe {
                let start = tile.as_ptr().add(column * ROWS + row);
                let quad = [
                    _mm512_loadu_si512(start.cast()),
                    _mm512_loadu_si512(start.add(ROWS).cast()),
                    _mm512_loadu_si512(start.add(2 * ROWS).cast()),
                    _mm512_loadu_si512(start.add(3 * ROWS).cast()),
                ];
                store_transposed(quad, out.add(row * step + column).cast(), step);
            }
        }
    }
}

/// Four rows of 16 as 16 rows of four, `step` apart.
///
/// # Safety
/// The processor has AVX-512F, and the places may be written.
#[inline(always)]
unsafe fn store_transposed([a, b, c, d]: [__m512i; 4], out: *mut u32, step: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        // Register `i` has the columns `i`, `i + 4`, `i + 8` and `i + 12`.
        let columns = [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            let quads = [
                _mm512_extracti32x4_epi32::<0>(column),
                _mm512_extracti32x4_epi32::<1>(column),
                _mm512_extracti32x4_epi32::<2>(column),
                _mm512_extracti32x4_epi32::<3>(column),
            ];
            for (j, quad) in quads.into_iter().enumerate() {
                _mm_storeu_si128(out.add((4 * j + i) * step).cast(), quad);
            }
        }
    }
}
