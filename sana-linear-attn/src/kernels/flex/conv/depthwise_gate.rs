//! The middle of GLUMBConv in one pass: depthwise convolution with bias, then the gate, so that the
//! convolved halves never reach memory.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::elementwise::sigmoid;

/// Channels handled at once: the rows that an output row reads then stay in cache.
const CHANNELS: usize = 256;
/// Elements of a vector register's worth of sums.
const LANES: usize = 16;

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
    let length = out.len();
    for first in (0..length).step_by(LANES) {
        let lanes = LANES.min(length - first);
        let [value, gate] = halves.map(|half| {
            let start = half + first;
            let mut sums = [0f32; LANES];
            sums[..lanes].copy_from_slice(&bias[start..start + lanes]);
            for read in reads {
                let w = &taps[read.tap * both + start..][..lanes];
                let x = &x[read.token * both + start..][..lanes];
                match (w.first_chunk::<LANES>(), x.first_chunk::<LANES>()) {
                    (Some(w), Some(x)) => {
                        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
                            *sum += w * x;
                        }
                    }
                    _ => {
                        for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
                            *sum += w * x;
                        }
                    }
                }
            }
            sums
        });
        let mut gated = [0f32; LANES];
        for ((gated, value), gate) in gated.iter_mut().zip(value).zip(gate) {
            *gated = value * gate * sigmoid(gate);
        }
        out[first..first + lanes].copy_from_slice(&gated[..lanes]);
    }
}
