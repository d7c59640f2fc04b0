//! The CPU kernels that serve inference alone: operations of the `flex` backend without gradients.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::flex;
use super::flex::softmax_attention::Scores;

/// Forward operations of untracked f32 tensors; the weight of a linear layer may be bf16.
#[backend_extension(Flex)]
pub trait InferenceOps: Backend {
    /// See [`linear`](super::linear); `x` is `[rows, in]`.
    fn linear_fused(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self>;
    /// [`linear_fused`](Self::linear_fused) without bias.
    fn linear_unbiased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self>;
    /// See [`grouped_linear`](super::grouped_linear).
    fn grouped_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`relu_linear_attention`](super::relu_linear_attention).
    fn linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        head_dim: usize,
    ) -> FloatTensor<Self>;
    /// See [`relu_linear_attention_packed`](super::relu_linear_attention_packed).
    fn packed_linear_attention(qkv: FloatTensor<Self>, head_dim: usize) -> FloatTensor<Self>;
    /// See [`softmax_attention`](super::softmax_attention), without a mask.
    fn softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scores: Scores,
    ) -> FloatTensor<Self>;
    /// [`softmax_attention`](Self::softmax_attention) with a mask.
    fn masked_softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scores: Scores,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm_channels`](super::rms_norm_channels), with a shift.
    fn rms_norm_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm_residual`](super::rms_norm_residual).
    fn rms_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self>;
    /// `[batch, rows, columns]` to `[batch, columns, rows]`.
    fn transpose_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`nearest_upsample`](super::nearest_upsample).
    fn upsample(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`add`](super::add).
    fn add_equal(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`gelu_gate`](super::gelu_gate).
    fn gelu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`norm_modulate`](super::norm_modulate).
    fn norm_modulate(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
    /// See [`gated_residual`](super::gated_residual).
    fn gated_residual(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// See [`depthwise_gate`](super::depthwise_gate); `taps` is `[kernel * kernel, channels]`.
    fn depthwise_gate(
        x: FloatTensor<Self>,
        taps: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self>;
    /// See [`add_upsampled`](super::add_upsampled).
    fn add_upsampled(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        repeats: usize,
    ) -> FloatTensor<Self>;
    /// See [`conv3x3_fused`](super::conv3x3_fused) of stride 1, and of `doubled` input
    /// [`conv3x3_upsampled`](super::conv3x3_upsampled), without bias.
    fn winograd(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        doubled: bool,
        silu: bool,
    ) -> FloatTensor<Self>;
    /// [`winograd`](Self::winograd) with bias.
    fn winograd_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        doubled: bool,
        silu: bool,
    ) -> FloatTensor<Self>;
}

impl InferenceOps for Flex {
    fn linear_fused(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self> {
        flex::linear::forward(x, weight, Some(bias), silu)
    }

    fn linear_unbiased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self> {
        flex::linear::forward(x, weight, None, silu)
    }

    fn grouped_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        flex::grouped::forward(x, weight)
    }

    fn linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        head_dim: usize,
    ) -> FloatTensor<Self> {
        flex::attention::separate(query, key, value, head_dim)
    }

    fn packed_linear_attention(qkv: FloatTensor<Self>, head_dim: usize) -> FloatTensor<Self> {
        flex::attention::packed(qkv, head_dim)
    }

    fn softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scores: Scores,
    ) -> FloatTensor<Self> {
        flex::softmax_attention::forward(query, key, value, None, scores)
    }

    fn masked_softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scores: Scores,
    ) -> FloatTensor<Self> {
        flex::softmax_attention::forward(query, key, value, Some(mask), scores)
    }

    fn rms_norm_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        flex::rms_norm::forward(x, weight, Some(bias), None, eps, axis)
    }

    fn rms_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        flex::rms_norm::forward(x, weight, Some(bias), Some(residual), eps, axis)
    }

    fn transpose_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        flex::layout::transpose(x)
    }

    fn upsample(x: FloatTensor<Self>) -> FloatTensor<Self> {
        flex::layout::upsample(x)
    }

    fn add_equal(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        flex::elementwise::add(x, y)
    }

    fn gelu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        flex::elementwise::gelu_gate(gate, up)
    }

    fn norm_modulate(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        flex::modulate::norm_modulate(x, scale, shift, eps)
    }

    fn gated_residual(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        flex::modulate::gated_residual(x, gate, y)
    }

    fn depthwise_gate(
        x: FloatTensor<Self>,
        taps: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        flex::gated_depthwise::forward(x, taps, bias, [height, width])
    }

    fn add_upsampled(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        repeats: usize,
    ) -> FloatTensor<Self> {
        flex::layout::add_upsampled(y, x, repeats)
    }

    fn winograd(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        doubled: bool,
        silu: bool,
    ) -> FloatTensor<Self> {
        flex::winograd::forward(x, weight, None, doubled, silu)
    }

    fn winograd_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        doubled: bool,
        silu: bool,
    ) -> FloatTensor<Self> {
        flex::winograd::forward(x, weight, Some(bias), doubled, silu)
    }
}

/// Whether [`linear`] takes a bf16 weight of this depth.
pub(super) fn takes_bf16(depth: usize) -> bool {
    flex::linear::takes_bf16(depth)
}

pub(super) fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    silu: bool,
) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => {
            let bias = bias.into_dispatch();
            <Dispatch as InferenceOps>::linear_fused(x, weight, bias, silu)
        }
        None => <Dispatch as InferenceOps>::linear_unbiased(x, weight, silu),
    })
}

pub(super) fn grouped_linear(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::grouped_linear(x, weight))
}

pub(super) fn linear_attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    head_dim: usize,
) -> Tensor<3> {
    let (query, key) = (query.into_dispatch(), key.into_dispatch());
    let value = value.into_dispatch();
    Tensor::from_dispatch(<Dispatch as InferenceOps>::linear_attention(
        query, key, value, head_dim,
    ))
}

pub(super) fn packed_linear_attention(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(<Dispatch as InferenceOps>::packed_linear_attention(
        qkv, head_dim,
    ))
}

pub(super) fn softmax_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4>>,
    scale: f64,
    softcap: Option<f64>,
) -> Tensor<3> {
    let scores = Scores {
        scale: scale as f32,
        softcap: softcap.map(|cap| cap as f32),
    };
    let (query, key) = (query.into_dispatch(), key.into_dispatch());
    let value = value.into_dispatch();
    Tensor::from_dispatch(match mask {
        Some(mask) => {
            let mask = mask.into_dispatch();
            <Dispatch as InferenceOps>::masked_softmax_attention(query, key, value, mask, scores)
        }
        None => <Dispatch as InferenceOps>::softmax_attention(query, key, value, scores),
    })
}

pub(super) fn rms_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    residual: Option<Tensor<D>>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let bias = bias.into_dispatch();
    Tensor::from_dispatch(match residual {
        Some(residual) => {
            let residual = residual.into_dispatch();
            <Dispatch as InferenceOps>::rms_norm_residual(x, weight, bias, residual, eps, axis)
        }
        None => <Dispatch as InferenceOps>::rms_norm_bias(x, weight, bias, eps, axis),
    })
}

pub(super) fn transpose(x: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as InferenceOps>::transpose_rows(
        x.into_dispatch(),
    ))
}

pub(super) fn upsample(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as InferenceOps>::upsample(x.into_dispatch()))
}

pub(super) fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    let (x, y) = (x.into_dispatch(), y.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::add_equal(x, y))
}

pub(super) fn gelu_gate(gate: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::gelu_gate(gate, up))
}

pub(super) fn norm_modulate(
    x: Tensor<3>,
    scale: Tensor<3>,
    shift: Tensor<3>,
    eps: f64,
) -> Tensor<3> {
    let (scale, shift) = (scale.into_dispatch(), shift.into_dispatch());
    let x = x.into_dispatch();
    Tensor::from_dispatch(<Dispatch as InferenceOps>::norm_modulate(
        x, scale, shift, eps,
    ))
}

pub(super) fn gated_residual(x: Tensor<3>, gate: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    let (x, gate, y) = (x.into_dispatch(), gate.into_dispatch(), y.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::gated_residual(x, gate, y))
}

pub(super) fn depthwise_gate(
    x: Tensor<3>,
    taps: Tensor<2>,
    bias: Tensor<1>,
    [height, width]: [usize; 2],
) -> Tensor<3> {
    let (x, taps) = (x.into_dispatch(), taps.into_dispatch());
    let bias = bias.into_dispatch();
    Tensor::from_dispatch(<Dispatch as InferenceOps>::depthwise_gate(
        x, taps, bias, height, width,
    ))
}

pub(super) fn add_upsampled(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    let (y, x) = (y.into_dispatch(), x.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::add_upsampled(y, x, repeats))
}

pub(super) fn winograd(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    doubled: bool,
    silu: bool,
) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => {
            let bias = bias.into_dispatch();
            <Dispatch as InferenceOps>::winograd_bias(x, weight, bias, doubled, silu)
        }
        None => <Dispatch as InferenceOps>::winograd(x, weight, doubled, silu),
    })
}
