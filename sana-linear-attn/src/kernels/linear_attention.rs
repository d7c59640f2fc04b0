use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};

#[cfg(feature = "cubecl-backend")]
use super::cube;
#[cfg(feature = "flex")]
use super::on_flex_untracked;

/// Added to the denominator of linear attention, as in the reference.
pub const ATTENTION_EPS: f64 = 1e-15;

/// ReLU linear attention over tokens, head by head:
///
/// ```text
/// out_i = relu(q_i) (sum_j relu(k_j)^T v_j) / (relu(q_i) . sum_j relu(k_j) + 1e-15)
/// ```
///
/// The sums are taken in f32 whatever the input's dtype, and the result is cast back once.
///
/// # Shapes
/// - `query`, `key`, `value` and the result: `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `head_dim` does not divide the channels.
pub fn relu_linear_attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    head_dim: usize,
) -> Tensor<3> {
    check_heads(query.dims()[2], head_dim);
    #[cfg(feature = "flex")]
    if [&query, &key, &value].into_iter().all(on_flex_untracked)
        && super::shapes::linear_attention(&query, &key, &value)
    {
        return super::inference::linear_attention(query, key, value, head_dim);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::supports::linear_attention(&query, &key, &value, head_dim) {
        return cube::linear_attention(query, key, value, head_dim);
    }
    relu_linear_attention_plain(query, key, value, head_dim)
}

/// [`relu_linear_attention`] in plain tensor operations.
///
/// # Shapes
/// - `query`, `key`, `value` and the result: `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `head_dim` does not divide the channels.
pub fn relu_linear_attention_plain(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    head_dim: usize,
) -> Tensor<3> {
    let query = split_heads(query, head_dim); // [batch, heads, tokens, head_dim]
    let key = split_heads(key, head_dim);
    let value = split_heads(value, head_dim);
    attend(query, key, value)
}

/// [`relu_linear_attention`] of one tensor with query, key and value of each head side by side, as
/// DC-AE cuts its channels.
///
/// # Shapes
/// - `qkv` `[batch, tokens, heads * 3 * head_dim]`
/// - result `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `3 * head_dim` does not divide the channels.
pub fn relu_linear_attention_packed(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    check_heads(qkv.dims()[2], 3 * head_dim);
    #[cfg(feature = "flex")]
    if on_flex_untracked(&qkv) {
        return super::inference::packed_linear_attention(qkv, head_dim);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::supports::packed_attention(&qkv, head_dim) {
        return cube::packed_attention(qkv, head_dim);
    }
    relu_linear_attention_packed_plain(qkv, head_dim)
}

/// [`relu_linear_attention_packed`] in plain tensor operations.
///
/// # Shapes
/// - `qkv` `[batch, tokens, heads * 3 * head_dim]`
/// - result `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `3 * head_dim` does not divide the channels.
pub fn relu_linear_attention_packed_plain(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    let [query, key, value] = split_packed(qkv, head_dim);
    attend(query, key, value)
}

/// The attention of heads `[batch, heads, tokens, head_dim]`, put together again.
fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
    let dtype = query.dtype();
    let [query, key, value] = [query, key, value].map(|x| x.cast(DType::F32));
    let (query, key) = (relu(query), relu(key));
    let key_sum = key.clone().sum_dim(2); // [batch, heads, 1, head_dim]
    let key_value = key.swap_dims(2, 3).matmul(value); // [batch, heads, head_dim, head_dim]
    let numerator = query.clone().matmul(key_value); // [batch, heads, tokens, head_dim]
    let denominator = query.matmul(key_sum.swap_dims(2, 3)); // [batch, heads, tokens, 1]
    join_heads(numerator / (denominator + ATTENTION_EPS)).cast(dtype)
}

/// The same attention by its definition, with the tokens-by-tokens map written out: quadratic in
/// the number of tokens. Oracle of [`relu_linear_attention`].
///
/// # Shapes
/// - `query`, `key`, `value` and the result: `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `head_dim` does not divide the channels.
pub fn relu_quadratic_attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    head_dim: usize,
) -> Tensor<3> {
    let [query, key, value] = [query, key, value].map(|x| split_heads(x, head_dim));
    attend_by_map(query, key, value)
}

/// [`relu_quadratic_attention`] of one tensor with query, key and value of each head side by side.
///
/// # Shapes
/// - `qkv` `[batch, tokens, heads * 3 * head_dim]`
/// - result `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `3 * head_dim` does not divide the channels.
pub fn relu_quadratic_attention_packed(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    let [query, key, value] = split_packed(qkv, head_dim);
    attend_by_map(query, key, value)
}

/// The attention of heads `[batch, heads, tokens, head_dim]` with its map, put together again.
fn attend_by_map(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
    let dtype = query.dtype();
    let [query, key, value] = [query, key, value].map(|x| x.cast(DType::F32));
    let map = relu(query).matmul(relu(key).swap_dims(2, 3)); // [batch, heads, tokens, tokens]
    let map = map.clone() / (map.sum_dim(3) + ATTENTION_EPS);
    join_heads(map.matmul(value)).cast(dtype)
}

fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head_dim] = x.dims();
    x.swap_dims(1, 2) // [batch, tokens, heads, head_dim]
        .reshape([batch, tokens, heads * head_dim])
}

/// Queries, keys and values, each `[batch, heads, tokens, head_dim]`.
fn split_packed(qkv: Tensor<3>, head_dim: usize) -> [Tensor<4>; 3] {
    let heads = split_heads(qkv, 3 * head_dim); // [batch, heads, tokens, 3 * head_dim]
    [0, 1, 2].map(|part| heads.clone().narrow(3, part * head_dim, head_dim))
}

fn split_heads(x: Tensor<3>, head_dim: usize) -> Tensor<4> {
    let [batch, tokens, channels] = x.dims();
    check_heads(channels, head_dim);
    x.reshape([batch, tokens, channels / head_dim, head_dim])
        .swap_dims(1, 2) // [batch, heads, tokens, head_dim]
}

fn check_heads(channels: usize, head_dim: usize) {
    assert!(
        head_dim > 0 && channels.is_multiple_of(head_dim),
        "head_dim {head_dim} does not divide {channels} channels"
    );
}
