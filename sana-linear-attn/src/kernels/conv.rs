use burn::tensor::Tensor;

#[cfg(feature = "cubecl-backend")]
use super::cube;
use super::elementwise::{silu, silu_gate};
#[cfg(feature = "flex")]
use super::flex;
use super::layout::nearest_upsample;
use super::plain;
use crate::kernels::linear::epilogue::Epilogue;

/// [`conv3x3`] with bias, then a function of each element.
///
/// On the CPU, convolutions of stride 1 with at least 16 input and output channels use Winograd's
/// F(4x4, 3x3), whose rounding error is about ten times that of the direct sum. Those of stride 1 to at
/// most 8 output channels, such as an image, are summed directly, row by row.
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
    if stride == 1 && flex::backend::supports::winograd(&x, &weight, bias.as_ref()) {
        let silu = epilogue == Epilogue::Silu;
        return flex::backend::inference::winograd(x, weight, bias, false, silu);
    }
    let y = conv3x3_biased(x, weight, bias, stride);
    match epilogue {
        Epilogue::None => y,
        Epilogue::Silu => silu(y),
    }
}

fn conv3x3_biased(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if stride == 1 && flex::backend::supports::few_outputs(&x, &weight, bias.as_ref()) {
        return flex::backend::inference::few_outputs(x, weight, bias);
    }
    let y = conv3x3(x, weight, stride);
    match bias {
        Some(bias) => {
            let channels = bias.dims()[0];
            y + bias.reshape([1, channels, 1, 1])
        }
        None => y,
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
    if flex::backend::supports::winograd(&x, &weight, bias.as_ref()) {
        return flex::backend::inference::winograd(x, weight, bias, true, false);
    }
    conv3x3_fused(nearest_upsample(x), weight, bias, 1, Epilogue::None)
}

/// 3x3 convolution with padding 1 and without bias, stride 1 or 2.
///
/// # Shapes
/// - `x` `[batch, in, height, width]`
/// - `weight` `[out, in, 3, 3]`
/// - result `[batch, out, ceil(height / stride), ceil(width / stride)]`
pub fn conv3x3(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::conv3x3(&x, &weight, stride) {
        return flex::backend::differentiable::conv3x3(x, weight, stride);
    }
    plain::conv3x3(x, weight, stride)
}

/// Depthwise convolution over the tokens of a grid, odd square kernel, "same" padding, no bias.
///
/// # Shapes
/// - `x` and result `[batch, height * width, channels]`
/// - `weight` `[channels, 1, kernel, kernel]`
pub fn depthwise_tokens(x: Tensor<3>, weight: Tensor<4>, grid: [usize; 2]) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::depthwise(&x, &weight, grid) {
        let [channels, _, kernel, _] = weight.dims();
        let taps = weight.reshape([channels, kernel * kernel]).transpose(); // [taps, channels]
        return flex::backend::differentiable::depthwise_tokens(x, taps, grid);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::backend::supports::depthwise(&x, &weight, grid) {
        return cube::backend::inference::depthwise_tokens(x, weight, grid);
    }
    plain::depthwise_tokens(x, weight, grid)
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
    if flex::backend::supports::depthwise_gate(&x, &weight, &bias, grid) {
        let [channels, _, kernel, _] = weight.dims();
        let taps = weight.reshape([channels, kernel * kernel]).transpose(); // [taps, channels]
        return flex::backend::inference::depthwise_gate(x, taps, bias, grid);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::backend::supports::depthwise_gate(&x, &weight, &bias, grid) {
        return cube::backend::inference::depthwise_gate(x, weight, bias, grid);
    }
    silu_gate(depthwise_tokens(x, weight, grid) + bias.unsqueeze::<3>())
}
