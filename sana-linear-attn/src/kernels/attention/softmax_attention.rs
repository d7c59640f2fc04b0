use burn::tensor::Tensor;

#[cfg(feature = "cubecl-backend")]
use crate::kernels::cube;
#[cfg(feature = "flex")]
use crate::kernels::flex;
use crate::kernels::plain;

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
    if flex::backend::supports::softmax_attention(&query, &key, &value, mask.as_ref()) {
        return flex::backend::inference::softmax_attention(
            query, key, value, mask, scale, softcap,
        );
    }
    // Without a cap burn's matmuls, on tensor cores where there are any, are the better form.
    #[cfg(feature = "cubecl-backend")]
    if let (Some(mask), Some(softcap)) = (&mask, softcap)
        && cube::backend::supports::softmax_attention(&query, &key, &value, mask)
    {
        return cube::backend::inference::softmax_attention(
            query,
            key,
            value,
            mask.clone(),
            scale,
            softcap,
        );
    }
    plain::softmax_attention(query, key, value, mask, scale, softcap)
}
