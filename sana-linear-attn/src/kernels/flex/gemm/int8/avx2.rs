//! Registers of 256 bits: quads of bytes by VNNI, pairs of words by AVX2.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::pack::pack_rows;
use super::run::run;
use super::tile::{Block, Buffers, LARGEST_TILE, Task, Tile};
use super::weight::expand;

/// For processors with AVX-VNNI.
pub(super) struct AvxVnni;

/// The same by the instruction of AVX-512.
#[cfg(test)]
pub(super) struct ShortVnni;

/// For processors with AVX2.
pub(super) struct Avx2;

const LANES: usize = 8;
/// With two registers of lanes 12 registers of sums, of 16.
const OUTPUTS: usize = 6;
const ROWS: usize = 2 * LANES;

/// A [`Tile`] of these instructions, one of which multiplies a register of units and adds them to sums.
macro_rules! tile {
    ($name:ident, $values:literal, $features:literal, $multiply:ident) => {
        impl Tile for $name {
            const OUTPUTS: usize = OUTPUTS;
            const ROWS: usize = ROWS;
            const VALUES: usize = $values;

            #[target_feature(enable = $features)]
            unsafe fn pack(
                x: &[f32],
                depth: usize,
                scales: &mut [f32],
                buffer: &mut Vec<u32>,
                panel: &mut [MaybeUninit<u32>],
            ) {
                // SAFETY: as the caller promises.
                unsafe { pack_rows::<Self>(x, depth, scales, buffer, panel) }
            }

            #[target_feature(enable = $features)]
            unsafe fn run(block: &Block<'_>, task: Task, buffers: &mut Buffers) {
                // SAFETY: as the caller promises.
                unsafe { run::<Self>(block, task, buffers) }
            }

            #[inline(always)]
            unsafe fn multiply(
                x: &[u32],
                weight: &[u32],
                starts: &[i32],
                out: &mut [i32; LARGEST_TILE],
            ) {
                let (x, _) = x.as_chunks::<ROWS>();
                let (weight, _) = weight.as_chunks::<OUTPUTS>();
                // SAFETY: as the caller promises; registers are read from and written to whole arrays.
                unsafe {
                    let mut sums = [[_mm256_setzero_si256(); 2]; OUTPUTS];
                    for (sums, start) in sums.iter_mut().zip(starts) {
                        *sums = [_mm256_set1_epi32(*start); 2];
                    }
                    for (x, weight) in x.iter().zip(weight) {
                        let low = _mm256_loadu_si256(x.as_ptr().cast());
                        let high = _mm256_loadu_si256(x[LANES..].as_ptr().cast());
                        for (sums, weight) in sums.iter_mut().zip(weight) {
                            let weight = _mm256_set1_epi32(weight.cast_signed());
                            sums[0] = $multiply(sums[0], low, weight);
                            sums[1] = $multiply(sums[1], high, weight);
                        }
                    }
                    let (out, _) = out.as_chunks_mut::<ROWS>();
                    for (out, sums) in out.iter_mut().zip(sums) {
                        _mm256_storeu_si256(out.as_mut_ptr().cast(), sums[0]);
                        _mm256_storeu_si256(out[LANES..].as_mut_ptr().cast(), sums[1]);
                    }
                }
            }

            #[inline(always)]
            unsafe fn look_up(table: &[i8; 16], packed: &[u8], values: &mut [i8]) {
                // SAFETY: as the caller promises; AVX2 includes SSSE3.
                unsafe { look_up(table, packed, values) }
            }
        }
    };
}

tile!(AvxVnni, 4, "avx2,avxvnni", _mm256_dpbusd_avx_epi32);
#[cfg(test)]
tile!(
    ShortVnni,
    4,
    "avx2,avx512f,avx512vl,avx512vnni",
    _mm256_dpbusd_epi32
);
tile!(Avx2, 2, "avx2", multiply_add);

/// Adds the products of two pairs of words in each lane.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn multiply_add(sum: __m256i, x: __m256i, weight: __m256i) -> __m256i {
    // SAFETY: as the caller promises.
    unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(x, weight)) }
}

/// [`expand`], 16 bytes at a time.
///
/// # Safety
/// The processor has SSSE3.
#[inline(always)]
pub(super) unsafe fn look_up(table: &[i8; 16], packed: &[u8], values: &mut [i8]) {
    let (quads, rest) = packed.as_chunks::<16>();
    let (targets, values) = values.as_chunks_mut::<32>();
    for (target, quad) in targets.iter_mut().zip(quads) {
        // SAFETY: as the caller promises; registers are read from and written to whole arrays.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            let mask = _mm_set1_epi8(15);
            let packed = _mm_loadu_si128(quad.as_ptr().cast());
            let low = _mm_shuffle_epi8(table, _mm_and_si128(packed, mask));
            let high = _mm_and_si128(_mm_srli_epi16::<4>(packed), mask);
            let high = _mm_shuffle_epi8(table, high);
            let first = _mm_unpacklo_epi8(low, high);
            let second = _mm_unpackhi_epi8(low, high);
            _mm_storeu_si128(target.as_mut_ptr().cast(), first);
            _mm_storeu_si128(target[16..].as_mut_ptr().cast(), second);
        }
    }
    expand(table, rest, values);
}
