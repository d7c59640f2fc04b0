use burn::tensor::activation::relu;
use burn::tensor::{DType, Tensor};

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
    let dtype = query.dtype();
    let [batch, tokens, channels] = query.dims();
    let query = split_heads(relu(query), head_dim); // [batch, heads, tokens, head_dim]
    let key = split_heads(relu(key), head_dim);
    let value = split_heads(value, head_dim);

    let key_sum = key.clone().sum_dim(2); // [batch, heads, 1, head_dim]
    let key_value = key.swap_dims(2, 3).matmul(value); // [batch, heads, head_dim, head_dim]
    let numerator = query.clone().matmul(key_value); // [batch, heads, tokens, head_dim]
    let denominator = query.matmul(key_sum.swap_dims(2, 3)); // [batch, heads, tokens, 1]
    let out = numerator / (denominator + ATTENTION_EPS);
    out.swap_dims(1, 2)
        .reshape([batch, tokens, channels])
        .cast(dtype)
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
    let dtype = query.dtype();
    let [batch, tokens, channels] = query.dims();
    let query = split_heads(relu(query), head_dim);
    let key = split_heads(relu(key), head_dim);
    let value = split_heads(value, head_dim);
    let map = query.matmul(key.swap_dims(2, 3)); // [batch, heads, tokens, tokens]
    let map = map.clone() / (map.sum_dim(3) + ATTENTION_EPS);
    map.matmul(value)
        .swap_dims(1, 2)
        .reshape([batch, tokens, channels])
        .cast(dtype)
}

fn split_heads(x: Tensor<3>, head_dim: usize) -> Tensor<4> {
    let [batch, tokens, channels] = x.dims();
    assert!(
        head_dim > 0 && channels % head_dim == 0,
        "head_dim {head_dim} does not divide {channels} channels"
    );
    x.cast(DType::F32)
        .reshape([batch, tokens, channels / head_dim, head_dim])
        .swap_dims(1, 2) // [batch, heads, tokens, head_dim]
}
