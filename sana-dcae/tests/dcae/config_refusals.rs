//! Configs that are refused, with the value in the message.

use sana_dcae::{
    Activation, BlockType, DcAeConfig, DcAeError, DownsampleBlockType, NormType, PerStage,
};
use sana_linear_attn::parity::device;

use crate::tiny_config;

#[test]
fn lists_of_other_lengths_are_named() {
    type Edit = fn(&mut DcAeConfig);
    let edits: [(&str, Edit); 9] = [
        ("decoder_block_out_channels", |c| {
            c.decoder_block_out_channels.push(64)
        }),
        ("encoder_layers_per_block", |c| {
            c.encoder_layers_per_block.truncate(2)
        }),
        ("decoder_layers_per_block", |c| {
            c.decoder_layers_per_block.clear()
        }),
        ("encoder_qkv_multiscales", |c| {
            c.encoder_qkv_multiscales.push(vec![])
        }),
        ("decoder_qkv_multiscales", |c| {
            c.decoder_qkv_multiscales.truncate(1)
        }),
        ("encoder_block_types", |c| {
            c.encoder_block_types = PerStage::Each(vec![BlockType::Res]);
        }),
        ("decoder_block_types", |c| {
            c.decoder_block_types = PerStage::Each(vec![])
        }),
        ("decoder_norm_types", |c| {
            c.decoder_norm_types = PerStage::Each(vec![NormType::RmsNorm; 4]);
        }),
        ("decoder_act_fns", |c| {
            c.decoder_act_fns = PerStage::Each(vec![Activation::Relu])
        }),
    ];
    for (expected_key, edit) in edits {
        let mut config = tiny_config();
        edit(&mut config);
        match config.validate() {
            Err(DcAeError::StageCount {
                key, expected: 3, ..
            }) => assert_eq!(key, expected_key),
            other => panic!("{expected_key}: {other:?}"),
        }
    }
}

#[test]
fn impossible_values_are_named() {
    type Edit = fn(&mut DcAeConfig);
    let edits: [(&str, Edit); 20] = [
        ("encoder_block_out_channels", |c| {
            c.encoder_block_out_channels.truncate(1)
        }),
        ("in_channels", |c| c.in_channels = 0),
        ("latent_channels", |c| c.latent_channels = 0),
        ("latent_channels", |c| c.latent_channels = 5),
        ("latent_channels", |c| c.latent_channels = 6),
        ("attention_head_dim", |c| c.attention_head_dim = 0),
        ("encoder_block_out_channels[1]", |c| {
            c.attention_head_dim = 8
        }),
        ("encoder_block_out_channels[0]", |c| {
            c.encoder_block_out_channels[0] = 0
        }),
        ("encoder_block_out_channels[1]", |c| {
            c.encoder_block_out_channels[0] = 7
        }),
        ("encoder_block_out_channels[1]", |c| {
            c.encoder_block_types = PerStage::All(BlockType::Res);
            c.encoder_block_out_channels[1] = 6;
            c.downsample_block_type = DownsampleBlockType::PixelUnshuffle;
        }),
        ("encoder_layers_per_block[1]", |c| {
            c.encoder_layers_per_block[1] = 0
        }),
        ("encoder_qkv_multiscales[2]", |c| {
            c.encoder_qkv_multiscales[2] = vec![3, 4]
        }),
        ("decoder_block_out_channels[1]", |c| {
            c.decoder_block_out_channels[2] = 20
        }),
        ("decoder_norm_types[1]", |c| {
            c.decoder_norm_types = PerStage::All(NormType::BatchNorm)
        }),
        ("encoder_block_out_channels[2]", |c| {
            c.encoder_block_out_channels[2] = usize::MAX;
        }),
        ("decoder_layers_per_block[0]", |c| {
            c.decoder_layers_per_block[0] = usize::MAX;
        }),
        ("encoder_qkv_multiscales[1]", |c| {
            c.encoder_qkv_multiscales[1] = vec![999];
        }),
        ("encoder_block_out_channels", |c| {
            c.encoder_block_out_channels = vec![8; 70];
        }),
        ("scaling_factor", |c| c.scaling_factor = 0.0),
        ("scaling_factor", |c| c.scaling_factor = f64::NAN),
    ];
    for (expected_key, edit) in edits {
        let mut config = tiny_config();
        config.validate().expect("the unedited config is valid");
        edit(&mut config);
        match config.validate() {
            Err(DcAeError::ConfigValue { key, .. }) => assert_eq!(key, expected_key),
            other => panic!("{expected_key}: {other:?}"),
        }
    }
}

#[test]
fn unknown_names_are_refused_with_what_is_known() {
    for (text, found, known) in [
        (r#"{"decoder_act_fns": "tanh"}"#, "tanh", "silu"),
        (r#"{"decoder_act_fns": ["silu", "tanh"]}"#, "tanh", "relu"),
        (
            r#"{"decoder_norm_types": "group_norm"}"#,
            "group_norm",
            "batch_norm",
        ),
        (
            r#"{"encoder_block_types": "TransformerBlock"}"#,
            "TransformerBlock",
            "EfficientViTBlock",
        ),
        (
            r#"{"downsample_block_type": "pixelunshuffle"}"#,
            "pixelunshuffle",
            "pixel_unshuffle",
        ),
        (
            r#"{"upsample_block_type": "bilinear"}"#,
            "bilinear",
            "pixel_shuffle",
        ),
    ] {
        let error = DcAeConfig::from_json(text).expect_err(text);
        assert!(matches!(error, DcAeError::ParseConfig { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(found) && message.contains(known),
            "{message}"
        );
    }
    let error = DcAeConfig::from_json(r#"{"decoder_act_fns": 3}"#).expect_err("a number");
    assert!(
        error.to_string().contains("a name or a list of names"),
        "{error}"
    );
}

#[test]
fn config_of_another_architecture() {
    let error = DcAeConfig::from_json(r#"{"_class_name": "AutoencoderKL"}"#).expect_err("KL");
    assert_eq!(
        error.to_string(),
        "_class_name is AutoencoderKL, expected AutoencoderDC"
    );
}

#[test]
#[should_panic(expected = "invalid autoencoder config: latent_channels is 0")]
fn init_of_an_invalid_config_panics() {
    DcAeConfig {
        latent_channels: 0,
        ..tiny_config()
    }
    .init(&device());
}
