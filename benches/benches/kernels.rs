//! The kernels of `sana-linear-attn` next to their plain forms, at shapes of the 1.6B transformer and of
//! DC-AE, but for linear attention (see `attention.rs`), grouped products and copies. Where a device
//! has no kernel of its own, as `sana_linear_attn::kernels` says, both columns time the plain form.

use std::process::ExitCode;

use burn::tensor::activation;
use burn::tensor::{DType, Tensor};
use sana_benches::{Case, Suite, assert_close, run, shape};
use sana_linear_attn::kernels::*;
use sana_linear_attn::precision::{Bf16Gemm, is_cpu};
use sana_linear_attn::quantization::QuantizedMatrix;

fn main() -> ExitCode {
    run(|suite| {
        for [input, output, size] in suite.shapes(
            [3, 5, 9],
            &[[128, 128, 256], [256, 256, 128], [512, 512, 64]],
        ) {
            compare(
                suite,
                "conv3x3",
                [suite.batch(), input, size, size],
                [output, input, 3, 3],
                |x, weight| conv3x3(x, weight, 1),
                |x, weight| plain::conv3x3(x, weight, 1),
            );
        }
        // Twice 2.5 times the width of 2240.
        for [channels, side] in suite.shapes([7, 3], &[[11200, 16], [11200, 32]]) {
            compare(
                suite,
                "depthwise3x3",
                [suite.batch(), side * side, channels],
                [channels, 1, 3, 3],
                |x, weight| depthwise_tokens(x, weight, [side, side]),
                |x, weight| plain::depthwise_tokens(x, weight, [side, side]),
            );
        }
        for [channels, size] in suite.shapes([6, 5], &[[128, 256], [1024, 16]]) {
            compare(
                suite,
                "rms_norm_image",
                [suite.batch(), channels, size, size],
                [channels],
                |x, weight| rms_norm_channels(x, weight, None, 1e-5, 1),
                |x, weight| plain::rms_norm_channels(x, weight, None, 1e-5, 1),
            );
        }
        for [tokens, channels] in suite.shapes([9, 6], &[[256, 2240], [1024, 2240]]) {
            compare(
                suite,
                "rms_norm_tokens",
                [suite.batch(), tokens, channels],
                [channels],
                |x, weight| rms_norm_channels(x, weight, None, 1e-5, 2),
                |x, weight| plain::rms_norm_channels(x, weight, None, 1e-5, 2),
            );
        }
        for [tokens, channels] in suite.shapes([9, 6], &[[256, 11200], [1024, 11200]]) {
            let dims = [suite.batch(), tokens, channels];
            compare(
                suite,
                "silu",
                dims,
                [1],
                |x, _| silu(x),
                |x, _| activation::silu(x),
            );
            compare(
                suite,
                "silu_gate",
                dims,
                [1],
                |x, _| silu_gate(x),
                |x, _| plain::silu_gate(x),
            );
        }
        inference(suite);
    })
}

/// Kernels of inference alone.
fn inference(suite: &mut Suite) {
    // Products of a 0.6B block at 512 px with guidance, and Gemma-2's widest.
    let products = [[512, 1152, 5760], [512, 2880, 1152], [300, 2304, 9216]];
    for [rows, depth, columns] in suite.shapes([5, 6, 7], &products) {
        let label = format!("{rows}x{depth}->{columns}");
        let size = rows * columns;
        forms(
            suite,
            "linear",
            &label,
            size,
            |suite| {
                (
                    suite.random(1, [rows, depth]),
                    suite.random(2, [columns, depth]),
                )
            },
            |(x, weight)| {
                linear(
                    x.clone(),
                    weight.clone(),
                    None,
                    Epilogue::None,
                    Bf16Gemm::Native,
                )
            },
            |(x, weight)| plain::linear(x.clone(), weight.clone(), None, Epilogue::None),
        );
        // Where the CPU multiplies bf16 `x` is rounded, so the plain form rounds it too, and it
        // widens the weight, as layers do elsewhere.
        forms(
            suite,
            "linear_bf16",
            &label,
            size,
            |suite| {
                let weight = suite.random::<2>(2, [columns, depth]).cast(DType::BF16);
                (suite.random(1, [rows, depth]), weight)
            },
            |(x, weight)| {
                linear(
                    x.clone(),
                    weight.clone(),
                    None,
                    Epilogue::None,
                    Bf16Gemm::Native,
                )
            },
            |(x, weight)| {
                let dtype = x.dtype();
                let x = match Bf16Gemm::is_supported() {
                    true => x.clone().cast(DType::BF16).cast(dtype),
                    false => x.clone(),
                };
                plain::linear(x, cast(weight.clone(), dtype), None, Epilogue::None)
            },
        );
    }
    quantized(suite);
    let images = [[128, 128, 256], [512, 512, 64]];
    for [input, output, size] in suite.shapes([17, 18, 5], &images) {
        let label = format!("{input}->{output} at {size}x{size}");
        let image = [suite.batch(), input, size, size];
        let elements = suite.batch() * output * size * size;
        let prepare = |suite: &Suite| {
            let weight = suite.random(2, [output, input, 3, 3]);
            (suite.random::<4>(1, image), weight)
        };
        forms(
            suite,
            "conv3x3_fused",
            &label,
            elements,
            prepare,
            |(x, weight)| conv3x3_fused(x.clone(), weight.clone(), None, 1, Epilogue::None),
            |(x, weight)| plain::conv3x3(x.clone(), weight.clone(), 1),
        );
        forms(
            suite,
            "conv3x3_upsampled",
            &label,
            4 * elements,
            prepare,
            |(x, weight)| conv3x3_upsampled(x.clone(), weight.clone(), None),
            |(x, weight)| plain::conv3x3(plain::nearest_upsample(x.clone()), weight.clone(), 1),
        );
        let doubled = [suite.batch(), input / 2, 2 * size, 2 * size];
        if input.is_multiple_of(2) {
            forms(
                suite,
                "add_upsampled",
                &shape(doubled),
                doubled.iter().product(),
                |suite| (suite.random(1, doubled), suite.random(2, image)),
                |(y, x)| add_upsampled(y.clone(), x.clone(), 2),
                |(y, x)| plain::add_upsampled(y.clone(), x.clone(), 2),
            );
        }
        forms(
            suite,
            "rms_norm_residual",
            &shape(image),
            image.iter().product(),
            |suite| {
                let affine = [2, 3].map(|seed| suite.random(seed, [input]));
                (suite.random(1, image), affine, suite.random(4, image))
            },
            |(x, [weight, bias], y)| {
                let bias = Some(bias.clone());
                rms_norm_residual(x.clone(), weight.clone(), bias, y.clone(), 1e-5, 1)
            },
            |(x, [weight, bias], y): &(Tensor<4>, [Tensor<1>; 2], Tensor<4>)| {
                let bias = Some(bias.clone());
                plain::rms_norm_channels(x.clone(), weight.clone(), bias, 1e-5, 1) + y.clone()
            },
        );
    }
    for [side, channels] in suite.shapes([3, 6], &[[16, 2240], [32, 2240]]) {
        let tokens = side * side;
        let rows = [suite.batch(), tokens, channels];
        let row = [suite.batch(), 1, channels];
        let prepare = |suite: &Suite| {
            let [scale, shift] = [2, 3].map(|seed| suite.random::<3>(seed, row));
            (
                suite.random::<3>(1, rows),
                scale,
                shift,
                suite.random::<3>(4, rows),
            )
        };
        let (label, elements) = (shape(rows), rows.iter().product());
        forms(
            suite,
            "norm_modulate",
            &label,
            elements,
            prepare,
            |(x, scale, shift, _)| norm_modulate(x.clone(), scale.clone(), shift.clone(), 1e-6),
            |(x, scale, shift, _)| {
                plain::norm_modulate(x.clone(), scale.clone(), shift.clone(), 1e-6)
            },
        );
        forms(
            suite,
            "gated_residual",
            &label,
            elements,
            prepare,
            |(x, gate, _, y)| gated_residual(x.clone(), gate.clone(), y.clone()),
            |(x, gate, _, y)| plain::gated_residual(x.clone(), gate.clone(), y.clone()),
        );
        let hidden = [suite.batch(), tokens, 5 * channels];
        forms(
            suite,
            "depthwise_gate",
            &shape(hidden),
            hidden.iter().product(),
            |suite| {
                let taps = suite.random(2, [5 * channels, 1, 3, 3]);
                let bias = suite.random(3, [5 * channels]);
                (suite.random(1, hidden), taps, bias)
            },
            |(x, taps, bias)| depthwise_gate(x.clone(), taps.clone(), bias.clone(), [side; 2]),
            |(x, taps, bias): &(Tensor<3>, Tensor<4>, Tensor<1>)| {
                let y = plain::depthwise_tokens(x.clone(), taps.clone(), [side; 2]);
                plain::silu_gate(y + bias.clone().unsqueeze::<3>())
            },
        );
    }
    // Gemma-2's attention and feed-forward of a prompt.
    for [tokens, heads, head_dim] in suite.shapes([5, 2, 4], &[[300, 8, 256]]) {
        let dims = [suite.batch(), heads, tokens, head_dim];
        let scale = 1.0 / (head_dim as f64).sqrt();
        forms(
            suite,
            "softmax_attention",
            &shape(dims),
            dims.iter().product(),
            |suite| {
                let mask = suite.random(4, [1, 1, tokens, tokens]);
                ([1, 2, 3].map(|seed| suite.random::<4>(seed, dims)), mask)
            },
            |([q, k, v], mask)| {
                let mask = Some(mask.clone());
                softmax_attention(q.clone(), k.clone(), v.clone(), mask, scale, Some(50.0))
            },
            |([q, k, v], mask): &([Tensor<4>; 3], Tensor<4>)| {
                let mask = Some(mask.clone());
                plain::softmax_attention(q.clone(), k.clone(), v.clone(), mask, scale, Some(50.0))
            },
        );
        let hidden = [suite.batch(), tokens, 36 * head_dim];
        forms(
            suite,
            "gelu_gate",
            &shape(hidden),
            hidden.iter().product(),
            |suite| [1, 2].map(|seed| suite.random::<3>(seed, hidden)),
            |[gate, up]| gelu_gate(gate.clone(), up.clone()),
            |[gate, up]| plain::gelu_gate(gate.clone(), up.clone()),
        );
    }
}

/// Products with quantized weights. The plain forms round what the CPU rounds: rows to 8 bits, and
/// weights of 4 bits to 8.
fn quantized(suite: &mut Suite) {
    // Products of a 0.6B block at 1024 px with guidance, and Gemma-2's widest.
    let products = [[2048, 1152, 5760], [2048, 2880, 1152], [300, 2304, 9216]];
    for [rows, depth, columns] in suite.shapes([5, 6, 7], &products) {
        let label = format!("{rows}x{depth}->{columns}");
        for (op, quantize) in [
            ("linear_int8", QuantizedMatrix::int8 as fn(Tensor<2>) -> _),
            ("linear_uint4", QuantizedMatrix::uint4),
        ] {
            forms(
                suite,
                op,
                &label,
                rows * columns,
                |suite| {
                    let weight = quantize(suite.random(2, [columns, depth]));
                    (suite.random(1, [rows, depth]), weight)
                },
                |(x, weight)| quantized_linear(x.clone(), weight, None, Epilogue::None),
                |(x, weight): &(Tensor<2>, QuantizedMatrix)| {
                    if !is_cpu(&x.device()) {
                        return plain::quantized_linear(x.clone(), weight, None, Epilogue::None);
                    }
                    let x = plain::quantized_rows(x.clone());
                    let weight = match weight {
                        QuantizedMatrix::Int8Rows(rows) => rows.dequantize(x.dtype()),
                        QuantizedMatrix::Uint4Groups(groups) => {
                            groups.to_int8().dequantize(x.dtype())
                        }
                    };
                    plain::linear(x, weight, None, Epilogue::None)
                },
            );
        }
    }
}

/// Measures both forms of an operation, and compares their answers.
fn forms<S, const Y: usize>(
    suite: &mut Suite,
    op: &str,
    label: &str,
    elements: usize,
    prepare: impl Fn(&Suite) -> S,
    fast: impl Fn(&S) -> Tensor<Y>,
    plain: impl Fn(&S) -> Tensor<Y>,
) {
    let bound = suite.bound();
    let mut measure = |op: &str, form: &dyn Fn(&S) -> Tensor<Y>| {
        suite.measure(
            Case {
                area: "kernels",
                op,
                shape: label,
                elements,
            },
            &prepare,
            |inputs| form(inputs),
            |inputs, answer| assert_close(answer, plain(inputs), bound),
        );
    };
    measure(op, &fast);
    measure(&format!("{op}-plain"), &plain);
}

/// [`forms`] of an operation of an input and a weight whose result has the input's shape.
fn compare<const X: usize, const W: usize>(
    suite: &mut Suite,
    op: &str,
    input: [usize; X],
    weight: [usize; W],
    fast: impl Fn(Tensor<X>, Tensor<W>) -> Tensor<X>,
    plain: impl Fn(Tensor<X>, Tensor<W>) -> Tensor<X>,
) {
    forms(
        suite,
        op,
        &shape(input),
        input.iter().product(),
        |suite| (suite.random(1, input), suite.random(2, weight)),
        |(x, weight)| fast(x.clone(), weight.clone()),
        |(x, weight)| plain(x.clone(), weight.clone()),
    );
}
