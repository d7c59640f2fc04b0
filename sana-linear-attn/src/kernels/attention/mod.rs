//! What the forms of attention share.

pub(super) mod linear_attention;
pub(super) mod softmax_attention;

use burn::tensor::Tensor;

/// Added to the denominator of linear attention, as in the reference.
pub const ATTENTION_EPS: f64 = 1e-15;

/// Channels as heads.
///
/// # Shapes
/// - `x` `[batch, tokens, heads * head_dim]`
/// - result `[batch, heads, tokens, head_dim]`
///
/// # Panics
/// If `head_dim` does not divide the channels.
pub fn split_heads(x: Tensor<3>, head_dim: usize) -> Tensor<4> {
    let [batch, tokens, channels] = x.dims();
    check_heads(channels, head_dim);
    x.reshape([batch, tokens, channels / head_dim, head_dim])
        .swap_dims(1, 2) // [batch, heads, tokens, head_dim]
}

/// The inverse of [`split_heads`].
pub(super) fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head_dim] = x.dims();
    x.swap_dims(1, 2) // [batch, tokens, heads, head_dim]
        .reshape([batch, tokens, heads * head_dim])
}

pub(super) fn check_heads(channels: usize, head_dim: usize) {
    assert!(
        head_dim > 0 && channels.is_multiple_of(head_dim),
        "head_dim {head_dim} does not divide {channels} channels"
    );
}
