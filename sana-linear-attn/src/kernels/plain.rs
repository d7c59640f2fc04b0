//! The operations in plain tensor operations: what runs where there is no kernel, and the oracle of
//! those that there are.

use burn::tensor::activation::{gelu_approximate, relu, silu, softmax};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor};

use super::attention::{ATTENTION_EPS, join_heads, split_heads};
use crate::kernels::layout::pixels::{channels_last, pixel_shuffle, repeat_channels};
use crate::kernels::linear::epilogue::Epilogue;
use crate::quantization::QuantizedMatrix;

const SQRT_2_OVER_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

/// [`relu_linear_attention`](super::relu_linear_attention) in plain tensor operations.
///
/// # Shapes
/// - `query`, `key`, `value` and the result: `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `head_dim` does not divide the channels.
pub fn relu_linear_attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    head_dim: usize,
) -> Tensor<3> {
    let query = split_heads(query, head_dim); // [batch, heads, tokens, head_dim]
    let key = split_heads(key, head_dim);
    let value = split_heads(value, head_dim);
    attend(query, key, value)
}

/// [`relu_linear_attention_packed`](super::relu_linear_attention_packed) in plain tensor operations.
///
/// # Shapes
/// - `qkv` `[batch, tokens, heads * 3 * head_dim]`
/// - result `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `3 * head_dim` does not divide the channels.
pub fn relu_linear_attention_packed(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    let [query, key, value] = split_packed(qkv, head_dim);
    attend(query, key, value)
}

/// The attention of heads `[batch, heads, tokens, head_dim]`, put together again.
fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
    let dtype = query.dtype();
    let [query, key, value] = [query, key, value].map(|x| x.cast(DType::F32));
    let (query, key) = (relu(query), relu(key));
    let key_sum = key.clone().sum_dim(2); // [batch, heads, 1, head_dim]
    let key_value = key.swap_dims(2, 3).matmul(value); // [batch, heads, head_dim, head_dim]
    let numerator = query.clone().matmul(key_value); // [batch, heads, tokens, head_dim]
    let denominator = query.matmul(key_sum.swap_dims(2, 3)); // [batch, heads, tokens, 1]
    join_heads(numerator / (denominator + ATTENTION_EPS)).cast(dtype)
}

/// The same attention by its definition, with the tokens-by-tokens map written out: quadratic in
/// the number of tokens. Oracle of [`relu_linear_attention`].
///
/// # Shapes
/// - `query`, `key`, `value` and the result: `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `head_dim` does not divide the channels.
pub fn relu_quadratic_attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    head_dim: usize,
) -> Tensor<3> {
    let [query, key, value] = [query, key, value].map(|x| split_heads(x, head_dim));
    attend_by_map(query, key, value)
}

/// [`relu_quadratic_attention`] of one tensor with query, key and value of each head side by side.
///
/// # Shapes
/// - `qkv` `[batch, tokens, heads * 3 * head_dim]`
/// - result `[batch, tokens, heads * head_dim]`
///
/// # Panics
/// If `3 * head_dim` does not divide the channels.
pub fn relu_quadratic_attention_packed(qkv: Tensor<3>, head_dim: usize) -> Tensor<3> {
    let [query, key, value] = split_packed(qkv, head_dim);
    attend_by_map(query, key, value)
}

/// The attention of heads `[batch, heads, tokens, head_dim]` with its map, put together again.
fn attend_by_map(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
    let dtype = query.dtype();
    let [query, key, value] = [query, key, value].map(|x| x.cast(DType::F32));
    let map = relu(query).matmul(relu(key).swap_dims(2, 3)); // [batch, heads, tokens, tokens]
    let map = map.clone() / (map.sum_dim(3) + ATTENTION_EPS);
    join_heads(map.matmul(value)).cast(dtype)
}

/// Queries, keys and values, each `[batch, heads, tokens, head_dim]`.
fn split_packed(qkv: Tensor<3>, head_dim: usize) -> [Tensor<4>; 3] {
    let heads = split_heads(qkv, 3 * head_dim); // [batch, heads, tokens, 3 * head_dim]
    [0, 1, 2].map(|part| heads.clone().narrow(3, part * head_dim, head_dim))
}

/// [`softmax_attention`](crate::kernels::softmax_attention) in plain tensor operations.
pub fn softmax_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4>>,
    scale: f64,
    softcap: Option<f64>,
) -> Tensor<3> {
    let dtype = query.dtype();
    let [batch, heads, tokens, head_dim] = query.dims();
    let [_, key_heads, keys, _] = key.dims();
    // Query heads that share a key head are neighbours, so they fold into its rows.
    let rows = heads / key_heads * tokens;
    let query = (query * scale).reshape([batch, key_heads, rows, head_dim]);
    let scores = query.matmul(key.swap_dims(2, 3)).cast(DType::F32); // [batch, key_heads, rows, keys]
    let scores = scores.reshape([batch, heads, tokens, keys]);
    let scores = match softcap {
        Some(cap) => tanh(scores / cap) * cap,
        None => scores,
    };
    let scores = match mask {
        Some(mask) => scores + mask,
        None => scores,
    };
    let weights = softmax(scores, 3).reshape([batch, key_heads, rows, keys]);
    weights
        .cast(dtype)
        .matmul(value)
        .reshape([batch, heads, tokens, head_dim])
        .swap_dims(1, 2) // [batch, tokens, heads, head_dim]
        .reshape([batch, tokens, heads * head_dim])
}

/// [`linear`](super::linear) in plain tensor operations, all of one dtype.
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    epilogue: Epilogue,
) -> Tensor<2> {
    finish(x.matmul(weight.transpose()), bias, epilogue)
}

/// What follows the product of a linear layer, `[rows, out]`.
pub(super) fn finish(y: Tensor<2>, bias: Option<Tensor<1>>, epilogue: Epilogue) -> Tensor<2> {
    let y = match bias {
        // Broadcasting has no word for a dimension of 0.
        Some(bias) if bias.dims() != [0] => y + bias.unsqueeze::<2>(),
        _ => y,
    };
    match epilogue {
        Epilogue::None => y,
        Epilogue::Silu => silu(y),
    }
}

/// [`quantized_linear`](crate::kernels::quantized_linear) in plain tensor operations: the weight as floats, multiplied as
/// floats.
pub fn quantized_linear(
    x: Tensor<2>,
    weight: &QuantizedMatrix,
    bias: Option<Tensor<1>>,
    epilogue: Epilogue,
) -> Tensor<2> {
    let weight = weight.dequantize(x.dtype());
    linear(x, weight, bias, epilogue)
}

/// The rows that [`quantized_linear`](super::quantized_linear) multiplies on the CPU, as floats: each rounded to whole
/// multiples, from -127 to 127, of the least number with which that holds the row.
///
/// # Shapes
/// - `x` and result `[rows, channels]`
pub fn quantized_rows(x: Tensor<2>) -> Tensor<2> {
    let scale = x.clone().abs().max_dim(1) / 127.0; // [rows, 1]
    let inverse = scale.clone().clamp_min(1e-37).recip();
    (x * inverse).round() * scale
}

/// [`grouped_linear`](super::grouped_linear) in plain tensor operations: a batched product, since burn's GPU backends
/// have only a slow direct kernel for grouped convolutions.
pub fn grouped_linear(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let [batch, tokens, channels] = x.dims();
    let [_, size] = weight.dims();
    let groups = channels / size;
    let weight = weight.reshape([groups, size, size]).swap_dims(1, 2); // [groups, in, out]
    let x = x.reshape([batch * tokens, groups, size]).swap_dims(0, 1); // [groups, batch * tokens, in]
    x.matmul(weight)
        .swap_dims(0, 1)
        .reshape([batch, tokens, channels])
}

/// [`conv3x3`](super::conv3x3) as burn's own convolution.
pub fn conv3x3(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    conv2d(
        x,
        weight,
        None,
        ConvOptions::new([stride, stride], [1, 1], [1, 1], 1),
    )
}

/// [`depthwise_tokens`](super::depthwise_tokens) as burn's own grouped convolution. It gets no bias: burn's fast depthwise
/// path on GPUs refuses one.
pub fn depthwise_tokens(x: Tensor<3>, weight: Tensor<4>, grid: [usize; 2]) -> Tensor<3> {
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

/// Layer norm without learnt scale or shift over the last axis:
/// `(x - mean) / sqrt(var + eps)`, the variance biased, in f32, cast back once.
///
/// # Shapes
/// - `x` and result `[.., channels]`
pub fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().square().mean_dim(D - 1);
    (centred / (variance + eps).sqrt()).cast(dtype)
}

/// [`norm_modulate`](super::norm_modulate) in plain tensor operations.
pub fn norm_modulate(x: Tensor<3>, scale: Tensor<3>, shift: Tensor<3>, eps: f64) -> Tensor<3> {
    layer_norm(x, eps) * (scale + 1.0) + shift
}

/// [`gated_residual`](super::gated_residual) in plain tensor operations.
pub fn gated_residual(x: Tensor<3>, gate: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    x + gate * y
}

/// [`rms_norm_channels`](super::rms_norm_channels) in plain tensor operations.
pub fn rms_norm_channels<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    if x.dims()[axis] == 0 {
        return x;
    }
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mut broadcast = [1; D];
    broadcast[axis] = x.dims()[axis];
    let mean_square = x.clone().square().mean_dim(axis);
    let scale = weight.cast(DType::F32).reshape(broadcast);
    let y = x / (mean_square + eps).sqrt() * scale;
    let y = match bias {
        Some(bias) => y + bias.cast(DType::F32).reshape(broadcast),
        None => y,
    };
    y.cast(dtype)
}

/// [`silu_gate`](super::silu_gate) in plain tensor operations.
pub fn silu_gate(x: Tensor<3>) -> Tensor<3> {
    if x.dims()[2] == 0 {
        return x;
    }
    let half = x.dims()[2] / 2;
    let value = x.clone().narrow(2, 0, half);
    let gate = x.narrow(2, half, half);
    value * burn::tensor::activation::silu(gate)
}

/// [`gelu_gate`](super::gelu_gate) in plain tensor operations. The cube is a product: shader `pow` is undefined for
/// negative bases.
pub fn gelu_gate(gate: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
    let dtype = gate.dtype();
    let x = gate.cast(DType::F32);
    let inner = (x.clone().square() * (0.044715 * SQRT_2_OVER_PI) + SQRT_2_OVER_PI) * x.clone();
    ((tanh(inner) + 1.0) * x * 0.5).cast(dtype) * up
}

/// GELU in its tanh form, without an up projection. In browsers without `pow`, for the reason of [`gelu_gate`].
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match cfg!(target_family = "wasm") {
        false => gelu_approximate(x),
        true => {
            let inner = (x.clone() + x.clone().square() * x.clone() * 0.044715) * SQRT_2_OVER_PI;
            x * (tanh(inner) + 1.0) * 0.5
        }
    }
}

/// The hyperbolic tangent. WGSL lets it be `sinh / cosh`, which is NaN where these overflow, and SwiftShader, for
/// one, does it so; 20 is far below that, and its tangent 1 in f32.
fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match cfg!(target_family = "wasm") {
        true => x.clamp(-20.0, 20.0).tanh(),
        false => x.tanh(),
    }
}

/// [`nearest_upsample`](super::nearest_upsample) in plain tensor operations.
pub fn nearest_upsample(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    if x.dims().contains(&0) {
        let shape = [batch, channels, 2 * height, 2 * width];
        return Tensor::zeros(shape, (&x.device(), x.dtype()));
    }
    if channels_last(&x.device()) {
        return x
            .permute([0, 2, 3, 1])
            .reshape([batch, height, 1, width, 1, channels])
            .expand([batch, height, 2, width, 2, channels])
            .reshape([batch, 2 * height, 2 * width, channels])
            .permute([0, 3, 1, 2]);
    }
    x.reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}

/// [`add_upsampled`](super::add_upsampled) in plain tensor operations.
pub fn add_upsampled(y: Tensor<4>, x: Tensor<4>, repeats: usize) -> Tensor<4> {
    if repeats == 4 {
        return y + nearest_upsample(x);
    }
    y + pixel_shuffle(repeat_channels(x, repeats))
}
