//! The CPU kernels that serve inference alone: operations of the `flex` backend without gradients.

mod backend;
mod quantized;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use self::backend::InferenceOps;
pub(crate) use self::quantized::quantized_linear;
use crate::kernels::flex::attention::softmax_attention::Scores;

pub(crate) fn linear(
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

pub(crate) fn grouped_linear(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::grouped_linear(x, weight))
}

pub(crate) fn linear_attention(
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

pub(crate) fn packed_linear_attention(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    let qkv = qkv.into_dispatch();
    Tensor::from_dispatch(<Dispatch as InferenceOps>::packed_linear_attention(
        qkv, head_dim,
    ))
}

pub(crate) fn softmax_attention(
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

pub(crate) fn rms_norm<const D: usize>(
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

pub(crate) fn transpose(x: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as InferenceOps>::transpose_rows(
        x.into_dispatch(),
    ))
}

pub(crate) fn upsample(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as InferenceOps>::upsample(x.into_dispatch()))
}

pub(crate) fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    let (x, y) = (x.into_dispatch(), y.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::add_equal(x, y))
}

pub(crate) fn gelu_gate(gate: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::gelu_gate(gate, up))
}

pub(crate) fn norm_modulate(
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

pub(crate) fn gated_residual(x: Tensor<3>, gate: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    let (x, gate, y) = (x.into_dispatch(), gate.into_dispatch(), y.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::gated_residual(x, gate, y))
}

pub(crate) fn depthwise_gate(
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

pub(crate) fn add_upsampled(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    let (y, x) = (y.into_dispatch(), x.into_dispatch());
    Tensor::from_dispatch(<Dispatch as InferenceOps>::add_upsampled(y, x, repeats))
}

pub(crate) fn few_outputs(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => {
            let bias = bias.into_dispatch();
            <Dispatch as InferenceOps>::few_outputs_bias(x, weight, bias)
        }
        None => <Dispatch as InferenceOps>::few_outputs(x, weight),
    })
}

pub(crate) fn winograd(
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
