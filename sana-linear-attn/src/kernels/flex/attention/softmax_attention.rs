//! Softmax attention a few queries at a time: their scores stay in cache, and no head is ever
//! copied out of its rows.

use burn::backend::TensorMetadata;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::kernels::flex::backend::primitive::{Primitive, contiguous, dims, tensor, values};
use crate::kernels::flex::elementwise::{exp, sigmoid};
use crate::kernels::flex::gemm::{Strides, gemm};

/// Scalars of the attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scores {
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// `cap tanh(score / cap)`, where there is a cap.
    pub softcap: Option<f32>,
}

/// A tensor `[batch, heads, rows, columns]` of any strides.
struct Heads<'a> {
    values: &'a [f32],
    start: usize,
    strides: [usize; 4],
}

impl<'a> Heads<'a> {
    /// The view, or `None` where a stride is negative (a flipped tensor).
    fn new(x: &'a Primitive) -> Option<Self> {
        let mut strides = [0; 4];
        for (stride, &of_tensor) in strides.iter_mut().zip(x.layout().strides()) {
            *stride = usize::try_from(of_tensor).ok()?;
        }
        Some(Self {
            values: x.storage::<f32>(),
            start: x.layout().start_offset(),
            strides,
        })
    }

    /// Rows of one head from `row` on, and their strides.
    fn rows(&self, item: usize, head: usize, row: usize) -> (&'a [f32], Strides) {
        let [of_item, of_head, of_row, of_column] = self.strides;
        let start = self.start + item * of_item + head * of_head + row * of_row;
        let strides = Strides {
            row: of_row,
            column: of_column,
        };
        (&self.values[start..], strides)
    }
}

/// `softmax(cap(scale q k^T) + mask) v`; query heads that share a key head are neighbours.
///
/// # Shapes
/// - `query` `[batch, heads, tokens, head_dim]`
/// - `key`, `value` `[batch, key_heads, keys, head_dim]`
/// - `mask` `[batch, 1, tokens or 1, keys]`
/// - result `[batch, tokens, heads * head_dim]`
pub(crate) fn forward(
    query: Primitive,
    key: Primitive,
    value: Primitive,
    mask: Option<Primitive>,
    scores: Scores,
) -> Primitive {
    let [batch, heads, tokens, head_dim] = dims(&query);
    let [_, key_heads, keys, _] = dims(&key);
    let [query, key, value] = [query, key, value].map(|x| match Heads::new(&x) {
        Some(_) => x,
        None => contiguous(x),
    });
    let mask = mask.map(contiguous);
    let mask_rows = mask.as_ref().map_or(1, |mask| mask.shape()[2]);
    let mask = mask.as_ref().map(values);
    let view = |x| Heads::new(x).expect("contiguous tensors have no negative strides");
    let (query, key, value) = (view(&query), view(&key), view(&value));

    let channels = heads * head_dim;
    let mut out = vec![0f32; batch * tokens * channels];
    // Eight tasks of an item at least, but products of a useful height. Neither batch nor threads
    // decide: an item is the same alone and in a batch.
    let height = tokens.div_ceil(8).clamp(16, 128);
    let chunks = tokens.div_ceil(height);
    let mut parts: Vec<(usize, &mut [f32])> = out
        .chunks_mut((tokens * channels).max(1))
        .flat_map(|item| item.chunks_mut(height * channels))
        .enumerate()
        .collect();
    parts
        .par_iter_mut()
        .for_each_init(Vec::new, |map, (index, out)| {
            let (item, first) = (*index / chunks, *index % chunks * height);
            let count = out.len() / channels;
            for head in 0..heads {
                let key_head = head * key_heads / heads;
                let (query, query_strides) = query.rows(item, head, first);
                let (key, key_strides) = key.rows(item, key_head, 0);
                let (value, value_strides) = value.rows(item, key_head, 0);
                map.clear();
                map.resize(count * keys, 0.0);
                gemm(
                    [count, keys, head_dim],
                    map,
                    Strides::rows(keys),
                    false,
                    query,
                    query_strides,
                    key,
                    Strides {
                        row: key_strides.column,
                        column: key_strides.row,
                    },
                );
                for (row, line) in map.chunks_exact_mut(keys).enumerate() {
                    let mask = mask.map(|mask| {
                        let row = item * mask_rows + (first + row).min(mask_rows - 1);
                        &mask[row * keys..][..keys]
                    });
                    softmax_row(line, mask.unwrap_or(&[]), scores);
                }
                gemm(
                    [count, head_dim, keys],
                    &mut out[head * head_dim..],
                    Strides::rows(channels),
                    false,
                    map,
                    Strides::rows(keys),
                    value,
                    value_strides,
                );
            }
        });
    tensor(out, [batch, tokens, channels])
}

/// Softmax of a row of products after scale, cap and mask; an empty mask hides nothing.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx2+fma", "x86_64+avx2+fma"))]
fn softmax_row(row: &mut [f32], mask: &[f32], scores: Scores) {
    match scores.softcap {
        // tanh(z) = 2 sigmoid(2 z) - 1
        Some(cap) => {
            let factor = 2.0 * scores.scale / cap;
            for x in row.iter_mut() {
                *x = cap * (2.0 * sigmoid(*x * factor) - 1.0);
            }
        }
        None => {
            for x in row.iter_mut() {
                *x *= scores.scale;
            }
        }
    }
    for (x, mask) in row.iter_mut().zip(mask) {
        *x += mask;
    }
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = lane.max(*x);
        }
    }
    let largest = lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let mut lanes = [0f32; 16];
    let (chunks, rest) = row.as_chunks_mut::<16>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - largest);
            *lane += *x;
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for x in rest {
        *x = exp(*x - largest);
        sum += *x;
    }
    let reciprocal = 1.0 / sum;
    for x in row {
        *x *= reciprocal;
    }
}
