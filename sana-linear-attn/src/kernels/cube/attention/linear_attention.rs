//! ReLU linear attention in two passes over the tokens.
//!
//! First the sums over keys and values of each head, over chunks of tokens, so that a large image
//! gives every multiprocessor something to do; the chunks are then added in a fixed order. Then each
//! token's query against the sums. Heads are read where they stand in the rows of tokens.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use crate::kernels::attention::ATTENTION_EPS;
use crate::kernels::cube::layout::{UNITS, addresses, cubes, empty, is_empty, rows, vector_width};

/// Cubes to cut the heads of one image into for the first pass: a few for every multiprocessor of
/// a large GPU. The batch does not enter: an image is the same alone and in a batch.
const CUBES: usize = 1024;

/// Least tokens of such a cube. With fewer the sums that it writes come near what it has read.
const CHUNK: usize = 128;

/// Tokens per unit in the second pass: each part of the sums is read once for them all.
const QUERIES: usize = 4;

/// Elements of a tile of keys in shared memory, 4 KiB, and as many of values.
const TILE: usize = 1024;

/// Shared memory that every device has, in bytes.
const SHARED: usize = 16 << 10;

/// Whether heads of this size fit the kernels: the sums of a head are cut into squares of the
/// vector width, one for each unit at most, and all of them are in shared memory. That is 60
/// channels, or 15 that four does not divide.
pub(crate) fn fits(head_dim: usize) -> bool {
    let vectors = head_dim / vector_width(head_dim);
    vectors * vectors <= UNITS && (head_dim + 1) * head_dim * size_of::<f32>() <= SHARED
}

/// Sums of `relu(k)^T v` and, in a last row, of `relu(k)`, over a chunk of tokens.
///
/// A unit owns `width` rows of one column of vectors.
///
/// # Shapes
/// - `key`, `value` `[batch, tokens, channels]`
/// - `sums` `[batch * heads, chunks, head_dim + 1, head_dim]`
#[cube(launch_unchecked, address_type = "dynamic")]
fn key_value_sums<F: Float, N: Size>(
    key: &Tensor<Vector<F, N>>,
    value: &Tensor<Vector<F, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    heads: usize,
    chunks: usize,
    chunk: usize,
    count: usize,
    #[comptime] head_dim: usize,
    #[comptime] width: usize,
    #[comptime] packed: bool,
    #[comptime] tile: usize,
    #[define(F)] _dtype: ElemType,
) {
    if CUBE_POS >= count {
        terminate!();
    }
    let vectors = comptime![head_dim / width];
    let head_index = CUBE_POS / chunks;
    let batch = head_index / heads;
    let head = head_index % heads;
    let key_start = batch * key.stride(0) + head_start(head, head_dim, packed, 1usize);
    let value_start = batch * value.stride(0) + head_start(head, head_dim, packed, 2usize);
    let (key_step, value_step) = (key.stride(1), value.stride(1));

    let mut keys = Shared::<[Vector<f32, N>]>::new_slice(comptime![tile * vectors]);
    let mut values = Shared::<[Vector<f32, N>]>::new_slice(comptime![tile * vectors]);

    let unit = UNIT_POS as usize;
    let units = CUBE_DIM as usize;
    let owns = unit < comptime![vectors * vectors];
    let row = unit / vectors;
    let column = unit % vectors;
    let mut products = Array::<Vector<f32, N>>::new(width);
    #[unroll]
    for i in 0..width {
        products[i] = Vector::new(0.0f32);
    }
    let mut key_sum = Vector::<f32, N>::new(0.0f32);

    let mut start = CUBE_POS % chunks * chunk;
    let end = min(start + chunk, key.shape(1));
    while start < end {
        let mut i = unit;
        while i < comptime![tile * vectors] {
            let token = start + i / vectors;
            let channel = i % vectors * width;
            if token < end {
                let k = key[(key_start + token * key_step + channel) / width];
                let v = value[(value_start + token * value_step + channel) / width];
                keys[i] = rectified::<N>(Vector::cast_from(k));
                values[i] = Vector::<f32, N>::cast_from(v);
            } else {
                keys[i] = Vector::new(0.0f32);
                values[i] = Vector::new(0.0f32);
            }
            i += units;
        }
        sync_cube();
        if owns {
            for token in 0..tile {
                let k = keys[token * vectors + row];
                let v = values[token * vectors + column];
                key_sum += k;
                #[unroll]
                for i in 0..width {
                    products[i] += Vector::new(k.extract(i)) * v;
                }
            }
        }
        sync_cube();
        start += tile;
    }

    if owns {
        let out = CUBE_POS * comptime![(head_dim + 1) * vectors];
        #[unroll]
        for i in 0..width {
            sums[out + (row * width + i) * vectors + column] = products[i];
        }
        if column == 0 {
            sums[out + comptime![head_dim * vectors] + row] = key_sum;
        }
    }
}

/// Where a head's query (part 0), key (1) or value (2) begins in a token's row: heads of one kind
/// side by side, or, packed, the three of each head.
#[cube]
fn head_start(
    head: usize,
    #[comptime] head_dim: usize,
    #[comptime] packed: bool,
    #[comptime] part: usize,
) -> usize {
    if packed {
        head * comptime![3 * head_dim] + comptime![part * head_dim]
    } else {
        head * head_dim
    }
}

/// `relu`. A NaN stays one, where a maximum would hide it.
#[cube]
fn rectified<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let zero = Vector::new(0.0f32);
    select_many(x.less_than(&zero), zero, x)
}

/// Adds the chunks of each head, the first first.
///
/// # Shapes
/// - `parts` `[heads, chunks, size]`, `sums` `[heads, size]`
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_chunks<N: Size>(
    parts: &Tensor<Vector<f32, N>>,
    sums: &mut Tensor<Vector<f32, N>>,
    chunks: usize,
    #[comptime] size: usize,
) {
    let i = CUBE_POS * CUBE_DIM as usize + UNIT_POS as usize;
    if i >= sums.len() {
        terminate!();
    }
    let first = i / size * size * chunks + i % size;
    let mut sum = parts[first];
    for chunk in 1..chunks {
        sum += parts[first + chunk * size];
    }
    sums[i] = sum;
}

/// `relu(q) S / (relu(q) . s + eps)` with the sums `S` and `s` of `key_value_sums`.
///
/// A unit owns one vector of the head's output for `queries` tokens.
///
/// # Shapes
/// - `query` `[batch, tokens, channels]`
/// - `sums` `[batch * heads, 1, head_dim + 1, head_dim]`
/// - `out` `[batch, tokens, heads * head_dim]`, contiguous
#[cube(launch_unchecked, address_type = "dynamic")]
fn query_products<F: Float, N: Size>(
    query: &Tensor<Vector<F, N>>,
    sums: &Tensor<Vector<f32, N>>,
    out: &mut Tensor<Vector<F, N>>,
    heads: usize,
    tiles: usize,
    count: usize,
    eps: f32,
    #[comptime] head_dim: usize,
    #[comptime] width: usize,
    #[comptime] packed: bool,
    #[comptime] queries: usize,
    #[comptime] at_once: usize,
    #[define(F)] _dtype: ElemType,
) {
    if CUBE_POS >= count {
        terminate!();
    }
    let vectors = comptime![head_dim / width];
    let size = comptime![(head_dim + 1) * vectors];
    let head_index = CUBE_POS / tiles;
    let batch = head_index / heads;
    let head = head_index % heads;
    let unit = UNIT_POS as usize;

    let mut state = Shared::<[Vector<f32, N>]>::new_slice(size);
    let mut i = unit;
    while i < size {
        state[i] = sums[head_index * size + i];
        i += CUBE_DIM as usize;
    }
    sync_cube();

    let tokens = query.shape(1);
    let column = unit % vectors;
    let first = CUBE_POS % tiles * comptime![at_once * queries] + unit / vectors;
    let start = batch * query.stride(0) + head_start(head, head_dim, packed, 0usize);

    let mut rows = Array::<usize>::new(queries);
    let mut products = Array::<Vector<f32, N>>::new(queries);
    let mut weights = Array::<f32>::new(queries);
    #[unroll]
    for m in 0..queries {
        // Beyond the last token its row is read again, and nothing written.
        let token = min(first + m * at_once, tokens - 1);
        rows[m] = start + token * query.stride(1);
        products[m] = Vector::new(0.0f32);
        weights[m] = 0.0f32;
    }
    for part in 0..vectors {
        let key_sum = state[comptime![head_dim * vectors] + part];
        let mut columns = Array::<Vector<f32, N>>::new(width);
        #[unroll]
        for i in 0..width {
            columns[i] = state[(part * width + i) * vectors + column];
        }
        #[unroll]
        for m in 0..queries {
            let q = query[(rows[m] + part * width) / width];
            let q = rectified::<N>(Vector::cast_from(q));
            #[unroll]
            for i in 0..width {
                products[m] += Vector::new(q.extract(i)) * columns[i];
                weights[m] += q.extract(i) * key_sum.extract(i);
            }
        }
    }
    #[unroll]
    for m in 0..queries {
        let token = first + m * at_once;
        if token < tokens {
            let y = products[m] / Vector::new(weights[m] + eps);
            out[((batch * tokens + token) * heads + head) * vectors + column] =
                Vector::cast_from(y);
        }
    }
}

/// See [`relu_linear_attention`](crate::kernels::relu_linear_attention).
pub(crate) fn attend(
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    head_dim: usize,
) -> CubeTensor {
    let channels = query.shape()[2];
    launch([query, key, value], channels / head_dim, head_dim, false)
}

/// See [`relu_linear_attention_packed`](crate::kernels::relu_linear_attention_packed).
pub(crate) fn attend_packed(qkv: CubeTensor, head_dim: usize) -> CubeTensor {
    let heads = qkv.shape()[2] / (3 * head_dim);
    let qkv = rows(qkv, vector_width(head_dim));
    launch([qkv.clone(), qkv.clone(), qkv], heads, head_dim, true)
}

fn launch(qkv: [CubeTensor; 3], heads: usize, head_dim: usize, packed: bool) -> CubeTensor {
    let width = vector_width(head_dim);
    let vectors = head_dim / width;
    let [query, key, value] = qkv.map(|x| rows(x, width));
    let [batch, tokens, _] = query.shape().dims();
    let out = empty(
        &query,
        Shape::from([batch, tokens, heads * head_dim]),
        query.dtype,
    );
    if is_empty(&out) {
        return out;
    }
    let dtype = burn::backend::cubecl::dtype_to_storage_type(query.dtype);
    let client = query.client.clone();

    let chunk = tokens
        .div_ceil((CUBES / heads).max(1))
        .next_multiple_of(32)
        .max(CHUNK);
    let chunks = tokens.div_ceil(chunk);
    let sums = empty(
        &query,
        Shape::from([batch * heads, chunks, head_dim + 1, head_dim]),
        DType::F32,
    );
    let count = batch * heads * chunks;
    // Small heads have fewer squares than a plane has units, but tiles to load.
    let units = (vectors * vectors).next_multiple_of(32);
    // SAFETY: keys and values are `[batch, tokens, channels]` like the query, as `supports` has
    // checked, with their own steps, and are read only below `tokens` and within a head; `sums`
    // holds a state for each of `count` cubes.
    unsafe {
        key_value_sums::launch_unchecked(
            &client,
            cubes(count),
            CubeDim::new_1d(units as u32),
            addresses(&[&key, &value, &sums]),
            width,
            key.into_tensor_arg(),
            value.into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            heads,
            chunks,
            chunk,
            count,
            head_dim,
            width,
            packed,
            (TILE / head_dim).min(32),
            dtype,
        );
    }

    let sums = if chunks > 1 {
        let total = empty(
            &query,
            Shape::from([batch * heads, 1, head_dim + 1, head_dim]),
            DType::F32,
        );
        let size = (head_dim + 1) * vectors;
        // SAFETY: each unit below the length of `total` reads its place in every chunk of its
        // head, all of which `sums` has.
        unsafe {
            add_chunks::launch_unchecked(
                &client,
                cubes((batch * heads * size).div_ceil(UNITS)),
                CubeDim::new_1d(UNITS as u32),
                addresses(&[&sums, &total]),
                width,
                sums.into_tensor_arg(),
                total.clone().into_tensor_arg(),
                chunks,
                size,
            );
        }
        total
    } else {
        sums
    };

    let at_once = UNITS / vectors;
    let tiles = tokens.div_ceil(at_once * QUERIES);
    let count = batch * heads * tiles;
    // SAFETY: queries are read at tokens clamped to the last one and within a head, results are
    // written below `tokens`, and `sums` holds a state for each head of the batch.
    unsafe {
        query_products::launch_unchecked(
            &client,
            cubes(count),
            CubeDim::new_1d((at_once * vectors) as u32),
            addresses(&[&query, &sums, &out]),
            width,
            query.into_tensor_arg(),
            sums.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            heads,
            tiles,
            count,
            ATTENTION_EPS as f32,
            head_dim,
            width,
            packed,
            QUERIES,
            at_once,
            dtype,
        );
    }
    out
}
