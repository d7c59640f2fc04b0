//! Which tensors the CPU kernels support: their dtypes and devices, and [`shapes`]. Tensors need
//! not be contiguous. Sums over tensors without elements are left to the plain forms.

use burn::tensor::{DType, Device, Tensor};

use crate::kernels::shapes;
use crate::precision::is_cpu;
use crate::quantization::QuantizedMatrix;

#[cfg(target_arch = "x86_64")]
use crate::kernels::flex::gemm::dense;
use crate::kernels::flex::gemm::int8;

/// Outputs up to which rows of the input are read for all of them at once.
const FEW_OUTPUTS: usize = 8;

/// Channels from which on Winograd's transforms cost less than the multiplications they save.
const WINOGRAD_CHANNELS: usize = 16;

/// Whether the kernels with gradients support a tensor: f32 on flex, and one that tracks gradients
/// only where these are compiled in.
fn differentiable<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32
        && x.device() == Device::flex()
        && (cfg!(feature = "autodiff") || !x.is_autodiff())
}

/// Whether a tensor has elements.
fn has_elements<const D: usize>(x: &Tensor<D>) -> bool {
    !x.dims().contains(&0)
}

/// Whether the kernels without gradients support a tensor.
pub(crate) fn untracked<const D: usize>(x: &Tensor<D>) -> bool {
    differentiable(x) && !x.is_autodiff()
}

pub(crate) fn elementwise<const D: usize>(x: &Tensor<D>) -> bool {
    differentiable(x)
}

pub(crate) fn silu_gate(x: &Tensor<3>) -> bool {
    differentiable(x) && has_elements(x) && x.dims()[2].is_multiple_of(2)
}

/// Two tensors of one shape, untracked.
pub(crate) fn same_shape<const D: usize>(x: &Tensor<D>, y: &Tensor<D>) -> bool {
    x.dims() == y.dims() && untracked(x) && untracked(y)
}

/// 16-bit floats that become f32.
pub(crate) fn widen<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16)
        && is_cpu(&x.device())
        && (cfg!(feature = "autodiff") || !x.is_autodiff())
}

pub(crate) fn linear(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> bool {
    untracked(weight) && linear_input(x, weight, bias)
}

/// f32 rows with a bf16 weight, multiplied in bf16.
pub(crate) fn bf16_linear(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> bool {
    weight.dtype() == DType::BF16
        && !weight.is_autodiff()
        && linear_input(x, weight, bias)
        && bf16_gemm(weight.dims()[1])
}

fn linear_input(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> bool {
    untracked(x)
        && has_elements(x)
        && has_elements(weight)
        && bias.is_none_or(untracked)
        && shapes::linear(x, weight, bias)
}

/// Whether this processor multiplies pairs of bf16, and rows of this length are whole pairs.
fn bf16_gemm(depth: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    let supported = dense::Stored::Bf16.is_supported(depth);
    #[cfg(not(target_arch = "x86_64"))]
    let supported = {
        let _ = depth;
        false
    };
    supported
}

/// f32 rows with a quantized weight, multiplied in integers.
pub(crate) fn quantized_linear(
    x: &Tensor<2>,
    weight: &QuantizedMatrix,
    bias: Option<&Tensor<1>>,
) -> bool {
    let [rows, depth] = x.dims();
    let [columns, inputs] = weight.dims();
    untracked(x)
        && weight.device() == x.device()
        && rows > 0
        && columns > 0
        && depth == inputs
        && (1..=int8::LARGEST_DEPTH).contains(&depth)
        && bias.is_none_or(|bias| untracked(bias) && bias.dims() == [columns])
}

pub(crate) fn grouped_linear(x: &Tensor<3>, weight: &Tensor<2>) -> bool {
    untracked(x) && has_elements(x) && untracked(weight) && shapes::grouped_linear(x, weight)
}

pub(crate) fn linear_attention(query: &Tensor<3>, key: &Tensor<3>, value: &Tensor<3>) -> bool {
    let supported = |x: &Tensor<3>| untracked(x) && has_elements(x);
    [query, key, value].into_iter().all(supported) && shapes::linear_attention(query, key, value)
}

pub(crate) fn packed_attention(qkv: &Tensor<3>) -> bool {
    untracked(qkv) && has_elements(qkv)
}

pub(crate) fn softmax_attention(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    mask: Option<&Tensor<4>>,
) -> bool {
    let supported = |x: &Tensor<4>| untracked(x) && has_elements(x);
    [query, key, value].into_iter().all(supported)
        && shapes::softmax_attention(query, key, value)
        && mask.is_none_or(|mask| untracked(mask) && shapes::shared_mask(query, key, mask))
}

pub(crate) fn conv3x3(x: &Tensor<4>, weight: &Tensor<4>, stride: usize) -> bool {
    matches!(stride, 1 | 2)
        && differentiable(x)
        && differentiable(weight)
        && has_elements(x)
        && has_elements(weight)
        && shapes::conv3x3(x, weight, None)
}

/// A 3x3 convolution of stride 1.
pub(crate) fn winograd(x: &Tensor<4>, weight: &Tensor<4>, bias: Option<&Tensor<1>>) -> bool {
    let [output, input, ..] = weight.dims();
    input.min(output) >= WINOGRAD_CHANNELS
        && untracked(x)
        && untracked(weight)
        && has_elements(x)
        && bias.is_none_or(untracked)
        && shapes::conv3x3(x, weight, bias)
}

/// A 3x3 convolution of stride 1 to a few channels.
pub(crate) fn few_outputs(x: &Tensor<4>, weight: &Tensor<4>, bias: Option<&Tensor<1>>) -> bool {
    (1..=FEW_OUTPUTS).contains(&weight.dims()[0])
        && untracked(x)
        && untracked(weight)
        && has_elements(x)
        && bias.is_none_or(untracked)
        && shapes::conv3x3(x, weight, bias)
}

pub(crate) fn depthwise(x: &Tensor<3>, weight: &Tensor<4>, grid: [usize; 2]) -> bool {
    differentiable(x)
        && has_elements(x)
        && differentiable(weight)
        && shapes::depthwise(x, weight, grid)
}

pub(crate) fn depthwise_gate(
    x: &Tensor<3>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    grid: [usize; 2],
) -> bool {
    untracked(x)
        && has_elements(x)
        && untracked(weight)
        && untracked(bias)
        && shapes::depthwise_gate(x, weight, bias, grid)
}

pub(crate) fn norm_modulate(x: &Tensor<3>, scale: &Tensor<3>, shift: &Tensor<3>) -> bool {
    [x, scale, shift].into_iter().all(untracked)
        && has_elements(x)
        && shapes::of_items(x, scale)
        && shapes::of_items(x, shift)
}

pub(crate) fn gated_residual(x: &Tensor<3>, gate: &Tensor<3>, y: &Tensor<3>) -> bool {
    [x, gate, y].into_iter().all(untracked)
        && has_elements(x)
        && x.dims() == y.dims()
        && shapes::of_items(x, gate)
}

/// The norm of an input with gradients; scale and shift may be of another dtype.
pub(crate) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: Option<&Tensor<1>>,
    axis: usize,
) -> bool {
    differentiable(x) && has_elements(x) && shapes::affine(x, weight, bias, axis)
}

pub(crate) fn rms_norm_residual<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    residual: &Tensor<D>,
    axis: usize,
) -> bool {
    same_shape(x, residual) && has_elements(x) && shapes::affine(x, weight, Some(bias), axis)
}

pub(crate) fn add_upsampled(y: &Tensor<4>, x: &Tensor<4>, repeats: usize) -> bool {
    untracked(y) && untracked(x) && shapes::upsampled(y, x, repeats)
}
