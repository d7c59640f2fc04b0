//! Transformers under the names of the authors' own checkpoints.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use burn::tensor::{DType, Device, TensorData};
use sana_linear_attn::parity::{
    Fixture, built_in_fixture_path, original_tensors, values, write_original,
};
use sana_linear_attn::transformer::{ConfigError, F16Clamp, OriginalLayout, TransformerInput};
use sana_linear_attn::weights::write_tensors;
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, WeightError, Weights};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
/// Without qk norm, with it, and with embedded guidance as well.
const MODELS: [&str; 3] = ["sana", "sana_1_5", "sana_sprint"];

/// Config and weights of a fixture in the published layout.
fn published(name: &str) -> (SanaTransformerConfig, Weights) {
    let folder = built_in_fixture_path(CRATE, &format!("transformer/{name}"));
    let config = SanaTransformerConfig::from_file(&folder.join("config.json")).unwrap();
    let weights = Weights::open_folder(&folder, "diffusion_pytorch_model", None).unwrap();
    (config, weights)
}

/// A fixture under original names, and the folder that the file is in.
fn original(name: &str, prefix: &str) -> (tempfile::TempDir, Weights) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("original.safetensors");
    write_original(&published(name).1, &path, prefix);
    let weights = Weights::open_file(&path).unwrap();
    (folder, weights)
}

/// Original names with a change.
fn changed(name: &str, change: impl FnOnce(&mut Vec<(String, TensorData)>)) -> WeightError {
    let (config, weights) = published(name);
    let mut tensors = original_tensors(&weights, "");
    change(&mut tensors);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("original.safetensors");
    write_tensors(&path, tensors).unwrap();
    let weights = Weights::open_file(&path).unwrap();
    load(&config, &weights).unwrap_err()
}

fn load(config: &SanaTransformerConfig, weights: &Weights) -> Result<SanaTransformer, WeightError> {
    config.load(weights, None, F16Clamp::Auto, &Device::flex())
}

fn output(model: &SanaTransformer, name: &str) -> Vec<f32> {
    let device = Device::flex();
    let io = Fixture::at(&built_in_fixture_path(
        CRATE,
        &format!("transformer/{name}/io.safetensors"),
    ));
    let text = model.text_context(
        io.tensor("caption", &device),
        Some(io.tensor("caption_mask", &device)),
    );
    let (latents, timestep) = (io.tensor("input", &device), io.tensor("timestep", &device));
    let mut input = TransformerInput::new(latents, timestep, &text);
    if io.contains("guidance") {
        input = input.with_guidance(io.tensor("guidance", &device));
    }
    values(model.forward(input).velocity)
}

/// Bit for bit, whatever the prefix of the names.
#[test]
fn outputs_equal_those_of_the_published_layout() {
    for name in MODELS {
        let (config, weights) = published(name);
        assert_eq!(OriginalLayout::of(&weights), None);
        let expected = output(&load(&config, &weights).unwrap(), name);
        for prefix in ["", "state_dict.", "model.", "module."] {
            let (_folder, weights) = original(name, prefix);
            assert_eq!(OriginalLayout::of(&weights).unwrap().prefix(), prefix);
            let model = load(&config, &weights).unwrap();
            assert_eq!(output(&model, name), expected, "{name} {prefix:?}");
        }
    }
}

/// The comparison above sees a swap of two of the fused tensors.
#[test]
fn the_order_in_fused_tensors_matters() {
    let (config, weights) = published("sana");
    let mut tensors = original_tensors(&weights, "");
    let (_, qkv) = tensors
        .iter_mut()
        .find(|(name, _)| name == "blocks.1.attn.qkv.weight")
        .unwrap();
    let mut bytes = qkv.as_bytes().to_vec();
    bytes.rotate_left(qkv.as_bytes().len() / 3);
    *qkv = TensorData::from_bytes_vec(bytes, qkv.shape().to_vec(), qkv.dtype());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rotated.safetensors");
    write_tensors(&path, tensors).unwrap();
    let rotated = load(&config, &Weights::open_file(&path).unwrap()).unwrap();
    let expected = output(&load(&config, &weights).unwrap(), "sana");
    assert_ne!(output(&rotated, "sana"), expected);
}

/// One error, by the names of the file.
#[test]
fn what_does_not_fit_is_listed_by_its_original_name() {
    let error = changed("sana", |tensors| {
        tensors.retain(|(name, _)| name != "blocks.1.cross_attn.kv_linear.bias");
        tensors.push((
            "blocks.1.attn.extra".to_owned(),
            TensorData::new(vec![0f32; 2], [2]),
        ));
        for (name, data) in tensors.iter_mut() {
            if name == "blocks.0.attn.qkv.weight" {
                // Not divisible by three.
                *data = TensorData::new(vec![0f32; 119 * 40], [119, 40]);
            }
        }
    });
    let text = error.to_string();
    let WeightError::Mismatch {
        missing,
        unexpected,
        misshapen,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(missing, ["blocks.1.cross_attn.kv_linear.bias"]);
    assert_eq!(unexpected, ["blocks.1.attn.extra"]);
    assert_eq!(
        misshapen,
        [(
            "blocks.0.attn.qkv.weight".to_owned(),
            vec![120, 40],
            vec![119, 40]
        )]
    );
    assert!(!text.contains("to_q"), "{text}");
    assert!(text.contains("original.safetensors"), "{text}");

    let error = changed("sana_1_5", |tensors| {
        for (name, data) in tensors.iter_mut() {
            if name == "t_block.1.bias" {
                *data = TensorData::new(vec![0i64; 240], [240]);
            }
        }
    });
    assert!(
        matches!(&error, WeightError::Dtype { name, .. } if name == "t_block.1.bias"),
        "{error}"
    );
}

/// A file of another kind of model: the prefix stays in the names.
#[test]
fn a_model_with_other_options_is_recognised() {
    let (config, _) = published("sana");
    let (_folder, weights) = original("sana_sprint", "state_dict.");
    let text = load(&config, &weights).unwrap_err().all_names().unwrap();
    for name in [
        "state_dict.cfg_embedder.mlp.2.bias",
        "state_dict.blocks.2.cross_attn.k_norm.weight",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

#[test]
fn configs_are_read_off_the_shapes() {
    for name in MODELS {
        let (config, weights) = published(name);
        // What shapes show is wrong in the base, what they do not show is right.
        let base = SanaTransformerConfig {
            in_channels: 1,
            out_channels: None,
            num_layers: 77,
            caption_channels: 5,
            mlp_ratio: 4.0,
            attention_bias: true,
            patch_size: 3,
            guidance_embeds: !config.guidance_embeds,
            qk_norm: None,
            ..config.clone()
        };
        let inferred = SanaTransformerConfig::infer(&weights, &base).unwrap();
        // Half a channel more than the ratio, so that the product rounds down to it.
        let same_ratio = |inferred: SanaTransformerConfig| SanaTransformerConfig {
            mlp_ratio: config.mlp_ratio,
            ..inferred
        };
        assert_eq!((inferred.config.mlp_ratio * 40.0) as usize, 100);
        assert_eq!(same_ratio(inferred.config), config, "{name}");
        let (_folder, weights) = original(name, "model.");
        let inferred = SanaTransformerConfig::infer(&weights, &base).unwrap();
        assert_eq!(same_ratio(inferred.config), config, "original {name}");
        assert!(inferred.assumed[0].contains("5 heads of 8 channels"));
        load(
            &SanaTransformerConfig::infer(&weights, &config)
                .unwrap()
                .config,
            &weights,
        )
        .unwrap();
    }
    let (config, weights) = published("sana_patch2");
    let inferred = SanaTransformerConfig::infer(&weights, &config).unwrap();
    assert_eq!(inferred.config, config);
}

/// A file of a released width has the heads of the released models; its data is a hole, so that
/// it takes no space.
#[test]
fn released_widths_are_known() {
    let device = Device::flex();
    for released in [
        SanaTransformerConfig::sana_600m_512px(),
        SanaTransformerConfig::sana_sprint_600m(),
        SanaTransformerConfig::sana_1_5_4800m(),
    ] {
        let config = SanaTransformerConfig {
            num_layers: 2,
            ..released
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hollow.safetensors");
        let model = config.init(&device);
        let shapes = sana_linear_attn::weights::parameter_shapes(&model, Default::default());
        write_hollow(&path, &shapes);
        let weights = Weights::open_file(&path).unwrap();
        let base = SanaTransformerConfig {
            num_attention_heads: 1,
            num_cross_attention_heads: 1,
            cross_attention_head_dim: 32,
            cross_attention_dim: 32,
            sample_size: config.sample_size,
            ..SanaTransformerConfig::default()
        };
        let inferred = SanaTransformerConfig::infer(&weights, &base).unwrap();
        assert_eq!(inferred.config, config);
        assert!(inferred.assumed[0].contains("released models"));
        assert!(inferred.assumed[1].contains("sample_size"));
    }
}

/// A bf16 file with these tensors, all of whose data is one hole.
fn write_hollow(path: &Path, shapes: &[(String, Vec<usize>)]) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({
            "dtype": "BF16", "shape": shape, "data_offsets": [start, end],
        });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

#[test]
fn configs_that_cannot_be_read_off() {
    let (config, weights) = published("sana");
    let released = SanaTransformerConfig::default();
    let error = SanaTransformerConfig::infer(&weights, &released).unwrap_err();
    assert!(matches!(error, ConfigError::NotInferred { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("40 channels wide"), "{text}");
    assert!(text.contains("config.json"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let write = |name: &str, shape: &[usize]| {
        let data = TensorData::new(vec![0f32; shape.iter().product()], shape.to_vec());
        write_tensors(&path, vec![(name.to_owned(), data)]).unwrap();
        let weights = Weights::open_file(&path).unwrap();
        SanaTransformerConfig::infer(&weights, &config)
            .unwrap_err()
            .to_string()
    };
    let text = write("encoder.conv_in.weight", &[2, 2]);
    assert!(text.contains("no patch_embed.proj.weight"), "{text}");
    let text = write("x_embedder.proj.weight", &[2, 2]);
    assert!(text.contains("[2, 2], expected 4 dimensions"), "{text}");
}

/// The position table of an original file shows which size it is for.
#[test]
fn sample_sizes_are_read_off_position_tables() {
    let (config, weights) = published("sana");
    let mut tensors = original_tensors(&weights, "");
    for (name, data) in &mut tensors {
        if name == "pos_embed" {
            *data = TensorData::new(vec![0f32; 36 * 40], [1, 36, 40]);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("original.safetensors");
    write_tensors(&path, tensors).unwrap();
    let weights = Weights::open_file(&path).unwrap();
    let inferred = SanaTransformerConfig::infer(&weights, &config).unwrap();
    assert_eq!(inferred.config.sample_size, 6);
    assert!(!inferred.assumed.join("; ").contains("sample_size"));
}

/// The authors' 2K and 4K files with the config of a model without a position table.
#[test]
fn position_tables_of_2k_and_4k_are_recognised() {
    let (config, weights) = published("sana");
    for (side, scale) in [(64, 1.0), (128, 2.0)] {
        let mut tensors = original_tensors(&weights, "");
        tensors.retain(|(name, _)| name != "pos_embed");
        let shape = [1, side * side, 40];
        let table = TensorData::new(vec![0f32; side * side * 40], shape);
        tensors.push(("pos_embed".to_owned(), table));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("original.safetensors");
        write_tensors(&path, tensors).unwrap();
        let weights = Weights::open_file(&path).unwrap();
        let inferred = SanaTransformerConfig::infer(&weights, &config).unwrap();
        assert_eq!(inferred.config.sample_size, side);
        assert_eq!(inferred.config.interpolation_scale, Some(scale));
        let assumed = inferred.assumed.join("; ");
        assert!(assumed.contains("position table of its size"), "{assumed}");
        load(&inferred.config, &weights).unwrap();
    }
}

/// The dtype is the file's, as in the published layout.
#[test]
fn halves_are_kept() {
    let (config, weights) = published("sana");
    let tensors = original_tensors(&weights, "")
        .into_iter()
        .map(|(name, data)| (name, data.convert_dtype(DType::BF16)))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("original.safetensors");
    write_tensors(&path, tensors).unwrap();
    let weights = Weights::open_file(&path).unwrap();
    assert_eq!(load(&config, &weights).unwrap().dtype(), DType::BF16);
}
