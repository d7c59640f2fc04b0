//! A grouped 1x1 convolution on tokens: a small GEMM for each group, read out of the rows and
//! written into them.

use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::gemm::{Strides, gemm};

/// Tokens of one task.
const TOKENS: usize = 128;

/// Channels `g * size..(g + 1) * size` of the result are those of `x` times the group's weight,
/// transposed.
///
/// # Shapes
/// - `x` and result `[batch, tokens, channels]`, `weight` `[channels, size]`
pub(crate) fn forward(x: Primitive, weight: Primitive) -> Primitive {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let shape: [usize; 3] = dims(&x);
    let [_, tokens, channels] = shape;
    let [_, size] = dims(&weight);
    let (x, weight) = (values(&x), values(&weight));
    let mut out = vec![0f32; x.len()];
    // Tasks end with their item, so that an image is the same alone and in a batch.
    let item = (tokens * channels).max(1);
    let mut parts: Vec<(&mut [f32], &[f32])> = out
        .chunks_mut(item)
        .zip(x.chunks(item))
        .flat_map(|(out, x)| {
            let task = (TOKENS * channels).max(1);
            out.chunks_mut(task).zip(x.chunks(task))
        })
        .collect();
    parts.par_iter_mut().for_each(|(out, x)| {
        for (group, weight) in weight.chunks_exact(size * size).enumerate() {
            let first = group * size;
            gemm(
                [x.len() / channels, size, size],
                &mut out[first..],
                Strides::rows(channels),
                false,
                &x[first..],
                Strides::rows(channels),
                weight,
                Strides::columns(size),
            );
        }
    });
    tensor(out, shape)
}
