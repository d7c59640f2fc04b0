use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

#[cfg(feature = "flex")]
use super::on_flex;

/// 3x3 convolution with padding 1 and without bias, stride 1 or 2.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`
/// - `weight` `[out, in, 3, 3]`
/// - result `[batch, out, ceil(height / stride), ceil(width / stride)]`
pub fn conv3x3(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if on_flex(&x) && on_flex(&weight) {
        return super::ops::conv3x3(x, weight, stride);
    }
    conv3x3_plain(x, weight, stride)
}

/// [`conv3x3`] as burn's own convolution.
pub fn conv3x3_plain(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    conv2d(
        x,
        weight,
        None,
        ConvOptions::new([stride, stride], [1, 1], [1, 1], 1),
    )
}

/// Depthwise convolution over the tokens of a grid, odd square kernel, "same" padding, no bias.
///
/// # Shapes
/// - `x` and result `[batch, height * width, channels]`
/// - `weight` `[channels, 1, kernel, kernel]`
pub fn depthwise_tokens(x: Tensor<3>, weight: Tensor<4>, grid: [usize; 2]) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if on_flex(&x) && on_flex(&weight) {
        let [channels, _, kernel, _] = weight.dims();
        let taps = weight.reshape([channels, kernel * kernel]).transpose(); // [taps, channels]
        return super::ops::depthwise_tokens(x, taps, grid);
    }
    depthwise_tokens_plain(x, weight, grid)
}

/// [`depthwise_tokens`] as burn's own grouped convolution. It gets no bias: burn's fast depthwise
/// path on GPUs refuses one.
pub fn depthwise_tokens_plain(x: Tensor<3>, weight: Tensor<4>, grid: [usize; 2]) -> Tensor<3> {
    let [batch, tokens, channels] = x.dims();
    let [height, width] = grid;
    let pad = weight.dims()[3] / 2;
    let image = x
        .reshape([batch, height, width, channels])
        .permute([0, 3, 1, 2]); // [batch, channels, height, width]
    let image = conv2d(
        image,
        weight,
        None,
        ConvOptions::new([1, 1], [pad, pad], [1, 1], channels),
    );
    image
        .permute([0, 2, 3, 1])
        .reshape([batch, tokens, channels])
}
