//! One block of the transformer at 0.6B and 1.6B width, with 300 text tokens, at 512 pixels (256
//! tokens), 1024 (1024) and 2048 (4096, GPUs only). A step of Sana 0.6B runs 28 such blocks, one of
//! 1.6B runs 20, and each of them twice where there is classifier-free guidance.

use std::process::ExitCode;

use burn::tensor::Tensor;
use sana_benches::{Case, Suite, assert_finite, run, shape};
use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::layers::mask_bias;
use sana_linear_attn::transformer::SanaBlockConfig;

const AREA: &str = "dit_block";

fn main() -> ExitCode {
    run(|suite| {
        let tiny = SanaTransformerConfig {
            num_attention_heads: 3,
            num_cross_attention_heads: 2,
            cross_attention_head_dim: 48,
            cross_attention_dim: 96,
            ..SanaTransformerConfig::default()
        };
        let small = SanaTransformerConfig::sana_600m_1024px;
        let large = SanaTransformerConfig::sana_1600m_1024px;
        let mut real = vec![
            ("0.6b", small(), 16, 300),
            ("0.6b", small(), 32, 300),
            ("1.6b", large(), 16, 300),
            ("1.6b", large(), 32, 300),
        ];
        if !suite.is_cpu() {
            real.push(("0.6b", small(), 64, 300));
            real.push(("1.6b", large(), 64, 300));
        }
        for (op, config, side, text_tokens) in suite.shapes(("tiny", tiny, 4, 7), &real) {
            forward(suite, op, &config, side, text_tokens);
            keys_values(suite, op, &config, side, text_tokens);
        }
    })
}

fn forward(
    suite: &mut Suite,
    op: &str,
    config: &SanaTransformerConfig,
    side: usize,
    text_tokens: usize,
) {
    let (batch, width) = (suite.batch(), config.width());
    let dims = [batch, side * side, width];
    suite.measure(
        Case {
            area: AREA,
            op,
            shape: &shape(dims),
            elements: batch * side * side,
        },
        |suite| {
            let block = suite.module(SanaBlockConfig::from(config).init(&suite.device()));
            let text = block
                .attn2
                .keys_values(suite.random(1, [batch, text_tokens, width]));
            let bias = mask_bias(Tensor::ones([batch, text_tokens], &suite.device()));
            let modulation = suite.random(2, [batch, 6 * width]);
            (block, text, bias, modulation, suite.random(3, dims))
        },
        |(block, text, bias, modulation, x)| {
            block.forward(
                x.clone(),
                modulation.clone(),
                text,
                Some(bias),
                [side, side],
            )
        },
        |_, answer| assert_finite(answer, dims),
    );
}

/// Keys and values of the text, which are computed once per prompt and not in every step. They do
/// not depend on the image's size, so one size stands for all.
fn keys_values(
    suite: &mut Suite,
    op: &str,
    config: &SanaTransformerConfig,
    side: usize,
    text_tokens: usize,
) {
    if side > 16 {
        return;
    }
    let dims = [suite.batch(), text_tokens, config.width()];
    suite.measure(
        Case {
            area: AREA,
            op: &format!("{op}-text_keys_values"),
            shape: &shape(dims),
            elements: dims[0] * text_tokens,
        },
        |suite| {
            let block = suite.module(SanaBlockConfig::from(config).init(&suite.device()));
            (block.attn2, suite.random(1, dims))
        },
        |(attention, text)| attention.keys_values(text.clone()),
        // Its tensors are private: that cross-attention takes them is the check.
        |(attention, text), answer| {
            assert_finite(attention.forward(text.clone(), &answer, None), dims);
        },
    );
}
