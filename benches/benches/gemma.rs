//! One layer of the Gemma-2 2B text encoder, of 26, on 300 and on 600 tokens (a prompt, and a prompt
//! behind the instruction).

use std::process::ExitCode;

use burn::tensor::Tensor;
use sana_benches::{Case, assert_finite, run, shape};
use sana_text::Gemma2Config;
use sana_text::{AttentionMasks, LayerType, Rope};

fn main() -> ExitCode {
    run(|suite| {
        let layer = Gemma2Config {
            num_hidden_layers: 1,
            ..Gemma2Config::gemma_2_2b()
        };
        let tiny = Gemma2Config {
            hidden_size: 24,
            intermediate_size: 40,
            head_dim: 4,
            ..layer.clone()
        };
        let real = [("2b", layer.clone(), 300), ("2b", layer, 600)];
        for (op, config, tokens) in suite.shapes(("tiny", tiny, 7), &real) {
            let dims = [suite.batch(), tokens, config.hidden_size];
            suite.measure(
                Case {
                    area: "gemma2_layer",
                    op,
                    shape: &shape(dims),
                    elements: dims[0] * tokens,
                },
                |suite| {
                    let device = suite.device();
                    let model = config
                        .init(&device)
                        .unwrap_or_else(|error| panic!("{error}"));
                    let layer = suite.module(model.layers[0].clone());
                    let rope = Rope::new(config.rope_theta(), config.head_dim, tokens, &device);
                    let keep = Tensor::ones([dims[0], tokens], &device);
                    let mask = AttentionMasks::new(keep, config.sliding_window).of(LayerType::Full);
                    (layer, rope, mask, suite.random(1, dims))
                },
                |(layer, rope, mask, x)| layer.forward(x.clone(), rope, mask.clone()),
                |_, answer| assert_finite(answer, dims),
            );
        }
    })
}
