//! Configs of ControlNets, and the transformers that they fit.

use super::*;

#[test]
fn the_wiring_is_a_key_of_the_config() {
    let default = SanaControlNetConfig::default();
    assert_eq!(default.wiring, ControlWiring::Diffusers);
    let written = serde_json::to_string(&default).unwrap();
    assert!(!written.contains("control_wiring"), "{written}");
    let original = parse(r#"{"control_wiring": "original"}"#).unwrap();
    assert_eq!(original.wiring, ControlWiring::Original);
    let written = serde_json::to_string(&original).unwrap();
    assert_eq!(parse(&written).unwrap(), original);
    for same in [
        r#"{"control_wiring": "diffusers"}"#,
        r#"{"control_wiring": null}"#,
    ] {
        assert_eq!(parse(same).unwrap(), default);
    }
    let error = parse(r#"{"control_wiring": "hed"}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("diffusers") && error.contains("original"),
        "{error}"
    );
}

fn parse(text: &str) -> Result<SanaControlNetConfig, ConfigError> {
    SanaControlNetConfig::from_json(text, Path::new("controlnet/config.json"))
}

#[test]
fn published_keys_are_read() {
    let config = parse(
        r#"{"_class_name": "SanaControlNetModel", "_diffusers_version": "0.33", "sample_size": 16,
            "interpolation_scale": null, "some_new_key": [1]}"#,
    )
    .unwrap();
    let read = &config.transformer;
    assert_eq!((read.sample_size, read.num_layers), (16, 7));
    assert_eq!(read.width(), 2240);
    assert_eq!(parse("{}").unwrap(), SanaControlNetConfig::default());
    let json = serde_json::to_string(&config).unwrap();
    assert!(!json.contains("qk_norm"), "{json}");
    assert_eq!(parse(&json).unwrap(), config);
    let mut normed = config;
    normed.transformer.qk_norm = Some(QkNorm::RmsNormAcrossHeads);
    let json = serde_json::to_string(&normed).unwrap();
    assert_eq!(parse(&json).unwrap(), normed);

    // The released ones are copies of the first 7 blocks.
    for transformer in [
        SanaTransformerConfig::sana_600m_1024px(),
        SanaTransformerConfig::sana_1600m_1024px(),
        SanaTransformerConfig::sana_1_5_1600m(),
    ] {
        let config = SanaControlNetConfig::of_transformer(&transformer, 7).unwrap();
        config.validate().unwrap();
        assert_eq!(
            config.init(&device()).num_params(),
            parameters(&transformer, 7)
        );
    }
}

/// Embeddings and blocks of the transformer, and one projection more than there are blocks.
fn parameters(transformer: &SanaTransformerConfig, layers: usize) -> usize {
    let width = transformer.width();
    let first = |name: &str| match name.strip_prefix("transformer_blocks.") {
        Some(rest) => rest.split('.').next().unwrap().parse::<usize>().unwrap() < layers,
        None => !name.starts_with("proj_out") && name != "scale_shift_table",
    };
    let shapes = parameter_shapes(&transformer.init(&device()), Default::default());
    let copied = shapes.iter().filter(|(name, _)| first(name));
    let copied: usize = copied
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    copied + (layers + 1) * (width * width + width)
}

#[test]
fn configs_that_are_not_usable() {
    for (text, part) in [
        (r#"{"num_layers": 0}"#, "num_layers must lie in"),
        (r#"{"cross_attention_dim": 7}"#, "cross_attention_dim 7"),
        (r#"{"dropout": 0.1}"#, "dropout 0.1 is not implemented"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(
            matches!(error, ConfigError::InvalidControlNet(_)),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains("ControlNet") && text.contains(part), "{text}");
    }
    for text in ["", "[]", r#"{"num_layers": "many"}"#] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, ConfigError::Json { .. }), "{error}");
        assert!(error.to_string().contains("controlnet/config.json"));
    }
    let error = SanaControlNetConfig::from_file(Path::new("nowhere/config.json"));
    assert!(matches!(error, Err(ConfigError::Io { .. })));
}

#[test]
fn transformers_that_it_does_not_fit() {
    let pair = Pair::built_in();
    let own = pair.transformer.config().clone();
    let config = pair.controlnet.config();
    config.check_transformer(&own).unwrap();
    let differs = |what, found, expected| ControlNetError::Differs {
        what,
        found,
        expected,
    };
    let cases = [
        (
            SanaTransformerConfig {
                num_attention_heads: 6,
                ..own.clone()
            },
            differs("channels of a token", 40, 48),
        ),
        (
            SanaTransformerConfig {
                in_channels: 16,
                ..own.clone()
            },
            differs("latent channels", 12, 16),
        ),
        (
            SanaTransformerConfig {
                caption_channels: 25,
                ..own.clone()
            },
            differs("caption channels", 24, 25),
        ),
        (
            SanaTransformerConfig {
                patch_size: 2,
                ..own.clone()
            },
            differs("latent pixels along a token", 1, 2),
        ),
        (
            SanaTransformerConfig {
                num_layers: 2,
                ..own.clone()
            },
            ControlNetError::Blocks {
                found: 2,
                blocks: 2,
            },
        ),
        (
            SanaTransformerConfig {
                guidance_embeds: true,
                ..own.clone()
            },
            ControlNetError::EmbeddedGuidance,
        ),
    ];
    for (transformer, expected) in cases {
        let error = config.check_transformer(&transformer).unwrap_err();
        assert_eq!(error, expected);
    }
    let text = differs("latent channels", 12, 16).to_string();
    assert!(text.contains("12 latent channels"), "{text}");
    assert!(text.contains("made for another"), "{text}");
    for layers in [0, 3, 4] {
        let error = SanaControlNet::from_transformer(&pair.transformer, layers).unwrap_err();
        let expected = ControlNetError::Blocks {
            found: layers,
            blocks: 3,
        };
        assert_eq!(error, expected);
    }
    let sprint = SanaTransformerConfig::sana_sprint_600m();
    let error = SanaControlNetConfig::of_transformer(&sprint, 7).unwrap_err();
    assert!(error.to_string().contains("Sana-Sprint"), "{error}");
}
