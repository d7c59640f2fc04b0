//! ReLU linear attention without transposes: each head reads its channels out of the rows of the
//! projections and writes them into the rows of the result.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::attention::ATTENTION_EPS;
use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::gemm::prefetch::prefetch;
use crate::kernels::flex::gemm::{Strides, gemm};

/// Tokens that are copied, rectified and multiplied at a time: a head of 32 channels then needs
/// 32 KB each of keys and values.
const TOKENS: usize = 256;
/// Tokens between the one that is copied and the one that memory is asked for: a head's channels are
/// a piece of every row.
const AHEAD: usize = 32;

/// Queries, keys or values of all heads, in the rows of a tensor `[batch, tokens, width]`.
#[derive(Clone, Copy)]
struct Source<'a> {
    rows: &'a [f32],
    width: usize,
    /// First channel of the first head.
    offset: usize,
    /// Channels from one head to the next.
    step: usize,
}

impl<'a> Source<'a> {
    /// Rows of some tokens of an item, cut off so that they begin with the head's channels.
    fn head(&self, first_token: usize, tokens: usize, head: usize) -> Head<'a> {
        let rows = &self.rows[first_token * self.width..][..tokens * self.width];
        Head {
            rows,
            width: self.width,
            offset: self.offset + head * self.step,
        }
    }
}

/// One head of some tokens.
#[derive(Clone, Copy)]
struct Head<'a> {
    rows: &'a [f32],
    width: usize,
    offset: usize,
}

/// Attention of separate projections.
///
/// # Shapes
/// - `query`, `key`, `value` and result `[batch, tokens, channels]`
pub(crate) fn separate(
    query: Primitive,
    key: Primitive,
    value: Primitive,
    head_dim: usize,
) -> Primitive {
    let (query, key, value) = (contiguous(query), contiguous(key), contiguous(value));
    let shape: [usize; 3] = dims(&query);
    let [_, _, channels] = shape;
    let source = |rows| Source {
        rows,
        width: channels,
        offset: 0,
        step: head_dim,
    };
    let sources = [&query, &key, &value].map(|x| source(values(x)));
    attend(sources, shape, head_dim)
}

/// Attention with query, key and value of each head side by side, as DC-AE cuts its channels.
///
/// # Shapes
/// - `qkv` `[batch, tokens, heads * 3 * head_dim]`
/// - result `[batch, tokens, heads * head_dim]`
pub(crate) fn packed(qkv: Primitive, head_dim: usize) -> Primitive {
    let qkv = contiguous(qkv);
    let [batch, tokens, width] = dims(&qkv);
    let sources = [0, 1, 2].map(|part| Source {
        rows: values(&qkv),
        width,
        offset: part * head_dim,
        step: 3 * head_dim,
    });
    attend(sources, [batch, tokens, width / 3], head_dim)
}

/// Two passes, so that the second writes whole rows: the sums of every head, then the tokens.
fn attend(
    [query, key, value]: [Source; 3],
    [batch, tokens, channels]: [usize; 3],
    head_dim: usize,
) -> Primitive {
    let heads = channels / head_dim;
    let tasks: Vec<(usize, usize)> = (0..batch)
        .flat_map(|item| (0..heads).map(move |head| (item, head)))
        .collect();
    let sums: Vec<Sums> = tasks
        .par_iter()
        .map_init(Vec::new, |keys, &(item, head)| {
            let mut sums = Sums::new(head_dim);
            for first in (0..tokens).step_by(TOKENS) {
                let count = TOKENS.min(tokens - first);
                let first = item * tokens + first;
                let [key, value] = [key, value].map(|source| source.head(first, count, head));
                sums.add(key, value, keys);
            }
            sums
        })
        .collect();

    let mut out = vec![0f32; batch * tokens * channels];
    let chunks = tokens.div_ceil(TOKENS);
    let mut parts: Vec<(usize, &mut [f32])> = out
        .chunks_mut((tokens * channels).max(1))
        .flat_map(|item| item.chunks_mut(TOKENS * channels))
        .enumerate()
        .collect();
    parts.par_iter_mut().for_each_init(
        || (Vec::new(), Vec::new()),
        |(queries, products), (index, out)| {
            let (item, first) = (*index / chunks, *index % chunks * TOKENS);
            let count = out.len() / channels;
            for head in 0..heads {
                let query = query.head(item * tokens + first, count, head);
                rectified(query, head_dim, queries);
                products.clear();
                products.resize(count * head_dim, 0.0);
                let sums = &sums[item * heads + head];
                gemm(
                    [count, head_dim, head_dim],
                    products,
                    Strides::rows(head_dim),
                    false,
                    queries,
                    Strides::rows(head_dim),
                    &sums.key_value,
                    Strides::rows(head_dim),
                );
                let target = Target {
                    width: channels,
                    offset: head * head_dim,
                };
                normalise(out, target, products, queries, &sums.key);
            }
        },
    );
    tensor(out, [batch, tokens, channels])
}

/// What a head keeps of all tokens.
struct Sums {
    /// `sum_j relu(k_j)^T v_j`, `[head_dim, head_dim]`.
    key_value: Vec<f32>,
    /// `sum_j relu(k_j)`, `[head_dim]`.
    key: Vec<f32>,
}

impl Sums {
    fn new(head_dim: usize) -> Self {
        Self {
            key_value: vec![0.0; head_dim * head_dim],
            key: vec![0.0; head_dim],
        }
    }

    fn add(&mut self, key: Head, value: Head, keys: &mut Vec<f32>) {
        let head_dim = self.key.len();
        for row in value.rows.chunks_exact(value.width) {
            prefetch(&row[value.offset..value.offset + head_dim]);
        }
        rectified(key, head_dim, keys);
        add_rows(&mut self.key, keys);
        gemm(
            [head_dim, head_dim, value.rows.len() / value.width],
            &mut self.key_value,
            Strides::rows(head_dim),
            true,
            keys,
            Strides::columns(head_dim),
            &value.rows[value.offset..],
            Strides::rows(value.width),
        );
    }
}

/// The channels of the result's rows that a head writes.
#[derive(Clone, Copy)]
struct Target {
    width: usize,
    offset: usize,
}

/// Copies `relu` of a head out of the rows.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn rectified(head: Head, head_dim: usize, out: &mut Vec<f32>) {
    out.clear();
    for (index, row) in head.rows.chunks_exact(head.width).enumerate() {
        let ahead = (index + AHEAD) * head.width + head.offset;
        if let Some(channels) = head.rows.get(ahead..ahead + head_dim) {
            prefetch(channels);
        }
        let channels = &row[head.offset..head.offset + head_dim];
        // A NaN stays one, where a maximum would hide it.
        out.extend(channels.iter().map(|&x| if x < 0.0 { 0.0 } else { x }));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn add_rows(sums: &mut [f32], rows: &[f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

/// Divides each row of `products` by the token's denominator, into the rows of the result.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn normalise(out: &mut [f32], target: Target, products: &[f32], queries: &[f32], key_sum: &[f32]) {
    let head_dim = key_sum.len();
    let rows = out
        .chunks_exact_mut(target.width)
        .zip(products.chunks_exact(head_dim))
        .zip(queries.chunks_exact(head_dim));
    for ((out, product), query) in rows {
        let mut lanes = [0f32; 16];
        let (q, q_rest) = query.as_chunks::<16>();
        let (k, k_rest) = key_sum.as_chunks::<16>();
        for (q, k) in q.iter().zip(k) {
            for ((lane, q), k) in lanes.iter_mut().zip(q).zip(k) {
                *lane += q * k;
            }
        }
        let rest: f32 = q_rest.iter().zip(k_rest).map(|(q, k)| q * k).sum();
        let denominator = lanes.iter().sum::<f32>() + rest;
        let reciprocal = 1.0 / (denominator + ATTENTION_EPS as f32);
        let out = &mut out[target.offset..target.offset + head_dim];
        for (out, product) in out.iter_mut().zip(product) {
            *out = product * reciprocal;
        }
    }
}
