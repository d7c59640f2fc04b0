//! Quads of bytes by AVX512-VNNI.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::avx2;
use super::pack::pack_rows;
use super::run::run;
use super::tile::{Block, Buffers, LARGEST_TILE, Task, Tile};

/// For processors with AVX512-VNNI.
pub(super) struct Vnni;

const LANES: usize = 16;
/// With two registers of lanes 24 registers of sums, of 32.
const OUTPUTS: usize = 12;
const ROWS: usize = 2 * LANES;

impl Tile for Vnni {
    const OUTPUTS: usize = OUTPUTS;
    const ROWS: usize = ROWS;
    const VALUES: usize = 4;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run(block: &Block<'_>, task: Task, buffers: &mut Buffers) {
        // SAFETY: as the caller promises.
        unsafe { run::<Self>(block, task, buffers) }
    }

    #[inline(always)]
    unsafe fn multiply(x: &[u32], weight: &[u32], starts: &[i32], out: &mut [i32; LARGEST_TILE]) {
        let (x, _) = x.as_chunks::<ROWS>();
        let (weight, _) = weight.as_chunks::<OUTPUTS>();
        // SAFETY: as the caller promises; registers are read from and written to whole arrays.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); 2]; OUTPUTS];
            for (sums, start) in sums.iter_mut().zip(starts) {
                *sums = [_mm512_set1_epi32(*start); 2];
            }
            for (x, weight) in x.iter().zip(weight) {
                let low = _mm512_loadu_si512(x.as_ptr().cast());
                let high = _mm512_loadu_si512(x[LANES..].as_ptr().cast());
                for (sums, weight) in sums.iter_mut().zip(weight) {
                    let weight = _mm512_set1_epi32(weight.cast_signed());
                    sums[0] = _mm512_dpbusd_epi32(sums[0], low, weight);
                    sums[1] = _mm512_dpbusd_epi32(sums[1], high, weight);
                }
            }
            let (out, _) = out.as_chunks_mut::<ROWS>();
            for (out, sums) in out.iter_mut().zip(sums) {
                _mm512_storeu_si512(out.as_mut_ptr().cast(), sums[0]);
                _mm512_storeu_si512(out[LANES..].as_mut_ptr().cast(), sums[1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: &[i8; 16], packed: &[u8], values: &mut [i8]) {
        // SAFETY: as the caller promises; AVX-512 includes SSSE3.
        unsafe { avx2::look_up(table, packed, values) }
    }
}
