//! The operations as burn's `flex` backend has them.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, backend_extension};

use crate::kernels::flex::attention::{linear_attention, softmax_attention};
use crate::kernels::flex::conv::{depthwise_gate, few_outputs, winograd};
use crate::kernels::flex::gemm::{grouped_linear, linear};
use crate::kernels::flex::norm::{norm_modulate, rms_norm};
use crate::kernels::flex::{elementwise, layout};
use softmax_attention::Scores;

/// Forward operations of untracked f32 tensors; the weight of a linear layer may be bf16.
#[backend_extension(Flex)]
pub trait InferenceOps: Backend {
    /// See [`linear`](crate::kernels::linear); `x` is `[rows, in]`.
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
    /// See [`grouped_linear`](crate::kernels::grouped_linear).
    fn grouped_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`relu_linear_attention`](crate::kernels::relu_linear_attention).
    fn linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        head_dim: usize,
    ) -> FloatTensor<Self>;
    /// See [`relu_linear_attention_packed`](crate::kernels::relu_linear_attention_packed).
    fn packed_linear_attention(qkv: FloatTensor<Self>, head_dim: usize) -> FloatTensor<Self>;
    /// See [`softmax_attention`](crate::kernels::softmax_attention), without a mask.
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
    /// See [`rms_norm_channels`](crate::kernels::rms_norm_channels), with a shift.
    fn rms_norm_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self>;
    /// See [`rms_norm_residual`](crate::kernels::rms_norm_residual).
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
    /// See [`nearest_upsample`](crate::kernels::nearest_upsample).
    fn upsample(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`add`](crate::kernels::add).
    fn add_equal(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`gelu_gate`](crate::kernels::gelu_gate).
    fn gelu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// See [`norm_modulate`](crate::kernels::norm_modulate).
    fn norm_modulate(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
    /// See [`gated_residual`](crate::kernels::gated_residual).
    fn gated_residual(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// See [`depthwise_gate`](crate::kernels::depthwise_gate); `taps` is `[kernel * kernel, channels]`.
    fn depthwise_gate(
        x: FloatTensor<Self>,
        taps: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self>;
    /// See [`add_upsampled`](crate::kernels::add_upsampled).
    fn add_upsampled(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        repeats: usize,
    ) -> FloatTensor<Self>;
    /// See [`conv3x3_fused`](crate::kernels::conv3x3_fused) of stride 1 to few outputs.
    fn few_outputs(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
    /// [`few_outputs`](Self::few_outputs) with bias.
    fn few_outputs_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// See [`conv3x3_fused`](crate::kernels::conv3x3_fused) of stride 1, and of `doubled` input
    /// [`conv3x3_upsampled`](crate::kernels::conv3x3_upsampled), without bias.
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
        linear::forward(x, weight, Some(bias), silu)
    }

    fn linear_unbiased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        silu: bool,
    ) -> FloatTensor<Self> {
        linear::forward(x, weight, None, silu)
    }

    fn grouped_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        grouped_linear::forward(x, weight)
    }

    fn linear_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        head_dim: usize,
    ) -> FloatTensor<Self> {
        linear_attention::separate(query, key, value, head_dim)
    }

    fn packed_linear_attention(qkv: FloatTensor<Self>, head_dim: usize) -> FloatTensor<Self> {
        linear_attention::packed(qkv, head_dim)
    }

    fn softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        scores: Scores,
    ) -> FloatTensor<Self> {
        softmax_attention::forward(query, key, value, None, scores)
    }

    fn masked_softmax_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        scores: Scores,
    ) -> FloatTensor<Self> {
        softmax_attention::forward(query, key, value, Some(mask), scores)
    }

    fn rms_norm_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        rms_norm::forward(x, weight, Some(bias), None, eps, axis)
    }

    fn rms_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        eps: f64,
        axis: usize,
    ) -> FloatTensor<Self> {
        rms_norm::forward(x, weight, Some(bias), Some(residual), eps, axis)
    }

    fn transpose_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        layout::transpose(x)
    }

    fn upsample(x: FloatTensor<Self>) -> FloatTensor<Self> {
        layout::upsample(x)
    }

    fn add_equal(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::add(x, y)
    }

    fn gelu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        elementwise::gelu_gate(gate, up)
    }

    fn norm_modulate(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        norm_modulate::norm_modulate(x, scale, shift, eps)
    }

    fn gated_residual(
        x: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        y: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        norm_modulate::gated_residual(x, gate, y)
    }

    fn depthwise_gate(
        x: FloatTensor<Self>,
        taps: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        height: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        depthwise_gate::forward(x, taps, bias, [height, width])
    }

    fn add_upsampled(
        y: FloatTensor<Self>,
        x: FloatTensor<Self>,
        repeats: usize,
    ) -> FloatTensor<Self> {
        layout::add_upsampled(y, x, repeats)
    }

    fn few_outputs(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        few_outputs::forward(x, weight, None)
    }

    fn few_outputs_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        few_outputs::forward(x, weight, Some(bias))
    }

    fn winograd(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        doubled: bool,
        silu: bool,
    ) -> FloatTensor<Self> {
        winograd::forward(x, weight, None, doubled, silu)
    }

    fn winograd_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        doubled: bool,
        silu: bool,
    ) -> FloatTensor<Self> {
        winograd::forward(x, weight, Some(bias), doubled, silu)
    }
}
