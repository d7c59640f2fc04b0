//! Configs: presets and published spellings.

mod count;
mod parameters;
mod small_decoders;

use burn::module::Module;
use sana_dcae::{
    Activation, BlockType, DcAeConfig, DownsampleBlockType, NormType, PerStage, UpsampleBlockType,
};
use sana_linear_attn::parity::{device, fixture_path};

use crate::{CRATE, LAYOUTS, waves};

fn presets() -> [(&'static str, DcAeConfig); 9] {
    [
        ("f32c32_sana_1_0", DcAeConfig::f32c32_sana_1_0()),
        ("f32c32_sana_1_1", DcAeConfig::f32c32_sana_1_1()),
        ("f32c32_sana_1_1_lite", DcAeConfig::f32c32_sana_1_1_lite()),
        ("f32c32_in", DcAeConfig::f32c32_in()),
        ("f32c32_mix", DcAeConfig::f32c32_mix()),
        ("f64c128_in", DcAeConfig::f64c128_in()),
        ("f64c128_mix", DcAeConfig::f64c128_mix()),
        ("f128c512_in", DcAeConfig::f128c512_in()),
        ("f128c512_mix", DcAeConfig::f128c512_mix()),
    ]
}

#[test]
fn compression_ratios() {
    let expected = [32, 32, 32, 32, 32, 64, 64, 128, 128];
    for ((name, config), compression) in presets().into_iter().zip(expected) {
        config
            .validate()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(config.compression(), compression, "{name}");
        assert_eq!(config.init(&device()).compression(), compression, "{name}");
    }
}

#[test]
fn json_round_trip() {
    for (name, config) in presets() {
        let text = config.to_json();
        assert!(text.contains(r#""_class_name": "AutoencoderDC""#), "{name}");
        assert_eq!(
            DcAeConfig::from_json(&text).expect("own output"),
            config,
            "{name}"
        );
    }
}

/// The config of the released Sana autoencoder, in the spelling of its file.
#[test]
fn published_sana_config() {
    let text = r#"{
      "_class_name": "AutoencoderDC", "_diffusers_version": "0.32.0.dev0",
      "_name_or_path": "somewhere", "attention_head_dim": 32, "decoder_act_fns": "silu",
      "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
      "decoder_block_types": ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock",
        "EfficientViTBlock", "EfficientViTBlock"],
      "decoder_layers_per_block": [3, 3, 3, 3, 3, 3], "decoder_norm_types": "rms_norm",
      "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]], "downsample_block_type": "Conv",
      "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
      "encoder_block_types": ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock",
        "EfficientViTBlock", "EfficientViTBlock"],
      "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
      "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]], "in_channels": 3,
      "latent_channels": 32, "scaling_factor": 0.41407, "upsample_block_type": "interpolate"
    }"#;
    assert_eq!(
        DcAeConfig::from_json(text).expect("valid"),
        DcAeConfig::f32c32_sana_1_0()
    );
    let conv = text
        .replace("\"Conv\"", "\"conv\"")
        .replace("\"silu\"", "\"swish\"");
    assert_eq!(
        DcAeConfig::from_json(&conv).expect("valid"),
        DcAeConfig::f32c32_sana_1_0()
    );
}

/// Builds the config's network without weights; parameters of its encoder and its decoder.
fn parameters(config: &DcAeConfig) -> (usize, usize) {
    let model = config.init(&device());
    let counted = (model.encoder.num_params(), model.decoder.num_params());
    assert!(!model.encoder.conv_out.weight.is_initialized());
    assert!(!model.decoder.conv_in.weight.is_initialized());
    counted
}

#[test]
fn absent_keys_take_the_reference_defaults() {
    let config = DcAeConfig::from_json("{}").expect("the reference's defaults are valid");
    assert_eq!(config, DcAeConfig::default());
    assert_eq!(config.encoder_layers_per_block, [2, 2, 2, 3, 3, 3]);
    assert_eq!(
        config.downsample_block_type,
        DownsampleBlockType::PixelUnshuffle
    );
}

#[test]
fn fixture_configs_load() {
    for layout in LAYOUTS {
        let path = fixture_path(CRATE, &format!("dcae/{layout}")).join("config.json");
        let config = DcAeConfig::from_file(path).unwrap_or_else(|error| panic!("{error}"));
        let again = DcAeConfig::from_json(&config.to_json()).expect("own output");
        assert_eq!(again, config);
    }
}
