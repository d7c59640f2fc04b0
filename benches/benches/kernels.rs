//! Every kernel of `sana-linear-attn` beside its plain form, at shapes of the 1.6B transformer and of
//! DC-AE. Off the CPU, and in 16-bit floats, both are the plain form.

use std::process::ExitCode;

use burn::tensor::Tensor;
use burn::tensor::activation;
use sana_benches::{Case, Suite, assert_close, run, shape};
use sana_linear_attn::kernels::{
    conv3x3, conv3x3_plain, depthwise_tokens, depthwise_tokens_plain, rms_norm_channels,
    rms_norm_channels_plain, silu, silu_gate, silu_gate_plain,
};

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
                |x, weight| conv3x3_plain(x, weight, 1),
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
                |x, weight| depthwise_tokens_plain(x, weight, [side, side]),
            );
        }
        for [channels, size] in suite.shapes([6, 5], &[[128, 256], [1024, 16]]) {
            compare(
                suite,
                "rms_norm_image",
                [suite.batch(), channels, size, size],
                [channels],
                |x, weight| rms_norm_channels(x, weight, None, 1e-5, 1),
                |x, weight| rms_norm_channels_plain(x, weight, None, 1e-5, 1),
            );
        }
        for [tokens, channels] in suite.shapes([9, 6], &[[256, 2240], [1024, 2240]]) {
            compare(
                suite,
                "rms_norm_tokens",
                [suite.batch(), tokens, channels],
                [channels],
                |x, weight| rms_norm_channels(x, weight, None, 1e-5, 2),
                |x, weight| rms_norm_channels_plain(x, weight, None, 1e-5, 2),
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
                |x, _| silu_gate_plain(x),
            );
        }
    })
}

/// Measures both forms of an operation of an input and a weight.
fn compare<const X: usize, const W: usize>(
    suite: &mut Suite,
    op: &str,
    input: [usize; X],
    weight: [usize; W],
    fast: impl Fn(Tensor<X>, Tensor<W>) -> Tensor<X>,
    plain: impl Fn(Tensor<X>, Tensor<W>) -> Tensor<X>,
) {
    let bound = suite.bound();
    let mut measure = |op: &str, form: &dyn Fn(Tensor<X>, Tensor<W>) -> Tensor<X>| {
        suite.measure(
            Case {
                area: "kernels",
                op,
                shape: &shape(input),
                elements: input.iter().product(),
            },
            |suite| (suite.random(1, input), suite.random(2, weight)),
            |(x, weight)| form(x.clone(), weight.clone()),
            |(x, weight), answer| assert_close(answer, plain(x.clone(), weight.clone()), bound),
        );
    };
    measure(op, &fast);
    measure(&format!("{op}-plain"), &plain);
}
