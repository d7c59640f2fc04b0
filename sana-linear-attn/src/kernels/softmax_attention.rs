use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor};

#[cfg(feature = "cubecl-backend")]
use super::cube;
#[cfg(feature = "flex")]
use super::{on_flex_untracked, shapes};

/// Softmax attention: `softmax(cap(scale q k^T) + mask) v` with `cap(s) = c tanh(s / c)` where
/// there is a soft cap `c`. Several neighbouring query heads may share a key and value head.
///
/// Scores and softmax are f32; the weights are cast back for the product with the values.
///
/// # Shapes
/// - `query` `[batch, heads, tokens, head_dim]`
/// - `key`, `value` `[batch, key_heads, keys, head_dim]`, `key_heads` a divisor of `heads`
/// - `mask` `[batch, 1, tokens or 1, keys]` in f32, added to the scores
/// - result `[batch, tokens, heads * head_dim]`
pub fn softmax_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4>>,
    scale: f64,
    softcap: Option<f64>,
) -> Tensor<3> {
    #[cfg(feature = "flex")]
    {
        let kernel = [&query, &key, &value].into_iter().all(on_flex_untracked)
            && shapes::softmax_attention(&query, &key, &value);
        let takes =
            |mask: &Tensor<4>| on_flex_untracked(mask) && shapes::shared_mask(&query, &key, mask);
        if kernel && mask.as_ref().is_none_or(takes) {
            return super::inference::softmax_attention(query, key, value, mask, scale, softcap);
        }
    }
    // Without a cap burn's products, on tensor cores where there are any, are the better form.
    #[cfg(feature = "cubecl-backend")]
    if let (Some(mask), Some(softcap)) = (&mask, softcap)
        && cube::supports::softmax_attention(&query, &key, &value, mask)
    {
        return cube::softmax_attention(query, key, value, mask.clone(), scale, softcap);
    }
    softmax_attention_plain(query, key, value, mask, scale, softcap)
}

/// [`softmax_attention`] in plain tensor operations.
pub fn softmax_attention_plain(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4>>,
    scale: f64,
    softcap: Option<f64>,
) -> Tensor<3> {
    let dtype = query.dtype();
    let [batch, heads, tokens, head_dim] = query.dims();
    let [_, key_heads, keys, _] = key.dims();
    // Query heads that share a key head are neighbours, so they fold into its rows.
    let rows = heads / key_heads * tokens;
    let query = (query * scale).reshape([batch, key_heads, rows, head_dim]);
    let scores = query.matmul(key.swap_dims(2, 3)).cast(DType::F32); // [batch, key_heads, rows, keys]
    let scores = scores.reshape([batch, heads, tokens, keys]);
    let scores = match softcap {
        Some(cap) => (scores / cap).tanh() * cap,
        None => scores,
    };
    let scores = match mask {
        Some(mask) => scores + mask,
        None => scores,
    };
    let weights = softmax(scores, 3).reshape([batch, key_heads, rows, keys]);
    weights
        .cast(dtype)
        .matmul(value)
        .reshape([batch, heads, tokens, head_dim])
        .swap_dims(1, 2) // [batch, tokens, heads, head_dim]
        .reshape([batch, tokens, heads * head_dim])
}
