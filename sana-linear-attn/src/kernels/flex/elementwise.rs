use burn::backend::TensorMetadata;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{
    Primitive, contiguous, dims, tensor, unique_values, values,
};

/// Elements of one parallel task: small enough to stay in cache, large enough to be worth a task.
pub(super) const CHUNK: usize = 1 << 14;

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `exp` within two units in the last place over the range of f32, written so that the compiler
/// vectorises it: `2^n` by exponent bits times a polynomial on `[-ln 2 / 2, ln 2 / 2]`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these the result would leave the range of normal numbers.
    let x = x.clamp(-87.3, 88.3);
    // Adding 1.5 * 2^23 rounds to an integer, and leaves it in the low bits of the sum.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

fn map2(x: Primitive, y: Primitive, f: impl Fn(f32, f32) -> f32 + Sync) -> Primitive {
    let (x, y) = (contiguous(x), contiguous(y));
    let shape = x.shape();
    let mut out = vec![0.0; values(&x).len()];
    out.par_chunks_mut(CHUNK)
        .zip(values(&x).par_chunks(CHUNK))
        .zip(values(&y).par_chunks(CHUNK))
        .for_each(|((out, x), y)| {
            for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
                *out = f(x, y);
            }
        });
    reshaped(tensor(out, [shape.num_elements()]), shape)
}

fn reshaped(x: Primitive, shape: burn::tensor::Shape) -> Primitive {
    use burn::backend::{Flex, ops::FloatTensorOps};
    Flex::float_reshape(x, shape)
}

pub(super) fn silu(x: Primitive) -> Primitive {
    let x = contiguous(x);
    let shape = x.shape();
    let mut out = vec![0.0; values(&x).len()];
    out.par_chunks_mut(CHUNK)
        .zip(values(&x).par_chunks(CHUNK))
        .for_each(|(out, x)| {
            out.copy_from_slice(x);
            silu_in_place(out);
        });
    reshaped(tensor(out, [shape.num_elements()]), shape)
}

/// `x * sigmoid(x)` of every element.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn silu_in_place(x: &mut [f32]) {
    for x in x {
        *x *= sigmoid(*x);
    }
}

pub(super) fn silu_gradient(x: Primitive, grad: Primitive) -> Primitive {
    map2(x, grad, |x, grad| {
        let s = sigmoid(x);
        grad * (s + x * s * (1.0 - s))
    })
}

pub(super) fn silu_gate(x: Primitive) -> Primitive {
    let x = contiguous(x);
    let [batch, tokens, channels] = dims(&x);
    let half = channels / 2;
    let mut out = vec![0.0; batch * tokens * half];
    out.par_chunks_mut(half)
        .zip(values(&x).par_chunks(channels))
        .for_each(|(out, x)| {
            let (value, gate) = x.split_at(half);
            gate_row(out, value, gate);
        });
    tensor(out, [batch, tokens, half])
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn gate_row(out: &mut [f32], value: &[f32], gate: &[f32]) {
    for ((out, &value), &gate) in out.iter_mut().zip(value).zip(gate) {
        *out = value * gate * sigmoid(gate);
    }
}

/// `gelu(gate) * up`, by `tanh(z) = 2 sigmoid(2 z) - 1`.
pub(super) fn gelu_gate(gate: Primitive, up: Primitive) -> Primitive {
    let (gate, up) = (contiguous(gate), contiguous(up));
    let shape = gate.shape();
    let mut out = vec![0.0; values(&gate).len()];
    out.par_chunks_mut(CHUNK)
        .zip(values(&gate).par_chunks(CHUNK))
        .zip(values(&up).par_chunks(CHUNK))
        .for_each(|((out, gate), up)| gelu_gate_chunk(out, gate, up));
    reshaped(tensor(out, [shape.num_elements()]), shape)
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn gelu_gate_chunk(out: &mut [f32], gate: &[f32], up: &[f32]) {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
    for ((out, &x), &up) in out.iter_mut().zip(gate).zip(up) {
        let inner = (x * x * 0.044_715 + 1.0) * x * TWICE_SQRT_2_OVER_PI;
        *out = x * sigmoid(inner) * up;
    }
}

/// `x + y` of equal shapes, in the memory of one of them where nothing else needs it.
pub(super) fn add(x: Primitive, y: Primitive) -> Primitive {
    let (mut x, mut y) = (contiguous(x), contiguous(y));
    if let Some(target) = unique_values(&mut x) {
        add_to(target, values(&y));
        return x;
    }
    if let Some(target) = unique_values(&mut y) {
        add_to(target, values(&x));
        return y;
    }
    map2(x, y, |x, y| x + y)
}

fn add_to(target: &mut [f32], x: &[f32]) {
    target
        .par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(target, x)| {
            for (target, x) in target.iter_mut().zip(x) {
                *target += x;
            }
        });
}

pub(super) fn silu_gate_gradient(x: Primitive, grad: Primitive) -> Primitive {
    let (x, grad) = (contiguous(x), contiguous(grad));
    let [batch, tokens, channels] = dims(&x);
    let half = channels / 2;
    let mut out = vec![0.0; batch * tokens * channels];
    out.par_chunks_mut(channels)
        .zip(values(&x).par_chunks(channels))
        .zip(values(&grad).par_chunks(half))
        .for_each(|((out, x), grad)| {
            let (value, gate) = x.split_at(half);
            let (d_value, d_gate) = out.split_at_mut(half);
            for i in 0..half {
                let s = sigmoid(gate[i]);
                d_value[i] = grad[i] * gate[i] * s;
                d_gate[i] = grad[i] * value[i] * (s + gate[i] * s * (1.0 - s));
            }
        });
    tensor(out, [batch, tokens, channels])
}
