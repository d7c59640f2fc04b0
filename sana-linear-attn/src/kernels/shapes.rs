//! The shapes that kernels compute. They check no bounds of their own: tensors of other shapes go to
//! the plain form, which broadcasts what can be broadcast and says what is wrong with the rest.

use burn::tensor::Tensor;

/// `x W^T + b`.
#[cfg(feature = "flex")]
pub(super) fn linear(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> bool {
    let [out, input] = weight.dims();
    x.dims()[1] == input && bias.is_none_or(|bias| bias.dims() == [out])
}

/// Groups of a 1x1 convolution of tokens, below each other.
#[cfg(feature = "flex")]
pub(super) fn grouped_linear(x: &Tensor<3>, weight: &Tensor<2>) -> bool {
    let [out, size] = weight.dims();
    x.dims()[2] == out && size > 0 && out.is_multiple_of(size)
}

/// Queries, keys and values of linear attention.
pub(super) fn linear_attention(query: &Tensor<3>, key: &Tensor<3>, value: &Tensor<3>) -> bool {
    query.dims() == key.dims() && query.dims() == value.dims()
}

/// Queries, keys and values of softmax attention. The mask is another matter.
pub(super) fn softmax_attention(query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>) -> bool {
    let [batch, heads, _, head_dim] = query.dims();
    let [_, key_heads, keys, _] = key.dims();
    key.dims() == [batch, key_heads, keys, head_dim]
        && value.dims() == key.dims()
        && key_heads > 0
        && heads.is_multiple_of(key_heads)
}

/// A mask that all heads share, for each query or for all of them.
#[cfg(feature = "flex")]
pub(super) fn shared_mask(query: &Tensor<4>, key: &Tensor<4>, mask: &Tensor<4>) -> bool {
    let [batch, _, tokens, _] = query.dims();
    let keys = key.dims()[2];
    mask.dims() == [batch, 1, tokens, keys] || mask.dims() == [batch, 1, 1, keys]
}

/// A 3x3 convolution.
#[cfg(feature = "flex")]
pub(super) fn conv3x3(x: &Tensor<4>, weight: &Tensor<4>, bias: Option<&Tensor<1>>) -> bool {
    let output = weight.dims()[0];
    weight.dims() == [output, x.dims()[1], 3, 3] && bias.is_none_or(|bias| bias.dims() == [output])
}

/// A depthwise convolution of tokens with a square kernel of odd size.
pub(super) fn depthwise(x: &Tensor<3>, weight: &Tensor<4>, [height, width]: [usize; 2]) -> bool {
    let [_, tokens, channels] = x.dims();
    let kernel = weight.dims()[3];
    tokens == height * width && weight.dims() == [channels, 1, kernel, kernel] && kernel % 2 == 1
}

/// [`depthwise`] with bias, whose first half of channels the second gates.
pub(super) fn depthwise_gate(
    x: &Tensor<3>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    grid: [usize; 2],
) -> bool {
    let channels = x.dims()[2];
    depthwise(x, weight, grid) && bias.dims() == [channels] && channels.is_multiple_of(2)
}

/// Rows of tokens, and something for each item's channels.
#[cfg(feature = "flex")]
pub(super) fn of_items(x: &Tensor<3>, y: &Tensor<3>) -> bool {
    let [batch, _, channels] = x.dims();
    y.dims() == [batch, 1, channels]
}

/// Scale and shift along an axis.
pub(super) fn affine<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: Option<&Tensor<1>>,
    axis: usize,
) -> bool {
    let channels = [x.dims()[axis]];
    weight.dims() == channels && bias.is_none_or(|bias| bias.dims() == channels)
}

/// The two sides of an upsampling block.
#[cfg(feature = "flex")]
pub(super) fn upsampled(y: &Tensor<4>, x: &Tensor<4>, repeats: usize) -> bool {
    let [batch, channels, height, width] = x.dims();
    (channels * repeats).is_multiple_of(4)
        && y.dims() == [batch, channels * repeats / 4, 2 * height, 2 * width]
}
