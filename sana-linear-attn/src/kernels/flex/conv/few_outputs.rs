//! 3x3 convolution to a few channels: the last layer of DC-AE's decoder. Rows are read where they
//! stand, each for all outputs; there is no matrix of shifted copies.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};

/// The convolution with padding 1, stride 1 and bias.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`, `weight` `[out, in, 3, 3]`, `bias` `[out]`
/// - result `[batch, out, height, width]`
pub(in crate::kernels::flex) fn forward(
    x: Primitive,
    weight: Primitive,
    bias: Option<Primitive>,
) -> Primitive {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let [batch, input, height, width] = dims(&x);
    let [output, _, _, _] = dims(&weight);
    let bias = bias.map(contiguous);
    let bias = bias.as_ref().map(values);
    let (image, plane) = (input * height * width, height * width);
    let (x, weight) = (values(&x), values(&weight));
    // Rows of all outputs together, so that a row of the input is read for all of them at once.
    let mut rows = vec![0f32; batch * height * output * width];
    rows.par_chunks_mut((output * width).max(1))
        .enumerate()
        .for_each(|(row, out)| {
            let (item, y) = (row / height, row % height);
            let x = &x[item * image..][..image];
            for (o, out) in out.chunks_exact_mut(width).enumerate() {
                out.fill(bias.map_or(0.0, |bias| bias[o]));
            }
            for channel in 0..input {
                for ky in 0..3 {
                    let Some(source) = (y + ky).checked_sub(1).filter(|&y| y < height) else {
                        continue;
                    };
                    let source = &x[channel * plane + source * width..][..width];
                    for (o, out) in out.chunks_exact_mut(width).enumerate() {
                        let taps = &weight[((o * input + channel) * 3 + ky) * 3..][..3];
                        add_row(out, source, [taps[0], taps[1], taps[2]]);
                    }
                }
            }
        });
    let mut out = vec![0f32; rows.len()];
    out.par_chunks_mut(width.max(1))
        .enumerate()
        .for_each(|(row, out)| {
            let (item, o, y) = (row / height / output, row / height % output, row % height);
            let start = ((item * height + y) * output + o) * width;
            out.copy_from_slice(&rows[start..start + width]);
        });
    tensor(out, [batch, output, height, width])
}

/// `out[x] += t[0] source[x - 1] + t[1] source[x] + t[2] source[x + 1]`, zeros beyond the row.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn add_row(out: &mut [f32], source: &[f32], taps: [f32; 3]) {
    let width = out.len();
    let [left, middle, right] = taps;
    if width < 2 {
        for (out, source) in out.iter_mut().zip(source) {
            *out += middle * source;
        }
        return;
    }
    out[0] += middle * source[0] + right * source[1];
    let inner = out[1..width - 1].iter_mut();
    let around = source.iter().zip(&source[1..]).zip(&source[2..]);
    for (out, ((before, here), after)) in inner.zip(around) {
        *out += left * before + middle * here + right * after;
    }
    out[width - 1] += left * source[width - 2] + middle * source[width - 1];
}
