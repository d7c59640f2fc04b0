use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

#[cfg(feature = "cubecl-backend")]
use super::cube;
use super::{Epilogue, nearest_upsample, silu};
#[cfg(feature = "flex")]
use super::{on_flex, on_flex_untracked, shapes};

/// Channels from which on Winograd's transforms cost less than the products that they save.
#[cfg(feature = "flex")]
const WINOGRAD_CHANNELS: usize = 16;

/// [`conv3x3`] with bias, then a function of each element.
///
/// On the CPU, convolutions of stride 1 with at least 16 input and output channels use Winograd's
/// F(4x4, 3x3), whose rounding error is about ten times that of the direct sum.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`
/// - `weight` `[out, in, 3, 3]`, `bias` `[out]`
/// - result `[batch, out, ceil(height / stride), ceil(width / stride)]`
pub fn conv3x3_fused(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    epilogue: Epilogue,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    {
        if stride == 1 && is_winograd(&x, &weight, bias.as_ref()) {
            let silu = epilogue == Epilogue::Silu;
            return super::inference::winograd(x, weight, bias, false, silu);
        }
    }
    let y = conv3x3(x, weight, stride);
    let y = match bias {
        Some(bias) => {
            let channels = bias.dims()[0];
            y + bias.reshape([1, channels, 1, 1])
        }
        None => y,
    };
    match epilogue {
        Epilogue::None => y,
        Epilogue::Silu => silu(y),
    }
}

/// [`conv3x3_fused`] of stride 1 of the [upsampled](nearest_upsample) input, which the CPU does not
/// make.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`
/// - `weight` `[out, in, 3, 3]`, `bias` `[out]`
/// - result `[batch, out, 2 * height, 2 * width]`
pub fn conv3x3_upsampled(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if is_winograd(&x, &weight, bias.as_ref()) {
        return super::inference::winograd(x, weight, bias, true, false);
    }
    conv3x3_fused(nearest_upsample(x), weight, bias, 1, Epilogue::None)
}

/// Whether Winograd's kernel takes a convolution of stride 1.
#[cfg(feature = "flex")]
fn is_winograd(x: &Tensor<4>, weight: &Tensor<4>, bias: Option<&Tensor<1>>) -> bool {
    let [output, input, ..] = weight.dims();
    input.min(output) >= WINOGRAD_CHANNELS
        && on_flex_untracked(x)
        && on_flex_untracked(weight)
        && bias.is_none_or(on_flex_untracked)
        && shapes::conv3x3(x, weight, bias)
}

/// 3x3 convolution with padding 1 and without bias, stride 1 or 2.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`
/// - `weight` `[out, in, 3, 3]`
/// - result `[batch, out, ceil(height / stride), ceil(width / stride)]`
pub fn conv3x3(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if matches!(stride, 1 | 2)
        && on_flex(&x)
        && on_flex(&weight)
        && shapes::conv3x3(&x, &weight, None)
    {
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
    if on_flex(&x) && on_flex(&weight) && shapes::depthwise(&x, &weight, grid) {
        let [channels, _, kernel, _] = weight.dims();
        let taps = weight.reshape([channels, kernel * kernel]).transpose(); // [taps, channels]
        return super::ops::depthwise_tokens(x, taps, grid);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::supports::depthwise(&x, &weight, grid) {
        return cube::depthwise_tokens(x, weight, grid);
    }
    depthwise_tokens_plain(x, weight, grid)
}

/// The middle of GLUMBConv: `[v | g] = depthwise_tokens(x) + bias`, result `v * silu(g)`.
///
/// # Shapes
/// - `x` `[batch, height * width, 2 * channels]`
/// - `weight` `[2 * channels, 1, kernel, kernel]`, `bias` `[2 * channels]`
/// - result `[batch, height * width, channels]`
pub fn depthwise_gate(
    x: Tensor<3>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    grid: [usize; 2],
) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if on_flex_untracked(&x)
        && on_flex_untracked(&weight)
        && on_flex_untracked(&bias)
        && shapes::depthwise_gate(&x, &weight, &bias, grid)
    {
        let [channels, _, kernel, _] = weight.dims();
        let taps = weight.reshape([channels, kernel * kernel]).transpose(); // [taps, channels]
        return super::inference::depthwise_gate(x, taps, bias, grid);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::supports::depthwise_gate(&x, &weight, &bias, grid) {
        return cube::depthwise_gate(x, weight, bias, grid);
    }
    super::silu_gate(depthwise_tokens(x, weight, grid) + bias.unsqueeze::<3>())
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
