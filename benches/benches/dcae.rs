//! Encoding and decoding with DC-AE f32c32 sana-1.1 (random weights) at 256 and 512 pixels, on GPUs
//! at 1024 too. The rate is in pixels of the image.

use std::process::ExitCode;

use burn::tensor::Tensor;
use sana_benches::{Case, Suite, assert_finite, run, shape};
use sana_dcae::{DcAe, DcAeConfig, DcAeError};

fn main() -> ExitCode {
    run(|suite| {
        let tiny = DcAeConfig {
            encoder_block_out_channels: vec![8, 8, 16, 32, 32, 32],
            decoder_block_out_channels: vec![8, 8, 16, 32, 32, 32],
            encoder_layers_per_block: vec![1; 6],
            decoder_layers_per_block: vec![1; 6],
            ..DcAeConfig::f32c32_sana_1_1()
        };
        let sizes: &[usize] = if suite.is_cpu() {
            &[256, 512]
        } else {
            &[256, 512, 1024]
        };
        let full = DcAeConfig::f32c32_sana_1_1();
        let real: Vec<_> = sizes.iter().map(|&size| (full.clone(), size)).collect();
        for (config, size) in suite.shapes((tiny, 64), &real) {
            let latent = [
                suite.batch(),
                config.latent_channels,
                size / config.compression(),
                size / config.compression(),
            ];
            let image = [suite.batch(), config.in_channels, size, size];
            measure(suite, &config, "encode", image, latent, DcAe::encode);
            measure(suite, &config, "decode", latent, image, DcAe::decode);
        }
    })
}

/// Measures one half. Parameters are lazy, so the other one is never made.
fn measure(
    suite: &mut Suite,
    config: &DcAeConfig,
    op: &str,
    input: [usize; 4],
    output: [usize; 4],
    half: impl Fn(&DcAe, Tensor<4>) -> Result<Tensor<4>, DcAeError>,
) {
    let pixels = input[0] * input[2].max(output[2]) * input[3].max(output[3]);
    suite.measure(
        Case {
            area: "dcae",
            op,
            shape: &shape(input),
            elements: pixels,
        },
        |suite| {
            let model = suite.module(config.init(&suite.device()));
            (model, suite.random(1, input))
        },
        |(model, x)| half(model, x.clone()).unwrap_or_else(|error| panic!("{error}")),
        |_, answer| assert_finite(answer, output),
    );
}
