//! Tiles of f32 and bf16 in registers of 512 bits.

use std::mem::MaybeUninit;

use half::bf16;

use super::block::{Block, Instructions, Task, run};
use super::tile::{OUTPUTS, ROWS, Tile, multiply, pack_rows, pack_weight, store};
use super::unit::Unit;

/// Those of AVX-512: tiles of [`OUTPUTS`] by [`ROWS`].
macro_rules! avx512 {
    ($unit:ty, $features:literal) => {
        impl Instructions for $unit {
            const VALUES: usize = <Self as Unit>::VALUES;
            const OUTPUTS: usize = OUTPUTS;
            const ROWS: usize = ROWS;

            #[target_feature(enable = $features)]
            unsafe fn pack(x: &[f32], units: usize, panel: &mut [MaybeUninit<u32>]) {
                // SAFETY: as the caller promises.
                unsafe { pack_rows::<Self>(x, units, panel) }
            }

            #[target_feature(enable = $features)]
            unsafe fn run(block: &Block<'_>, task: Task, buffer: &mut Vec<u32>) {
                // SAFETY: as the caller promises.
                unsafe { run::<Self>(block, task, buffer) }
            }

            #[inline(always)]
            unsafe fn pack_weight(weight: &[u8], units: usize, packed: &mut [u32]) {
                // SAFETY: as the caller promises.
                unsafe { pack_weight(weight, units, packed) }
            }

            #[inline(always)]
            unsafe fn multiply(x: &[u32], weight: &[u32], bias: &[f32; OUTPUTS], out: &mut Tile) {
                // SAFETY: as the caller promises.
                unsafe { multiply::<Self>(x, weight, bias, out) }
            }

            #[inline(always)]
            unsafe fn store(tile: &Tile, size: [usize; 2], out: *mut f32, step: usize) {
                // SAFETY: as the caller promises.
                unsafe { store(tile, size, out, step) }
            }
        }
    };
}

avx512!(f32, "avx512f");
avx512!(bf16, "avx512f,avx512bf16");
