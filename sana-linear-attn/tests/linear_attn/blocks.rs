//! Every layer against the reference's output (`blocks/` fixtures).

use burn::module::Module;
use burn::tensor::Device;
use sana_linear_attn::layers::mask_bias;
use sana_linear_attn::parity::{Fixture, assert_parity, device};
use sana_linear_attn::transformer::SanaBlockConfig;
use sana_linear_attn::{
    CrossAttentionConfig, GluMbConvConfig, GluMbConvNorm, LinearAttentionConfig, LoadOptions,
    MultiScaleLinearAttentionConfig, Weights, load_module,
};

fn fixture(name: &str) -> Fixture {
    Fixture::open(
        env!("CARGO_MANIFEST_DIR"),
        &format!("blocks/{name}.safetensors"),
    )
}

/// Loads a module from the fixture's `weights.*`.
fn loaded<M: Module>(module: M, fixture: &Fixture, device: &Device) -> M {
    let weights = Weights::open_file(fixture.path()).expect("a fixture is valid safetensors");
    let options = LoadOptions {
        strip_prefix: "weights.",
        ignore: &["input", "output", "caption", "caption_mask", "modulation"],
        ..LoadOptions::default()
    };
    load_module(module, &weights, &options, device).expect("the fixture's weights fit")
}

fn number<T: std::str::FromStr>(fixture: &Fixture, key: &str) -> T {
    let text = fixture.metadata(key);
    text.parse().unwrap_or_else(|_| panic!("{key} = {text:?}"))
}

/// The numbers of a Python tuple such as `(5,)`.
fn numbers(fixture: &Fixture, key: &str) -> Vec<usize> {
    fixture
        .metadata(key)
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// `weights` is what the names of the layer's weights begin with: they tell its optional parts.
fn linear_attention_config(f: &Fixture, weights: &str) -> LinearAttentionConfig {
    LinearAttentionConfig {
        channels: f.shape("input")[2],
        heads: number(f, "heads"),
        head_dim: number(f, "head_dim"),
        bias: f.contains(&format!("{weights}to_q.bias")),
        qk_norm: f.contains(&format!("{weights}norm_q.weight")),
    }
}

#[test]
fn linear_attention() {
    for (name, qk_norm) in [
        ("linear_attention", false),
        ("linear_attention_qk_norm", true),
    ] {
        let (f, device) = (fixture(name), device());
        let config = linear_attention_config(&f, "weights.");
        assert_eq!(config.qk_norm, qk_norm, "{name}");
        let layer = loaded(config.init(&device), &f, &device);
        assert_parity(
            name,
            layer.forward(f.tensor("input", &device)),
            f.tensor("output", &device),
        );
    }
}

#[test]
fn glumbconv() {
    for name in ["glumbconv", "glumbconv_residual_rms"] {
        let (f, device) = (fixture(name), device());
        let config = GluMbConvConfig {
            channels: number(&f, "in_channels"),
            out_channels: number(&f, "out_channels"),
            expand_ratio: number(&f, "expand_ratio"),
            norm: match f.metadata("norm_type").as_str() {
                "None" => GluMbConvNorm::None,
                "rms_norm" => GluMbConvNorm::Rms,
                other => panic!("norm_type {other}"),
            },
            residual: f.metadata("residual_connection") == "True",
        };
        let layer = loaded(config.init(&device), &f, &device);
        let output = layer.forward_image(f.tensor("input", &device));
        assert_parity(name, output, f.tensor("output", &device));
    }
}

#[test]
fn multiscale_attention() {
    for name in [
        "multiscale_attention_linear",
        "multiscale_attention_quadratic",
    ] {
        let (f, device) = (fixture(name), device());
        let config = MultiScaleLinearAttentionConfig {
            channels: f.shape("input")[1],
            head_dim: number(&f, "head_dim"),
            kernel_sizes: numbers(&f, "kernel_sizes"),
        };
        let layer = loaded(config.init(&device), &f, &device);
        let output = layer.forward(f.tensor("input", &device));
        assert_parity(name, output, f.tensor("output", &device));
    }
}

#[test]
fn sana_block() {
    let (f, device) = (fixture("sana_block"), device());
    let channels = f.shape("input")[2];
    let config = SanaBlockConfig {
        attention: linear_attention_config(&f, "weights.attn1."),
        cross_attention: CrossAttentionConfig {
            channels,
            text_channels: f.shape("caption")[2],
            heads: number(&f, "cross_heads"),
            head_dim: number(&f, "cross_head_dim"),
            qk_norm: f.contains("weights.attn2.norm_q.weight"),
        },
        mlp_ratio: number(&f, "mlp_ratio"),
        norm_eps: number(&f, "norm_eps"),
    };
    let block = loaded(config.init(&device), &f, &device);
    let text = block.attn2.keys_values(f.tensor("caption", &device));
    let bias = mask_bias(f.tensor("caption_mask", &device));
    let output = block.forward(
        f.tensor("input", &device),
        f.tensor("modulation", &device),
        &text,
        Some(&bias),
        [number(&f, "height"), number(&f, "width")],
    );
    assert_parity("sana_block", output, f.tensor("output", &device));
}
