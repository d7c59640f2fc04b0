use burn::tensor::Tensor;

use crate::kernels::attention::check_heads;
#[cfg(feature = "cubecl-backend")]
use crate::kernels::cube;
#[cfg(feature = "flex")]
use crate::kernels::flex;
use crate::kernels::plain;

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
    if flex::backend::supports::linear_attention(&query, &key, &value) {
        return flex::backend::inference::linear_attention(query, key, value, head_dim);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::backend::supports::linear_attention(&query, &key, &value, head_dim) {
        return cube::backend::inference::linear_attention(query, key, value, head_dim);
    }
    plain::relu_linear_attention(query, key, value, head_dim)
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
    if flex::backend::supports::packed_attention(&qkv) {
        return flex::backend::inference::packed_linear_attention(qkv, head_dim);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::backend::supports::packed_attention(&qkv, head_dim) {
        return cube::backend::inference::packed_attention(qkv, head_dim);
    }
    plain::relu_linear_attention_packed(qkv, head_dim)
}
