//! GLUMBConv, with the kernels of `sana-linear-attn` and in plain tensor operations: the feed-forward of
//! the transformer (2.5 times the width, 0.6B and 1.6B) and of DC-AE's deepest stage (4 times the
//! width, with norm and residual connection).

use std::process::ExitCode;

use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use sana_benches::{Case, Suite, assert_close, run, shape};
use sana_linear_attn::kernels::plain;
use sana_linear_attn::{GluMbConv, GluMbConvConfig, GluMbConvNorm};

#[derive(Clone, Copy)]
struct Layer {
    op: &'static str,
    channels: usize,
    expand_ratio: f64,
    dcae: bool,
    /// Tokens along each side.
    side: usize,
}

const fn transformer(channels: usize, side: usize) -> Layer {
    Layer {
        op: "transformer",
        channels,
        expand_ratio: 2.5,
        dcae: false,
        side,
    }
}

const fn dcae(channels: usize, side: usize) -> Layer {
    Layer {
        op: "dcae",
        channels,
        expand_ratio: 4.0,
        dcae: true,
        side,
    }
}

fn main() -> ExitCode {
    run(|suite| {
        let real = [
            transformer(1152, 16),
            transformer(1152, 32),
            transformer(2240, 16),
            transformer(2240, 32),
            dcae(1024, 16),
            dcae(1024, 32),
        ];
        for layer in suite.shapes(dcae(24, 5), &real) {
            measure(suite, layer, layer.op, |layer, x, side| {
                layer.forward(x, side, side)
            });
            measure(suite, layer, &format!("{}-plain", layer.op), plain);
        }
    })
}

fn measure(
    suite: &mut Suite,
    layer: Layer,
    op: &str,
    forward: impl Fn(&GluMbConv, Tensor<3>, usize) -> Tensor<3>,
) {
    let Layer { channels, side, .. } = layer;
    let dims = [suite.batch(), side * side, channels];
    let bound = suite.bound();
    suite.measure(
        Case {
            area: "glumbconv",
            op,
            shape: &shape(dims),
            elements: dims[0] * dims[1],
        },
        |suite| {
            let config = GluMbConvConfig {
                channels,
                out_channels: channels,
                expand_ratio: layer.expand_ratio,
                norm: if layer.dcae {
                    GluMbConvNorm::Rms
                } else {
                    GluMbConvNorm::None
                },
                residual: layer.dcae,
            };
            let module = suite.module(config.init(&suite.device()));
            (module, suite.random(1, dims))
        },
        |(module, x)| forward(module, x.clone(), side),
        |(module, x), answer| assert_close(answer, plain(module, x.clone(), side), bound),
    );
}

/// The layer with no kernel but burn's own. Only DC-AE's form has a norm, and that one has the
/// residual connection too.
fn plain(layer: &GluMbConv, x: Tensor<3>, side: usize) -> Tensor<3> {
    let hidden = silu(layer.conv_inverted.forward(x.clone()));
    let hidden = plain::depthwise_tokens(hidden, layer.conv_depth.weight.val(), [side, side]);
    let hidden = match &layer.conv_depth.bias {
        Some(bias) => hidden + bias.val().unsqueeze::<3>(),
        None => hidden,
    };
    let out = layer.conv_point.forward(plain::silu_gate(hidden));
    match &layer.norm {
        Some(norm) => {
            let bias = norm.bias.as_ref().map(|bias| bias.val());
            plain::rms_norm_channels(out, norm.weight.val(), bias, norm.eps, 2) + x
        }
        None => out,
    }
}
