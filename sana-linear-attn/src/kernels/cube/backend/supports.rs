//! Which tensors the kernels support: their dtypes and devices, and [`shapes`].

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};
use burn_cubecl::CubeDevice;

use crate::kernels::shapes;

use crate::kernels::cube::attention::{linear_attention as heads, softmax_attention as queries};
use crate::kernels::cube::depthwise as taps;
use crate::kernels::cube::quantized_linear as words;
use crate::quantization::QuantizedMatrix;

/// Whether this is a device of one of burn's GPU backends.
pub(crate) fn is_gpu(device: &Device) -> bool {
    let gpu = |device: &CubeDevice| !matches!(device, CubeDevice::Cpu(_));
    let device = device.clone().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Cube(device) if gpu(device))
}

/// Whether the kernels support a tensor: floats of 16 or 32 bits on a GPU, untracked.
fn on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    !x.is_autodiff()
        && matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16)
        && is_gpu(&x.device())
}

/// Whether the kernels support two tensors, of one dtype.
fn same_dtype<const X: usize, const Y: usize>(x: &Tensor<X>, y: &Tensor<Y>) -> bool {
    on_gpu(x) && on_gpu(y) && x.dtype() == y.dtype()
}

/// Whether a shape is another one or is broadcast to it.
fn broadcasts<const D: usize>(from: [usize; D], to: [usize; D]) -> bool {
    from.into_iter()
        .zip(to)
        .all(|(from, to)| from == 1 || from == to)
}

pub(crate) fn linear_attention(
    query: &Tensor<3>,
    key: &Tensor<3>,
    value: &Tensor<3>,
    head_dim: usize,
) -> bool {
    same_dtype(query, key)
        && same_dtype(query, value)
        && shapes::linear_attention(query, key, value)
        && heads::fits(head_dim)
}

pub(crate) fn packed_attention(qkv: &Tensor<3>, head_dim: usize) -> bool {
    on_gpu(qkv) && heads::fits(head_dim)
}

pub(crate) fn softmax_attention(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    mask: &Tensor<4>,
) -> bool {
    let [batch, heads, tokens, head_dim] = query.dims();
    let keys = key.dims()[2];
    same_dtype(query, key)
        && same_dtype(query, value)
        && shapes::softmax_attention(query, key, value)
        && keys > 0
        && on_gpu(mask)
        && mask.dtype() == DType::F32
        && broadcasts(mask.dims(), [batch, heads, tokens, keys])
        && queries::fits(head_dim)
}

pub(crate) fn depthwise(x: &Tensor<3>, weight: &Tensor<4>, grid: [usize; 2]) -> bool {
    same_dtype(x, weight) && shapes::depthwise(x, weight, grid) && taps::fits(weight.dims()[3])
}

pub(crate) fn depthwise_gate(
    x: &Tensor<3>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    grid: [usize; 2],
) -> bool {
    same_dtype(x, weight)
        && same_dtype(x, bias)
        && shapes::depthwise_gate(x, weight, bias, grid)
        && taps::fits(weight.dims()[3])
}

pub(crate) fn norm_modulate(x: &Tensor<3>, scale: &Tensor<3>, shift: &Tensor<3>) -> bool {
    let channels = x.dims()[2];
    [scale, shift]
        .into_iter()
        .all(|y| same_dtype(x, y) && broadcasts(y.dims(), x.dims()) && y.dims()[2] == channels)
}

pub(crate) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: Option<&Tensor<1>>,
    axis: usize,
) -> bool {
    on_gpu(x)
        && on_gpu(weight)
        && bias.is_none_or(|bias| same_dtype(weight, bias))
        && shapes::affine(x, weight, bias, axis)
}

pub(crate) fn rms_norm_residual<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    residual: &Tensor<D>,
    axis: usize,
) -> bool {
    let added = same_dtype(x, residual) && x.dims() == residual.dims();
    added && rms_norm(x, weight, Some(bias), axis)
}

pub(crate) fn quantized_linear(x: &Tensor<2>, weight: &QuantizedMatrix) -> bool {
    let ([_, inputs], [_, depth]) = (x.dims(), weight.dims());
    on_gpu(x) && is_gpu(&weight.device()) && inputs == depth && quantized_weight(weight)
}

pub(crate) fn quantized_weight(weight: &QuantizedMatrix) -> bool {
    let [_, inputs] = weight.dims();
    match weight {
        QuantizedMatrix::Int8Rows(_) => words::fits_int8(inputs),
        QuantizedMatrix::Uint4Groups(matrix) => words::fits_uint4(inputs, matrix.group),
    }
}
