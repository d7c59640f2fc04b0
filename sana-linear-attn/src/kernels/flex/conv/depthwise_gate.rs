//! The middle of GLUMBConv in one pass: depthwise convolution with bias, then the gate, so that the
//! convolved halves never reach memory.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::elementwise::sigmoid;

/// Channels handled at once: the rows that an output row reads then stay in cache.
const CHANNELS: usize = 256;
/// Channels whose sums are in registers at a time.
const LANES: usize = 32;

/// `[v | g] = depthwise(x) + bias`, result `v * silu(g)`.
///
/// # Shapes
/// - `x` `[batch, height * width, 2 * channels]`
/// - `taps` `[kernel * kernel, 2 * channels]`, `bias` `[2 * channels]`
/// - result `[batch, height * width, channels]`
pub(crate) fn forward(
    x: Primitive,
    taps: Primitive,
    bias: Primitive,
    [height, width]: [usize; 2],
) -> Primitive {
    let (x, taps, bias) = (contiguous(x), contiguous(taps), contiguous(bias));
    let [batch, tokens, both] = dims(&x);
    let [count, _] = dims(&taps);
    assert_eq!(
        tokens,
        height * width,
        "tokens of a {height} x {width} grid"
    );
    let (kernel, channels) = (count.isqrt(), both / 2);
    let (x, taps, bias) = (values(&x), values(&taps), values(&bias));
    let mut out = vec![0f32; batch * tokens * channels];
    out.par_chunks_mut((width * channels).max(1))
        .enumerate()
        .for_each_init(Vec::new, |reads, (row, out)| {
            let (item, y) = (row / height, row % height);
            let x = &x[item * tokens * both..][..tokens * both];
            for start in (0..channels).step_by(CHANNELS) {
                let length = CHANNELS.min(channels - start);
                for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                    reads.clear();
                    reads.extend(Read::of([y, column], [height, width], kernel));
                    let halves = [start, channels + start];
                    gated(
                        &mut out[start..start + length],
                        x,
                        taps,
                        bias,
                        both,
                        halves,
                        reads,
                    );
                }
            }
        });
    tensor(out, [batch, tokens, channels])
}

/// A tap of the kernel that lies on the grid, and the token under it.
#[derive(Clone, Copy)]
struct Read {
    tap: usize,
    token: usize,
}

impl Read {
    fn of(
        [y, x]: [usize; 2],
        [height, width]: [usize; 2],
        kernel: usize,
    ) -> impl Iterator<Item = Self> {
        let on_grid = move |position: usize, tap: usize, length: usize| {
            (position + tap)
                .checked_sub(kernel / 2)
                .filter(|&source| source < length)
        };
        let rows = (0..kernel).filter_map(move |ky| Some((ky, on_grid(y, ky, height)?)));
        rows.flat_map(move |(ky, row)| {
            let columns = (0..kernel).filter_map(move |kx| Some((kx, on_grid(x, kx, width)?)));
            columns.map(move |(kx, column)| Self {
                tap: ky * kernel + kx,
                token: row * width + column,
            })
        })
    }
}

/// One token's output of some channels; `halves` are the first channels of the values and of the
/// gates, of `both` channels altogether.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn gated(
    out: &mut [f32],
    x: &[f32],
    taps: &[f32],
    bias: &[f32],
    both: usize,
    halves: [usize; 2],
    reads: &[Read],
) {
    let whole = out.len() / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        let [value, gate] = halves;
        let value: [f32; LANES] = convolved(x, taps, bias, both, value + first, reads);
        let gate: [f32; LANES] = convolved(x, taps, bias, both, gate + first, reads);
        for ((out, value), gate) in out[first..].iter_mut().zip(value).zip(gate) {
            *out = value * gate * sigmoid(gate);
        }
    }
    for (channel, out) in out.iter_mut().enumerate().skip(whole) {
        let [[value], [gate]] =
            halves.map(|half| convolved::<1>(x, taps, bias, both, half + channel, reads));
        *out = value * gate * sigmoid(gate);
    }
}

/// The convolution of `N` channels from `start` on, of `both`: the loop's sums stay in registers.
#[inline(always)]
fn convolved<const N: usize>(
    x: &[f32],
    taps: &[f32],
    bias: &[f32],
    both: usize,
    start: usize,
    reads: &[Read],
) -> [f32; N] {
    let mut sums = *channels_at(bias, start);
    for read in reads {
        let w: &[f32; N] = channels_at(taps, read.tap * both + start);
        let x: &[f32; N] = channels_at(x, read.token * both + start);
        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
            *sum += w * x;
        }
    }
    sums
}

#[inline(always)]
fn channels_at<const N: usize>(values: &[f32], start: usize) -> &[f32; N] {
    values[start..]
        .first_chunk()
        .expect("a token has all channels")
}
