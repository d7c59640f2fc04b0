//! Kernels on tensors of which a dimension is 0: the plain form's result, empty or zeros.

use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::kernels::*;
use sana_linear_attn::parity::{device, values};
use sana_linear_attn::precision::Bf16Gemm;

fn ones<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::ones(shape, (&device(), DType::F32))
}

#[track_caller]
fn same<const D: usize>(fast: Tensor<D>, plain: Tensor<D>) {
    assert_eq!(fast.dims(), plain.dims());
    assert_eq!(values(fast), values(plain));
}

/// No rows, no inputs, no outputs; without inputs the result is the bias.
#[test]
fn linear_layers() {
    for [rows, input, output] in [[0, 3, 2], [2, 0, 3], [2, 3, 0], [0, 0, 0]] {
        for epilogue in [Epilogue::None, Epilogue::Silu] {
            for bias in [None, Some(ones([output]))] {
                for dtype in [DType::F32, DType::BF16] {
                    let (x, weight) = (ones([rows, input]), ones([output, input]));
                    let stored = weight.clone().cast(dtype);
                    let fast = linear(x.clone(), stored, bias.clone(), epilogue, Bf16Gemm::Native);
                    same(fast, plain::linear(x, weight, bias.clone(), epilogue));
                }
            }
        }
    }
    let (x, weight) = (ones([0, 4, 6]), ones([6, 3]));
    same(
        grouped_linear(x.clone(), weight.clone()),
        plain::grouped_linear(x, weight),
    );
}

/// No images; no pixels of images.
#[test]
fn convolutions() {
    let weight = ones([16, 16, 3, 3]);
    let x = ones([0, 16, 4, 8]);
    same(conv3x3(x.clone(), weight.clone(), 1), ones([0, 16, 4, 8]));
    same(conv3x3(x.clone(), weight.clone(), 2), ones([0, 16, 2, 4]));
    let bias = Some(ones([16]));
    let fused = conv3x3_fused(x.clone(), weight.clone(), bias.clone(), 1, Epilogue::Silu);
    same(fused, ones([0, 16, 4, 8]));
    same(conv3x3_upsampled(x, weight, bias), ones([0, 16, 8, 16]));

    let (x, weight) = (ones([0, 6, 4]), ones([4, 1, 3, 3]));
    let out = depthwise_tokens(x.clone(), weight.clone(), [2, 3]);
    same(out, ones([0, 6, 4]));
    same(
        depthwise_gate(x, weight, ones([4]), [2, 3]),
        ones([0, 6, 2]),
    );
}

#[test]
fn norms() {
    for shape in [[0, 3, 4], [2, 0, 4], [2, 3, 0]] {
        for axis in 0..3 {
            let (x, weight) = (ones(shape), ones([shape[axis]]));
            for bias in [None, Some(ones([shape[axis]]))] {
                let fast = rms_norm_channels(x.clone(), weight.clone(), bias.clone(), 1e-6, axis);
                let (bias, weight) = (bias.clone(), weight.clone());
                let expected =
                    plain::rms_norm_channels(x.clone(), weight.clone(), bias.clone(), 1e-6, axis);
                same(fast, expected.clone());
                let added = rms_norm_residual(x.clone(), weight, bias, x.clone(), 1e-6, axis);
                same(added, expected + x.clone());
            }
        }
        let x = ones(shape);
        let of_item = ones([shape[0], 1, shape[2]]);
        let fast = norm_modulate(x.clone(), of_item.clone(), of_item.clone(), 1e-6);
        same(
            fast,
            plain::norm_modulate(x.clone(), of_item.clone(), of_item.clone(), 1e-6),
        );
        let fast = gated_residual(x.clone(), of_item.clone(), x.clone());
        same(fast, plain::gated_residual(x.clone(), of_item, x));
    }
}

/// No items, no queries, no keys.
#[test]
fn attention() {
    for [batch, queries, keys] in [[0, 3, 3], [2, 0, 3], [0, 0, 0]] {
        let (query, key) = (ones([batch, queries, 8]), ones([batch, keys, 8]));
        let fast = relu_linear_attention(query.clone(), key.clone(), key.clone(), 4);
        same(
            fast,
            plain::relu_linear_attention(query, key.clone(), key, 4),
        );
        let (query, key) = (ones([batch, 2, queries, 4]), ones([batch, 2, keys, 4]));
        let fast = softmax_attention(query.clone(), key.clone(), key.clone(), None, 0.5, None);
        same(
            fast,
            plain::softmax_attention(query, key.clone(), key, None, 0.5, None),
        );
    }
    for shape in [[0, 5, 24], [2, 0, 24]] {
        let fast = relu_linear_attention_packed(ones(shape), 4);
        same(fast, plain::relu_linear_attention_packed(ones(shape), 4));
    }
}

#[test]
fn elementwise_and_layout() {
    for shape in [[0, 3, 4], [2, 0, 4], [2, 3, 0]] {
        let x = ones(shape);
        same(silu(x.clone()), x.clone());
        same(add(x.clone(), x.clone()), x.clone());
        same(silu_gate(x.clone()), plain::silu_gate(x.clone()));
        same(gelu_gate(x.clone(), x.clone()), x.clone());
        let halves = x.clone().cast(DType::BF16);
        same(cast(halves, DType::F32), x);
    }
    for shape in [[0, 4, 2, 3], [2, 0, 2, 3], [2, 4, 0, 3]] {
        let x = ones(shape);
        let [batch, channels, height, width] = shape;
        same(
            nearest_upsample(x.clone()),
            ones([batch, channels, 2 * height, 2 * width]),
        );
        let tokens = image_to_tokens(x.clone());
        assert_eq!(tokens.dims(), [batch, height * width, channels]);
        same(tokens_to_image(tokens, [height, width]), x);
    }
}

/// Gradients of nothing are empty or zeros.
#[test]
fn gradients() {
    let device = Device::flex().autodiff();
    let x = Tensor::<2>::zeros([0, 3], &device).require_grad();
    let weight = Tensor::<2>::ones([2, 3], &device).require_grad();
    let y = linear(x, weight.clone(), None, Epilogue::None, Bf16Gemm::Native);
    let grads = y.sum().backward();
    let gradient = weight.grad(&grads).map(values);
    assert_eq!(gradient.expect("a gradient"), [0.0; 6]);
}
