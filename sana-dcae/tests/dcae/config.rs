//! Configs: presets and published spellings.

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

/// Parameters of the reference's layers, written out layer by layer, without the running
/// statistics of batch norms.
mod count {
    use super::*;

    fn conv(input: usize, output: usize) -> usize {
        9 * input * output + output
    }

    fn block(config: &DcAeConfig, width: usize, kind: BlockType, kernels: &[usize]) -> usize {
        let norm = 2 * width;
        match kind {
            BlockType::Res => conv(width, width) + 9 * width * width + norm,
            BlockType::EfficientVit => {
                let scale = |kernel| 3 * width * (kernel * kernel + config.attention_head_dim);
                let qkv = 3 * width * width;
                let scales: usize = kernels.iter().map(|&kernel| scale(kernel)).sum();
                let out = width * (1 + kernels.len()) * width;
                let hidden = 4 * width;
                let inverted = width * 2 * hidden + 2 * hidden;
                let depth = 9 * 2 * hidden + 2 * hidden;
                let point = hidden * width;
                qkv + scales + out + norm + inverted + depth + point + norm
            }
        }
    }

    pub fn encoder(config: &DcAeConfig) -> usize {
        let (widths, depths) = (
            &config.encoder_block_out_channels,
            &config.encoder_layers_per_block,
        );
        let unshuffle = match config.downsample_block_type {
            DownsampleBlockType::Conv => 1,
            DownsampleBlockType::PixelUnshuffle => 4,
        };
        let stem = match depths[0] {
            0 => conv(config.in_channels, widths[1] / unshuffle),
            _ => conv(config.in_channels, widths[0]),
        };
        let stages: usize = (0..widths.len())
            .map(|i| {
                let kind = config.encoder_block_types.get(i).expect("a block type");
                let kernels = &config.encoder_qkv_multiscales[i];
                let down = match widths.get(i + 1) {
                    Some(next) if depths[i] > 0 => conv(widths[i], next / unshuffle),
                    _ => 0,
                };
                depths[i] * block(config, widths[i], kind, kernels) + down
            })
            .sum();
        stem + stages + conv(widths[widths.len() - 1], config.latent_channels)
    }

    pub fn decoder(config: &DcAeConfig) -> usize {
        let (widths, depths) = (
            &config.decoder_block_out_channels,
            &config.decoder_layers_per_block,
        );
        let shuffle = match config.upsample_block_type {
            UpsampleBlockType::Interpolate => 1,
            UpsampleBlockType::PixelShuffle => 4,
        };
        let (width, head) = match depths[0] {
            0 => (widths[1], conv(widths[1], config.in_channels * shuffle)),
            _ => (widths[0], conv(widths[0], config.in_channels)),
        };
        let stages: usize = (0..widths.len())
            .map(|i| {
                let kind = config.decoder_block_types.get(i).expect("a block type");
                let kernels = &config.decoder_qkv_multiscales[i];
                let up = match widths.get(i + 1) {
                    Some(&next) if depths[i] > 0 => conv(next, widths[i] * shuffle),
                    _ => 0,
                };
                depths[i] * block(config, widths[i], kind, kernels) + up
            })
            .sum();
        conv(config.latent_channels, widths[widths.len() - 1]) + stages + 2 * width + head
    }

    /// Running means and variances, which burn counts and PyTorch does not.
    pub fn running_statistics(config: &DcAeConfig) -> usize {
        let norms = |i| match (
            config.decoder_norm_types.get(i),
            config.decoder_block_types.get(i),
        ) {
            (Some(NormType::BatchNorm), Some(BlockType::Res)) => config.decoder_layers_per_block[i],
            _ => 0,
        };
        let widths = &config.decoder_block_out_channels;
        widths
            .iter()
            .enumerate()
            .map(|(i, width)| 2 * width * norms(i))
            .sum()
    }
}

#[test]
fn parameter_counts_of_the_presets() {
    for (name, config) in presets() {
        let model = config.init(&device());
        assert_eq!(
            model.encoder.num_params(),
            count::encoder(&config),
            "{name} encoder"
        );
        let decoder = count::decoder(&config) + count::running_statistics(&config);
        assert_eq!(model.decoder.num_params(), decoder, "{name} decoder");
    }
    let [sana, _, lite, imagenet, _, f64c128, _, f128c512, _] =
        presets().map(|(_, config)| (count::encoder(&config), count::decoder(&config)));
    assert_eq!(sana, (153_027_104, 159_223_171));
    assert_eq!(lite, (153_027_104, 268_154_124));
    assert_eq!(imagenet, (123_172_384, 200_184_076));
    assert_eq!(f64c128, (264_550_528, 412_345_612));
    assert_eq!(f128c512, (415_661_056, 705_021_196));
}

#[test]
fn counting_parameters_allocates_none() {
    let model = DcAeConfig::f128c512_in().init(&device());
    assert!(model.num_params() > 1_000_000_000);
    assert!(!model.decoder.conv_in.weight.is_initialized());
    assert!(!model.encoder.conv_out.weight.is_initialized());
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

/// Builds the config's network without weights; parameters of its encoder and its decoder.
fn parameters(config: &DcAeConfig) -> (usize, usize) {
    let model = config.init(&device());
    let counted = (model.encoder.num_params(), model.decoder.num_params());
    assert!(!model.encoder.conv_out.weight.is_initialized());
    assert!(!model.decoder.conv_in.weight.is_initialized());
    counted
}

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

#[test]
fn fixture_configs_load() {
    for layout in LAYOUTS {
        let path = fixture_path(CRATE, &format!("dcae/{layout}")).join("config.json");
        let config = DcAeConfig::from_file(path).unwrap_or_else(|error| panic!("{error}"));
        let again = DcAeConfig::from_json(&config.to_json()).expect("own output");
        assert_eq!(again, config);
    }
}
