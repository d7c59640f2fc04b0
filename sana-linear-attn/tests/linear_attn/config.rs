//! Configs of the transformer: what published files carry is read, what cannot be is refused.

use std::path::Path;

use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::transformer::{ConfigError, QkNorm};

fn parse(text: &str) -> Result<SanaTransformerConfig, ConfigError> {
    SanaTransformerConfig::from_json(text, Path::new("config.json"))
}

#[test]
fn published_keys_are_read() {
    let config = parse(
        r#"{"_class_name": "SanaTransformer2DModel", "_diffusers_version": "0.33", "sample_size": 64,
            "interpolation_scale": 1, "qk_norm": "rms_norm_across_heads", "some_new_key": [1]}"#,
    )
    .expect("valid");
    assert_eq!(config.interpolation_scale, Some(1.0));
    assert_eq!(config.qk_norm, Some(QkNorm::RmsNormAcrossHeads));
    assert_eq!((config.sample_size, config.num_layers), (64, 20));
    assert_eq!(
        parse("{}").expect("all defaults"),
        SanaTransformerConfig::default()
    );
    let json = serde_json::to_string(&config).expect("serialises");
    assert_eq!(parse(&json).expect("its own output"), config);
}

#[test]
fn impossible_or_unimplemented_values_are_refused_with_the_value() {
    let cases = [
        (
            r#"{"num_layers": 0}"#,
            "num_layers must lie in 1..=1024, got 0",
        ),
        (r#"{"patch_size": 18446744073709551615}"#, "patch_size"),
        (
            r#"{"cross_attention_dim": 7}"#,
            "cross_attention_dim 7 must equal",
        ),
        (
            r#"{"num_cross_attention_heads": 3}"#,
            "num_cross_attention_heads 3 x",
        ),
        (r#"{"mlp_ratio": -1}"#, "mlp_ratio"),
        (r#"{"norm_eps": 0}"#, "norm_eps must be positive, got 0"),
        (r#"{"dropout": 0.1}"#, "dropout 0.1 is not implemented"),
        (
            r#"{"norm_elementwise_affine": true}"#,
            "norm_elementwise_affine",
        ),
        (
            r#"{"timestep_scale": 1000}"#,
            "timestep_scale 1000 is not implemented",
        ),
        (
            r#"{"interpolation_scale": 0}"#,
            "interpolation_scale must be positive",
        ),
        (
            r#"{"interpolation_scale": 1, "num_attention_heads": 1, "attention_head_dim": 6,
                "num_cross_attention_heads": 1, "cross_attention_head_dim": 6, "cross_attention_dim": 6}"#,
            "width divisible by 4",
        ),
    ];
    for (text, part) in cases {
        let error = parse(text).expect_err(text);
        assert!(matches!(error, ConfigError::Invalid(_)), "{error}");
        assert!(error.to_string().contains(part), "{part:?} in {error}");
    }
}

#[test]
fn open_cross_attention_heads_make_up_the_width() {
    let heads = |text: &str| parse(text).unwrap().num_cross_attention_heads;
    assert_eq!(heads(r#"{"num_cross_attention_heads": null}"#), 20);
    let text = r#"{"num_cross_attention_heads": null, "cross_attention_head_dim": 32}"#;
    assert_eq!(heads(text), 70);
    let text = r#"{"num_cross_attention_heads": null, "cross_attention_head_dim": 0}"#;
    assert!(matches!(parse(text), Err(ConfigError::Invalid(_))));
}

#[test]
fn what_is_no_config_is_refused() {
    for text in [
        "",
        "[]",
        r#"{"num_layers": "many"}"#,
        r#"{"qk_norm": "layer_norm"}"#,
    ] {
        assert!(
            matches!(parse(text), Err(ConfigError::Json { .. })),
            "{text}"
        );
    }
    let error = SanaTransformerConfig::from_file(Path::new("nowhere/config.json"));
    assert!(matches!(error, Err(ConfigError::Io { .. })));
}
