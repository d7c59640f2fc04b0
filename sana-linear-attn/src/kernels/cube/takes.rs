//! Which tensors the kernels take. They check no bounds of their own: what is not of the shapes
//! asked for here goes to the plain form, which says what is wrong with it.

use burn::tensor::{DType, Tensor};

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
    let same = |x: &Tensor<3>| alike(query, x) && query.dims() == x.dims();
    same(key) && same(value) && heads::fits(head_dim)
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
    let [_, key_heads, keys, _] = key.dims();
    alike(query, key)
        && alike(query, value)
        && key.dims() == [batch, key_heads, keys, head_dim]
        && value.dims() == key.dims()
        && keys > 0
        && heads.is_multiple_of(key_heads)
        && on_gpu(mask)
        && mask.dtype() == DType::F32
        && broadcasts(mask.dims(), [batch, heads, tokens, keys])
        && queries::fits(head_dim)
}

/// Square kernels of odd size.
pub(in crate::kernels) fn depthwise(
    x: &Tensor<3>,
    weight: &Tensor<4>,
    [height, width]: [usize; 2],
) -> bool {
    let [_, tokens, channels] = x.dims();
    let kernel = weight.dims()[3];
    alike(x, weight)
        && tokens == height * width
        && weight.dims() == [channels, 1, kernel, kernel]
        && kernel % 2 == 1
        && taps::fits(kernel)
}

pub(in crate::kernels) fn depthwise_gate(
    x: &Tensor<3>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    grid: [usize; 2],
) -> bool {
    let channels = x.dims()[2];
    depthwise(x, weight, grid)
        && alike(x, bias)
        && bias.dims() == [channels]
        && channels.is_multiple_of(2)
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
    let channels = [x.dims()[axis]];
    let fits = |bias: &Tensor<1>| alike(weight, bias) && bias.dims() == channels;
    on_gpu(x) && on_gpu(weight) && weight.dims() == channels && bias.is_none_or(fits)
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
