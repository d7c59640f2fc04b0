//! The small decoders: DC-AE 1.5, Lite and Turbo.

use super::*;

/// `config.json` of `dc-ae-lite-f32c32-sana-1.1`, in the spelling of published files.
const PUBLISHED_LITE: &str = r#"{
  "_class_name": "AutoencoderDC", "_diffusers_version": "0.35.0.dev0", "_name_or_path": null,
  "attention_head_dim": 32, "decoder_act_fns": "silu",
  "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
  "decoder_block_types": "ResBlock", "decoder_conv_act_fn": "silu", "decoder_in_shortcut": true,
  "decoder_layers_per_block": [0, 3, 5, 4, 4, 4], "decoder_norm_types": "rms_norm",
  "decoder_qkv_multiscales": [[], [], [], [], [], []], "downsample_block_type": "Conv",
  "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
  "encoder_block_types": ["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock",
    "EfficientViTBlock", "EfficientViTBlock"],
  "encoder_layers_per_block": [2, 2, 2, 3, 3, 3], "encoder_out_shortcut": true,
  "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]], "in_channels": 3, "latent_channels": 32,
  "scaling_factor": 0.41407, "upsample_block_type": "pixel_shuffle"
}"#;

/// DC-AE 1.5 has the layers of the first generation and other widths of latents: 128 channels at 32
/// pixels each, or at 64.
#[test]
fn configs_of_dc_ae_1_5() {
    for (compression, widths) in [
        (32, vec![128, 256, 512, 512, 1024, 1024]),
        (64, vec![128, 256, 512, 512, 1024, 1024, 2048]),
    ] {
        let stages = widths.len();
        let types: Vec<&str> = (0..stages)
            .map(|stage| {
                if stage < 3 {
                    "ResBlock"
                } else {
                    "EfficientViTBlock"
                }
            })
            .collect();
        let depths = |rest: usize, head: [usize; 3]| {
            let rest = std::iter::repeat(rest);
            head.into_iter()
                .chain(rest)
                .take(stages)
                .collect::<Vec<_>>()
        };
        let scales = (0..stages).map(|stage| if stage < 3 { vec![] } else { vec![5] });
        let scales: Vec<Vec<usize>> = scales.collect();
        for shortcuts in [true, false] {
            let text = serde_json::json!({
                "_class_name": "AutoencoderDC", "latent_channels": 128, "scaling_factor": 0.5,
                "encoder_block_types": types, "decoder_block_types": "ResBlock",
                "encoder_block_out_channels": widths, "decoder_block_out_channels": widths,
                "encoder_layers_per_block": depths(3, [2, 2, 2]),
                "decoder_layers_per_block": depths(4, [0, 3, 5]),
                "encoder_qkv_multiscales": scales,
                "decoder_qkv_multiscales": vec![Vec::<usize>::new(); stages],
                "downsample_block_type": "Conv", "upsample_block_type": "pixel_shuffle",
                "decoder_conv_act_fn": "silu",
                "encoder_out_shortcut": shortcuts, "decoder_in_shortcut": shortcuts,
            });
            let config = DcAeConfig::from_json(&text.to_string()).expect("valid");
            assert_eq!(config.compression(), compression);
            let expected = (count::encoder(&config), count::decoder(&config));
            assert_eq!(parameters(&config), expected, "{compression}");
        }
    }
}

/// As many stages as DC-AE 1.5 has and as wide latents next to its widths, in small.
#[test]
fn a_small_dc_ae_1_5_runs() {
    for stages in [6, 7] {
        let widths: Vec<usize> = (0..stages).map(|stage| 8 << (stage / 2)).collect();
        let latent_channels = *widths.last().expect("stages") / 2;
        let config = DcAeConfig {
            latent_channels,
            attention_head_dim: 4,
            encoder_block_out_channels: widths.clone(),
            decoder_block_out_channels: widths,
            encoder_layers_per_block: vec![1; stages],
            decoder_layers_per_block: [vec![0], vec![1; stages - 1]].concat(),
            encoder_qkv_multiscales: vec![vec![]; stages],
            decoder_qkv_multiscales: vec![vec![]; stages],
            ..DcAeConfig::f32c32_sana_1_1_lite()
        };
        let config = DcAeConfig {
            encoder_block_types: PerStage::All(BlockType::Res),
            ..config
        };
        config.validate().expect("valid");
        let device = device();
        let model = config.init_seeded(1, &device);
        let side = config.compression();
        let latents = model.encode(waves([1, 3, side, 2 * side], &device));
        let latents = latents.expect("a multiple of the compression");
        assert_eq!(latents.dims(), [1, latent_channels, 1, 2]);
        let image = model.decode(latents).expect("valid latents");
        assert_eq!(image.dims(), [1, 3, side, 2 * side]);
        assert!(image.abs().max().into_scalar::<f32>().is_finite());
    }
}

#[test]
fn published_lite_config() {
    let lite = DcAeConfig::f32c32_sana_1_1_lite();
    let config = DcAeConfig::from_json(PUBLISHED_LITE).expect("valid");
    assert_eq!(config, lite);
    assert_eq!(parameters(&config), (153_027_104, 268_154_124));

    // The same with a list where one name says it for all stages.
    let mut listed = PUBLISHED_LITE.to_owned();
    for (key, name) in [
        ("decoder_block_types", "ResBlock"),
        ("decoder_norm_types", "rms_norm"),
        ("decoder_act_fns", "silu"),
    ] {
        let one = format!(r#""{key}": "{name}""#);
        assert!(listed.contains(&one), "{one}");
        listed = listed.replace(&one, &format!(r#""{key}": {:?}"#, [name; 6]));
    }
    let each = DcAeConfig {
        decoder_block_types: PerStage::Each(vec![BlockType::Res; 6]),
        decoder_norm_types: PerStage::Each(vec![NormType::RmsNorm; 6]),
        decoder_act_fns: PerStage::Each(vec![Activation::Silu; 6]),
        ..lite
    };
    assert_eq!(DcAeConfig::from_json(&listed).expect("valid"), each);
    assert_eq!(parameters(&each), parameters(&config));
}

/// `dc-ae-turbo-f32c32-sana-1.1` has the encoder of sana-1.1 and a decoder of the lite kind that is
/// smaller still. Its file is not known to us, so widths and depths of the decoder are made up
/// here: whatever they are, they need not be the encoder's.
#[test]
fn config_of_the_turbo_kind() {
    let edits = [
        (
            r#""decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024]"#,
            r#""decoder_block_out_channels": [48, 96, 192, 256, 512, 512]"#,
        ),
        ("[0, 3, 5, 4, 4, 4]", "[0, 1, 2, 2, 3, 2]"),
    ];
    let mut text = PUBLISHED_LITE.to_owned();
    for (lite, turbo) in edits {
        assert!(text.contains(lite), "{lite}");
        text = text.replace(lite, turbo);
    }
    let config = DcAeConfig::from_json(&text).expect("valid");
    let expected = DcAeConfig {
        decoder_block_out_channels: vec![48, 96, 192, 256, 512, 512],
        decoder_layers_per_block: vec![0, 1, 2, 2, 3, 2],
        ..DcAeConfig::f32c32_sana_1_1_lite()
    };
    assert_eq!(config, expected);
    config.validate().expect("the decoder's widths are its own");
    assert_eq!(config.compression(), 32);
    let (encoder, decoder) = parameters(&config);
    assert_eq!(encoder, 153_027_104);
    assert_eq!(decoder, count::decoder(&config));
    assert!(decoder < 268_154_124 / 4, "{decoder}");
}

/// A lite decoder at tiny widths: residual blocks only, an empty first stage, pixel shuffle.
#[test]
fn lite_decoder_runs() {
    let lite = DcAeConfig::f32c32_sana_1_1_lite();
    let config = DcAeConfig {
        attention_head_dim: 8,
        encoder_block_out_channels: vec![8, 8, 8, 16, 32, 32],
        decoder_block_out_channels: vec![6, 8, 16, 16, 32, 32],
        encoder_layers_per_block: vec![1; 6],
        ..lite
    };
    let config = DcAeConfig::from_json(&config.to_json()).expect("a valid config");
    assert_eq!(config.decoder_layers_per_block, [0, 3, 5, 4, 4, 4]);
    assert_eq!(config.decoder_conv_act_fn, Activation::Silu);
    let model = config.init(&device());
    let decoded = model
        .decode(waves([1, 32, 1, 2], &device()))
        .expect("valid latents");
    assert_eq!(decoded.dims(), [1, 3, 32, 64]);
}
