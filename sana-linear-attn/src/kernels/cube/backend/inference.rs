//! The GPU kernels as operations of burn's backends, without gradients.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;

use crate::kernels::cube::attention::{linear_attention, softmax_attention};
use crate::kernels::cube::depthwise;
use crate::kernels::cube::norm::norm_modulate;
use crate::kernels::cube::norm::rms_norm::Norm;
use crate::kernels::cube::quantized_linear;
use crate::quantization::{Int8Rows, QuantizedMatrix, Uint4Groups};

/// Forward operations of untracked tensors. Those of one operation have one dtype, but for the
/// weights of norms, which may have another, and masks, which are f32.
#[backend_extension(Cube, Fusion)]
pub trait CubeOps: Backend {
    /// See [`relu_linear_attention`](crate::kernels::relu_linear_attention).
    #[fusion(dtype = query, shape = query)]
    fn cube_linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        head_dim: usize,
    ) -> FloatTensor<Self>;
    /// See [`relu_linear_attention_packed`](crate::kernels::relu_linear_attention_packed).
    #[fusion(dtype = qkv, shape = channels_over(qkv, 3))]
    fn cube_packed_attention(qkv: FloatTensor<Self>, head_dim: usize) -> FloatTensor<Self>;
    /// See [`softmax_attention`](crate::kernels::softmax_attention).
    #[fusion(dtype = query, shape = joined_heads(query))]
    fn cube_softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scale: f64,
        softcap: f64,
    ) -> FloatTensor<Self>;
    /// See [`depthwise_tokens`](crate::kernels::depthwise_tokens).
    #[fusion(dtype = x, shape = x)]
    fn cube_depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self>;
    /// See [`depthwise_gate`](crate::kernels::depthwise_gate).
    #[fusion(dtype = x, shape = channels_over(x, 2))]
    fn cube_depthwise_gate(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self>;
    /// See [`norm_modulate`](crate::kernels::norm_modulate).
    #[fusion(dtype = x, shape = x)]
    fn cube_norm_modulate(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm_channels`](crate::kernels::rms_norm_channels), without a shift.
    #[fusion(dtype = x, shape = x)]
    fn cube_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm_channels`](crate::kernels::rms_norm_channels), with a shift.
    #[fusion(dtype = x, shape = x)]
    fn cube_rms_norm_shift(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm_residual`](crate::kernels::rms_norm_residual), with a shift.
    #[fusion(dtype = x, shape = x)]
    fn cube_rms_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self>;
    /// `x W^T` with [`Int8Rows`].
    #[fusion(dtype = x, shape = products(x, values))]
    fn cube_int8_linear(
        x: FloatTensor<Self>,
        values: IntTensor<Self>,
        scales: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// `x W^T` with [`Uint4Groups`] whose zero points are -8 times their scales.
    #[fusion(dtype = x, shape = products(x, packed))]
    fn cube_uint4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        group: usize,
    ) -> FloatTensor<Self>;
}

/// The shape of rows times a weight `[out, ..]`.
fn products(x: &Shape, weight: &Shape) -> Shape {
    Shape::from([x[0], weight[0]])
}

/// The shape of tokens with a fraction of their channels.
fn channels_over(x: &Shape, parts: usize) -> Shape {
    Shape::from([x[0], x[1], x[2] / parts])
}

/// The shape of `[batch, heads, tokens, head_dim]` as tokens.
fn joined_heads(x: &Shape) -> Shape {
    Shape::from([x[0], x[2], x[1] * x[3]])
}

impl CubeOps for CubeBackend {
    fn cube_linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        head_dim: usize,
    ) -> FloatTensor<Self> {
        linear_attention::attend(query, key, value, head_dim)
    }

    fn cube_packed_attention(qkv: FloatTensor<Self>, head_dim: usize) -> FloatTensor<Self> {
        linear_attention::attend_packed(qkv, head_dim)
    }

    fn cube_softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scale: f64,
        softcap: f64,
    ) -> FloatTensor<Self> {
        softmax_attention::attend(query, key, value, mask, scale, softcap)
    }

    fn cube_depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        depthwise::depthwise(x, weight, [height, width])
    }

    fn cube_depthwise_gate(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        depthwise::gate(x, weight, bias, [height, width])
    }

    fn cube_norm_modulate(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        norm_modulate::norm_modulate(x, scale, shift, eps)
    }

    fn cube_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        Norm {
            x,
            weight,
            bias: None,
            residual: None,
            eps,
            axis,
        }
        .run()
    }

    fn cube_rms_norm_shift(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        Norm {
            x,
            weight,
            bias: Some(bias),
            residual: None,
            eps,
            axis,
        }
        .run()
    }

    fn cube_rms_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        Norm {
            x,
            weight,
            bias: Some(bias),
            residual: Some(residual),
            eps,
            axis,
        }
        .run()
    }

    fn cube_int8_linear(
        x: FloatTensor<Self>,
        values: IntTensor<Self>,
        scales: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        quantized_linear::int8(x, values, scales)
    }

    fn cube_uint4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        group: usize,
    ) -> FloatTensor<Self> {
        quantized_linear::uint4(x, packed, scales, group)
    }
}

pub(crate) fn linear_attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    head_dim: usize,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as CubeOps>::cube_linear_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        head_dim,
    ))
}

pub(crate) fn packed_attention(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as CubeOps>::cube_packed_attention(
        qkv.into_dispatch(),
        head_dim,
    ))
}

pub(crate) fn softmax_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Tensor<4>,
    scale: f64,
    softcap: f64,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as CubeOps>::cube_softmax_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        mask.into_dispatch(),
        scale,
        softcap,
    ))
}

pub(crate) fn depthwise_tokens(
    x: Tensor<3>,
    weight: Tensor<4>,
    [height, width]: [usize; 2],
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as CubeOps>::cube_depthwise(
        x.into_dispatch(),
        weight.into_dispatch(),
        height,
        width,
    ))
}

pub(crate) fn depthwise_gate(
    x: Tensor<3>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    [height, width]: [usize; 2],
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as CubeOps>::cube_depthwise_gate(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        height,
        width,
    ))
}

pub(crate) fn norm_modulate(
    x: Tensor<3>,
    scale: Tensor<3>,
    shift: Tensor<3>,
    eps: f64,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as CubeOps>::cube_norm_modulate(
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        eps,
    ))
}

pub(crate) fn rms_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => {
            <Dispatch as CubeOps>::cube_rms_norm_shift(x, weight, bias.into_dispatch(), eps, axis)
        }
        None => <Dispatch as CubeOps>::cube_rms_norm(x, weight, eps, axis),
    })
}

pub(crate) fn rms_norm_residual<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    residual: Tensor<D>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as CubeOps>::cube_rms_norm_residual(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        residual.into_dispatch(),
        eps,
        axis,
    ))
}

/// `x W^T`.
///
/// # Shapes
/// - `x` `[rows, in]`
/// - `weight` `[out, in]`
/// - result `[rows, out]`
pub(crate) fn quantized_linear(x: Tensor<2>, weight: &QuantizedMatrix) -> Tensor<2> {
    match weight {
        QuantizedMatrix::Int8Rows(Int8Rows { values, scales }) => {
            Tensor::from_dispatch(<Dispatch as CubeOps>::cube_int8_linear(
                x.into_dispatch(),
                values.clone().into_dispatch(),
                scales.clone().into_dispatch(),
            ))
        }
        QuantizedMatrix::Uint4Groups(Uint4Groups {
            packed,
            scales,
            zero_points,
            group,
        }) => {
            // w = (q - 8) scale + middle, with middle = zero point + 8 scale: its part of a product is the mean
            // of a group of x, which no dtype overflows, by the group's size and middle.
            let [rows, inputs] = x.dims();
            let dtype = x.dtype();
            let groups: Tensor<3> = x.clone().reshape([rows, inputs / group, *group]);
            let means: Tensor<2> = groups.cast(DType::F32).mean_dim(2).squeeze_dim(2);
            let middles = (zero_points.clone() + scales.clone() * 8.0) * *group as f64; // [out, groups]
            let of_middles = means.cast(dtype).matmul(middles.cast(dtype).transpose());
            let steps: Tensor<2> = Tensor::from_dispatch(<Dispatch as CubeOps>::cube_uint4_linear(
                x.into_dispatch(),
                packed.clone().into_dispatch(),
                scales.clone().into_dispatch(),
                *group,
            ));
            steps + of_middles
        }
    }
}
