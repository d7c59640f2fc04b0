//! Tiles of f32 in registers of 256 bits.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::block::{Block, Instructions, Task, run};
use super::tile::{OUTPUTS as LARGEST, Tile};
use crate::kernels::flex::gemm::transpose::transpose;

/// For processors with AVX2 and FMA.
pub(super) struct Avx2;

const LANES: usize = 8;
/// With two registers of lanes 12 registers of sums, of 16.
const OUTPUTS: usize = 6;
const ROWS: usize = 2 * LANES;

impl Avx2 {
    pub fn is_supported() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
}

impl Instructions for Avx2 {
    const VALUES: usize = 1;
    const OUTPUTS: usize = OUTPUTS;
    const ROWS: usize = ROWS;

    #[target_feature(enable = "avx2,fma")]
    unsafe fn pack(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]) {
        let rows = x.len() / units;
        assert!(rows <= ROWS && panel.len() == units * ROWS);
        if rows < ROWS {
            panel.fill(MaybeUninit::new(0));
        }
        let to = (panel.as_mut_ptr().cast(), ROWS);
        // SAFETY: the panel has room for all rows.
        unsafe { transpose([rows, units], (x.as_ptr().cast(), units), to) };
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn run(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>) {
        // SAFETY: as the caller promises.
        unsafe { run::<Self>(block, task, buffer) }
    }

    #[inline(always)]
    unsafe fn pack_weight(weight: &[u8], units: usize, packed: &mut [u32]) {
        let rows = weight.len() / (4 * units);
        assert!(rows <= OUTPUTS && packed.len() == units * OUTPUTS);
        if rows < OUTPUTS {
            packed.fill(0);
        }
        let to = (packed.as_mut_ptr(), OUTPUTS);
        // SAFETY: the tile has room for all rows.
        unsafe { transpose([rows, units], (weight.as_ptr().cast(), units), to) };
    }

    #[inline(always)]
    unsafe fn multiply(x: &[u32], weight: &[u32], bias: &[f32; LARGEST], out: &mut Tile) {
        let (x, _) = x.as_chunks::<ROWS>();
        let (weight, _) = weight.as_chunks::<OUTPUTS>();
        // SAFETY: as the caller promises; registers are read from and written to whole arrays.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); 2]; OUTPUTS];
            for (sums, bias) in sums.iter_mut().zip(bias) {
                *sums = [_mm256_set1_ps(*bias); 2];
            }
            for (x, weight) in x.iter().zip(weight) {
                let low = _mm256_loadu_ps(x.as_ptr().cast());
                let high = _mm256_loadu_ps(x[LANES..].as_ptr().cast());
                for (sums, weight) in sums.iter_mut().zip(weight) {
                    let weight = _mm256_set1_ps(f32::from_bits(*weight));
                    sums[0] = _mm256_fmadd_ps(low, weight, sums[0]);
                    sums[1] = _mm256_fmadd_ps(high, weight, sums[1]);
                }
            }
            let (out, _) = out.as_chunks_mut::<ROWS>();
            for (out, sums) in out.iter_mut().zip(sums) {
                _mm256_storeu_ps(out.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(out[LANES..].as_mut_ptr(), sums[1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn store(tile: &Tile, [rows, columns]: [usize; 2], out: *mut f32, step: usize) {
        let from = (tile.as_ptr().cast(), ROWS);
        // SAFETY: as the caller promises.
        unsafe { transpose([columns, rows], from, (out.cast(), step)) };
    }
}
