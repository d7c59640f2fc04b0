//! Pairs of words by plain code.

use std::mem::MaybeUninit;

use super::pack::pack_rows;
use super::run::run;
use super::tile::{Block, Buffers, LARGEST_TILE, Task, Tile};
use super::weight::expand;

/// For every processor.
pub(super) struct Portable;

const OUTPUTS: usize = 4;
const ROWS: usize = 8;

impl Tile for Portable {
    const OUTPUTS: usize = OUTPUTS;
    const ROWS: usize = ROWS;
    const VALUES: usize = 2;

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

    unsafe fn run(block: &Block<'_>, task: Task, buffers: &mut Buffers) {
        // SAFETY: as the caller promises.
        unsafe { run::<Self>(block, task, buffers) }
    }

    #[inline(always)]
    unsafe fn multiply(x: &[u32], weight: &[u32], starts: &[i32], out: &mut [i32; LARGEST_TILE]) {
        let (x, _) = x.as_chunks::<ROWS>();
        let (weight, _) = weight.as_chunks::<OUTPUTS>();
        let mut sums = [[0; ROWS]; OUTPUTS];
        for (sums, start) in sums.iter_mut().zip(starts) {
            *sums = [*start; ROWS];
        }
        for (x, weight) in x.iter().zip(weight) {
            for (sums, weight) in sums.iter_mut().zip(weight) {
                let [w0, w1] = pair(*weight);
                for (sum, x) in sums.iter_mut().zip(x) {
                    let [x0, x1] = pair(*x);
                    *sum += x0 * w0 + x1 * w1;
                }
            }
        }
        let (out, _) = out.as_chunks_mut::<ROWS>();
        for (out, sums) in out.iter_mut().zip(sums) {
            *out = sums;
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: &[i8; 16], packed: &[u8], values: &mut [i8]) {
        expand(table, packed, values);
    }
}

/// The words of a unit in the order of memory.
#[inline(always)]
fn pair(unit: u32) -> [i32; 2] {
    let [a, b, c, d] = unit.to_ne_bytes();
    [[a, b], [c, d]].map(|word| i32::from(i16::from_ne_bytes(word)))
}
