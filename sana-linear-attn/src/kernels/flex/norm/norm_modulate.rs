//! The norms and sums around a block's layers, each one pass over the tokens.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{
    Primitive, contiguous, dims, tensor, unique_values, values,
};

/// Elements of one parallel task.
const CHUNK: usize = 1 << 15;

/// `(x - mean) / sqrt(var + eps) * (1 + scale) + shift`, mean and variance over channels.
///
/// # Shapes
/// - `x` and result `[batch, tokens, channels]`
/// - `scale`, `shift` `[batch, 1, channels]`
pub(crate) fn norm_modulate(
    x: Primitive,
    scale: Primitive,
    shift: Primitive,
    eps: f64,
) -> Primitive {
    let (x, scale, shift) = (contiguous(x), contiguous(scale), contiguous(shift));
    let shape: [usize; 3] = dims(&x);
    let [_, tokens, channels] = shape;
    let mut out = vec![0f32; values(&x).len()];
    let (scale, shift, x) = (values(&scale), values(&shift), values(&x));
    let many = CHUNK.div_ceil(channels.max(1));
    out.par_chunks_mut(many * channels)
        .zip(x.par_chunks(many * channels))
        .enumerate()
        .for_each(|(task, (out, x))| {
            let rows = out.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
            for (row, (out, x)) in rows.enumerate() {
                let batch = (task * many + row) / tokens;
                let modulation = batch * channels..(batch + 1) * channels;
                let (scale, shift) = (&scale[modulation.clone()], &shift[modulation]);
                norm_modulate_row(out, x, scale, shift, eps as f32);
            }
        });
    tensor(out, shape)
}

/// Mean first, then the mean of squared distances from it: two passes over a row that is in cache,
/// without the cancellation of a difference of squares.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn norm_modulate_row(out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32], eps: f32) {
    let count = x.len() as f32;
    let mut lanes = [0f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    let mean = (lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()) / count;
    let mut lanes = [0f32; 16];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += (x - mean) * (x - mean);
        }
    }
    let tail: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
    let variance = (lanes.iter().sum::<f32>() + tail) / count;
    let reciprocal = 1.0 / (variance + eps).sqrt();
    for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
        *out = (x - mean) * reciprocal * (1.0 + scale) + shift;
    }
}

/// `x + gate * y`, in the memory of `y` where nothing else needs it.
///
/// # Shapes
/// - `x`, `y` and result `[batch, tokens, channels]`
/// - `gate` `[batch, 1, channels]`
pub(crate) fn gated_residual(x: Primitive, gate: Primitive, y: Primitive) -> Primitive {
    let (x, gate, mut y) = (contiguous(x), contiguous(gate), contiguous(y));
    let shape: [usize; 3] = dims(&x);
    let [_, tokens, channels] = shape;
    let (x, gate) = (values(&x), values(&gate));
    let many = CHUNK.div_ceil(channels.max(1));
    let add = |y: &mut [f32]| {
        y.par_chunks_mut(many * channels)
            .zip(x.par_chunks(many * channels))
            .enumerate()
            .for_each(|(task, (y, x))| {
                let rows = y.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
                for (row, (y, x)) in rows.enumerate() {
                    let batch = (task * many + row) / tokens;
                    let gate = &gate[batch * channels..(batch + 1) * channels];
                    gated_residual_row(y, x, gate);
                }
            });
    };
    if let Some(values) = unique_values(&mut y) {
        add(values);
        return y;
    }
    let mut out = values(&y).to_vec();
    add(&mut out);
    tensor(out, shape)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn gated_residual_row(y: &mut [f32], x: &[f32], gate: &[f32]) {
    for ((y, x), gate) in y.iter_mut().zip(x).zip(gate) {
        *y = x + gate * *y;
    }
}
