//! Softmax attention with a soft cap and a mask, without its map of scores in memory.

use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::cube::layout::{
    addresses, broadcast, cubes, empty, is_empty, rows, vector_width,
};

/// Queries of a cube.
const QUERIES: usize = 8;

/// Keys of a tile, and units of each query.
const KEYS: usize = 32;

/// Bytes of queries that a cube keeps in shared memory, of the 16 KiB that WebGPU guarantees.
const QUERY_BYTES: usize = 12 << 10;

/// Whether queries of heads of this size fit shared memory.
pub(crate) fn fits(head_dim: usize) -> bool {
    head_dim * QUERIES * size_of::<f32>() <= QUERY_BYTES
}

/// `softmax(cap tanh(scale q k^T / cap) + mask) v`, the softmax corrected as larger scores come.
///
/// `KEYS` units work on each query: on the scores of a tile of keys, one each, then on the sum of
/// the tile's values, each on its own channels.
///
/// # Shapes
/// - `query` `[batch, heads, tokens, head_dim]`
/// - `key`, `value` `[batch, key_heads, keys, head_dim]`
/// - `mask` `[batch, heads, tokens, keys]`, with steps of 0 where it is broadcast
/// - `out` `[batch, tokens, heads * head_dim]`, contiguous
#[cube(launch_unchecked, address_type = "dynamic")]
fn attend_tiles<F: Float, N: Size>(
    query: &Tensor<Vector<F, N>>,
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    mask: &Tensor<f32>,
    out: &mut Tensor<Vector<F, N>>,
    tiles: usize,
    count: usize,
    scale: f32,
    softcap: f32,
    #[comptime] head_dim: usize,
    #[comptime] width: usize,
    #[comptime] queries: usize,
    #[comptime] lanes: usize,
    #[define(F)] _dtype: ElemType,
) {
    if CUBE_POS >= count {
        terminate!();
    }
    let vectors = comptime![head_dim / width];
    // Vectors of the result that a unit sums.
    let owned = comptime![(head_dim / width).div_ceil(lanes)];
    let (heads, tokens) = (query.shape(1), query.shape(2));
    let keys = key.shape(2);
    let head_index = CUBE_POS / tiles;
    let head = head_index % heads;
    let batch = head_index / heads;
    let key_head = head / (heads / key.shape(1));
    let unit = UNIT_POS as usize;
    let lane = unit % lanes;
    let place = unit / lanes;
    let token = CUBE_POS % tiles * queries + place;
    let inside = token < tokens;
    // Units beyond the last query work on it again, so that all meet, and write nothing.
    let token = min(token, tokens - 1);

    let mut rows = Shared::<[Vector<f32, N>]>::new_slice(comptime![queries * vectors]);
    let mut scores = Shared::<[f32]>::new_slice(comptime![queries * lanes]);
    let mut weights = Shared::<[f32]>::new_slice(comptime![queries * lanes]);

    let query_start = batch * query.stride(0) + head * query.stride(1) + token * query.stride(2);
    let mut i = lane;
    while i < vectors {
        rows[place * vectors + i] = Vector::cast_from(query[query_start / width + i]);
        i += lanes;
    }
    let key_start = batch * key.stride(0) + key_head * key.stride(1);
    let value_start = batch * value.stride(0) + key_head * value.stride(1);
    let mask_start = batch * mask.stride(0) + head * mask.stride(1) + token * mask.stride(2);

    let mut sums = Array::<Vector<f32, N>>::new(owned);
    #[unroll]
    for j in 0..owned {
        sums[j] = Vector::new(0.0f32);
    }
    // Not infinite: the difference of two would be NaN.
    let mut largest = f32::min_value();
    let mut total = 0.0f32;
    sync_cube();

    let mut first = 0usize.runtime();
    while first < keys {
        let at = first + lane;
        let mut score = f32::min_value();
        if at < keys {
            let start = (key_start + at * key.stride(2)) / width;
            let mut products = Vector::<f32, N>::new(0.0f32);
            for i in 0..vectors {
                products += rows[place * vectors + i] * Vector::cast_from(key[start + i]);
            }
            let mut product = products.extract(0usize);
            #[unroll]
            for i in 1..width {
                product += products.extract(i);
            }
            let capped = (product * scale / softcap).tanh() * softcap;
            score = capped + mask[mask_start + at * mask.stride(3)];
        }
        scores[unit] = score;
        sync_cube();

        let mut above = largest;
        for i in 0..lanes {
            above = max(above, scores[place * lanes + i]);
        }
        let mut weight = 0.0f32;
        if at < keys {
            weight = (score - above).exp();
        }
        weights[unit] = weight;
        sync_cube();

        let correction = (largest - above).exp();
        largest = above;
        total *= correction;
        #[unroll]
        for j in 0..owned {
            sums[j] *= Vector::new(correction);
        }
        let tile = min(keys - first, lanes);
        for i in 0..tile {
            let weight = weights[place * lanes + i];
            total += weight;
            let start = (value_start + (first + i) * value.stride(2)) / width;
            #[unroll]
            for j in 0..owned {
                let vector = j * lanes + lane;
                if vector < vectors {
                    sums[j] += Vector::new(weight) * Vector::cast_from(value[start + vector]);
                }
            }
        }
        first += lanes;
    }

    if inside {
        let start = ((batch * tokens + token) * heads + head) * vectors;
        #[unroll]
        for j in 0..owned {
            let vector = j * lanes + lane;
            if vector < vectors {
                out[start + vector] = Vector::cast_from(sums[j] / Vector::new(total));
            }
        }
    }
}

/// See [`softmax_attention`](crate::kernels::softmax_attention).
pub(crate) fn attend(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    mask: CubeTensor,
    scale: f64,
    softcap: f64,
) -> CubeTensor {
    let [batch, heads, tokens, head_dim] = query.shape().dims();
    let width = vector_width(head_dim);
    let out = empty(
        &query,
        Shape::from([batch, tokens, heads * head_dim]),
        query.dtype,
    );
    if is_empty(&out) {
        return out;
    }
    let [query, key, value] = [query, key, value].map(|x| rows(x, width));
    let mask = broadcast(rows(mask, 1));
    let tiles = tokens.div_ceil(QUERIES);
    let count = batch * heads * tiles;
    let dtype = burn::backend::cubecl::dtype_to_storage_type(query.dtype);
    // SAFETY: with the shapes that `supports` has checked, queries are clamped to the last token and
    // written below it, keys, values and mask are read below the number of keys and within a head;
    // the mask has steps of 0 where it is broadcast.
    unsafe {
        attend_tiles::launch_unchecked(
            &query.client.clone(),
            cubes(count),
            CubeDim::new_1d((QUERIES * KEYS) as u32),
            addresses(&[&query, &key, &value, &mask, &out]),
            width,
            query.into_tensor_arg(),
            key.into_tensor_arg(),
            value.into_tensor_arg(),
            mask.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            tiles,
            count,
            scale as f32,
            softcap as f32,
            head_dim,
            width,
            QUERIES,
            KEYS,
            dtype,
        );
    }
    out
}
