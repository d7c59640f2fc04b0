//! Packing into the order of use, and the product of one tile.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::unit::{LANES, Unit};

/// Weight rows of one tile.
pub(super) const OUTPUTS: usize = 12;
/// Rows of `x` of one tile: two registers of lanes. Together 24 registers of sums, of 32.
pub(super) const ROWS: usize = 2 * LANES;
pub(super) type Tile = [f32; OUTPUTS * ROWS];

/// Up to [`ROWS`] rows of `x` as `[units, ROWS]`.
///
/// # Safety
/// The processor has the instructions of `U`.
#[inline(always)]
pub(super) unsafe fn pack_rows<U: Unit>(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]) {
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
pub(super) unsafe fn pack_weight(weight: &[u8], units: usize, packed: &mut [u32]) {
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

/// `bias + x W^T`, the columns after each other.
///
/// # Safety
/// The processor has the instructions of `U`.
#[inline(always)]
pub(super) unsafe fn multiply<U: Unit>(
    x: &[u32],
    weight: &[u32],
    bias: &[f32; OUTPUTS],
    out: &mut Tile,
) {
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
pub(super) unsafe fn store(tile: &Tile, [rows, columns]: [usize; 2], out: *mut f32, step: usize) {
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
