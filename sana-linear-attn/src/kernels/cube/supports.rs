//! Which tensors the kernels take: their dtypes and devices, and [`shapes`].

use burn::tensor::{DType, Tensor};

use crate::kernels::shapes;

use super::{depthwise as taps, is_gpu, linear_attention as heads, softmax_attention as queries};

/// Whether the kernels take a tensor: floats of 16 or 32 bits on a GPU, untracked.
fn on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    !x.is_autodiff()
        && matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16)
        && is_gpu(&x.device())
}

/// Whether the kernels take two tensors of one dtype.
fn alike<const X: usize, const Y: usize>(x: &Tensor<X>, y: &Tensor<Y>) -> bool {
    on_gpu(x) && on_gpu(y) && x.dtype() == y.dtype()
}

/// Whether a shape is another one or is broadcast to it.
fn broadcasts<const D: usize>(from: [usize; D], to: [usize; D]) -> bool {
    from.into_iter()
        .zip(to)
        .all(|(from, to)| from == 1 || from == to)
}

pub(in crate::kernels) fn linear_attention(
    query: &Tensor<3>,
    key: &Tensor<3>,
    value: &Tensor<3>,
    head_dim: usize,
) -> bool {
    alike(query, key)
        && alike(query, value)
        && shapes::linear_attention(query, key, value)
        && heads::fits(head_dim)
}

pub(in crate::kernels) fn packed_attention(qkv: &Tensor<3>, head_dim: usize) -> bool {
    on_gpu(qkv) && heads::fits(head_dim)
}

pub(in crate::kernels) fn softmax_attention(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    mask: &Tensor<4>,
) -> bool {
    let [batch, heads, tokens, head_dim] = query.dims();
    let keys = key.dims()[2];
    alike(query, key)
        && alike(query, value)
        && shapes::softmax_attention(query, key, value)
        && keys > 0
        && on_gpu(mask)
        && mask.dtype() == DType::F32
        && broadcasts(mask.dims(), [batch, heads, tokens, keys])
        && queries::fits(head_dim)
}

pub(in crate::kernels) fn depthwise(x: &Tensor<3>, weight: &Tensor<4>, grid: [usize; 2]) -> bool {
    alike(x, weight) && shapes::depthwise(x, weight, grid) && taps::fits(weight.dims()[3])
}

pub(in crate::kernels) fn depthwise_gate(
    x: &Tensor<3>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    grid: [usize; 2],
) -> bool {
    alike(x, weight)
        && alike(x, bias)
        && shapes::depthwise_gate(x, weight, bias, grid)
        && taps::fits(weight.dims()[3])
}

pub(in crate::kernels) fn norm_modulate(
    x: &Tensor<3>,
    scale: &Tensor<3>,
    shift: &Tensor<3>,
) -> bool {
    let channels = x.dims()[2];
    [scale, shift]
        .into_iter()
        .all(|y| alike(x, y) && broadcasts(y.dims(), x.dims()) && y.dims()[2] == channels)
}

pub(in crate::kernels) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: Option<&Tensor<1>>,
    axis: usize,
) -> bool {
    on_gpu(x)
        && on_gpu(weight)
        && bias.is_none_or(|bias| alike(weight, bias))
        && shapes::affine(x, weight, bias, axis)
}

pub(in crate::kernels) fn rms_norm_residual<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    residual: &Tensor<D>,
    axis: usize,
) -> bool {
    let added = alike(x, residual) && x.dims() == residual.dims();
    added && rms_norm(x, weight, Some(bias), axis)
}
