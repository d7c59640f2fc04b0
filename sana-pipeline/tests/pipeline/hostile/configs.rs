//! Configs, one by one and in a checkpoint's folder.

use sana_pipeline::error::CheckpointError;
use std::fs;

use proptest::prelude::*;
use sana_dcae::DcAeConfig;
use sana_linear_attn::parity::device;
use sana_linear_attn::weights::parameter_shapes;
use sana_linear_attn::{KeyMap, SanaTransformerConfig};
use sana_pipeline::checkpoint::Component;
use sana_pipeline::{Checkpoint, PipelineError, SanaPipeline};
use sana_text::Gemma2Config;
use serde_json::Value;

use super::allocations::peak_of;
use super::mutations::{edited, edits, json_edited, json_edits};
use super::{cases, entry, fixture};

const FILES: [&str; 4] = [
    "transformer/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
];

/// Memory that a config may need for each of its bytes: a tree of one-digit numbers, in a list that
/// grows.
const PER_BYTE: usize = 64;
const CONSTANT: usize = 64 << 10;

fn bounded(bytes: &[u8]) -> usize {
    let (accepted, peak) = peak_of(|| entry::config(bytes));
    let bound = PER_BYTE * bytes.len() + CONSTANT;
    assert!(
        peak <= bound,
        "{peak} bytes for a config of {}",
        bytes.len()
    );
    accepted
}

/// A file of the crate's own checkpoint. The scheduler's has an infinite number, which is no JSON.
fn original(file: &str) -> Value {
    let text = fs::read_to_string(fixture(file)).unwrap();
    serde_json::from_str(&text.replace("-Infinity", "null")).unwrap()
}

fn originals() -> Vec<Value> {
    FILES.iter().map(|file| original(file)).collect()
}

#[test]
fn the_files_that_are_changed_are_right() {
    for (file, original) in FILES.iter().zip(originals()) {
        assert!(bounded(original.to_string().as_bytes()) >= 1, "{file}");
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bounded(&bytes);
    }

    #[test]
    fn any_json_like_text(text in "[\\[\\]{}\":,a-z_0-9.eE+ -]{0,200}") {
        bounded(text.as_bytes());
    }

    #[test]
    fn changed_bytes(edits in edits()) {
        for original in originals() {
            bounded(&edited(original.to_string().as_bytes(), &edits));
        }
    }

    #[test]
    fn changed_values(edits in json_edits()) {
        for original in originals() {
            bounded(json_edited(&original, &edits).as_bytes());
        }
    }
}

#[test]
fn large_configs_need_memory_in_proportion() {
    let length = 1 << 19;
    for text in [
        format!("{{\"unknown\": [{}0]}}", "0,".repeat(length)),
        format!("{{\"_class_name\": [{}", "[],".repeat(length / 2)),
        "[".repeat(length),
        "{\"a\":".repeat(length / 4),
        format!("{{\"layer_types\": [{}0]}}", "0,".repeat(length)),
    ] {
        bounded(text.as_bytes());
    }
}

/// Products of all sizes of an accepted config stay numbers, and the network that it describes is
/// built lazily in little memory.
#[test]
fn the_largest_configs_can_be_counted() {
    let count = |shapes: Vec<(String, Vec<usize>)>| {
        let elements = |shape: &Vec<usize>| {
            let product = shape
                .iter()
                .try_fold(1u64, |all, &n| all.checked_mul(n as u64));
            product.expect("a number of elements")
        };
        let counts = shapes.iter().map(|(_, shape)| elements(shape));
        counts.fold(0u64, |sum, count| sum.checked_add(count).expect("a sum"))
    };
    let device = device();
    let transformer = SanaTransformerConfig {
        in_channels: 1 << 12,
        out_channels: Some(1 << 12),
        patch_size: 1 << 6,
        num_attention_heads: 1 << 16,
        attention_head_dim: 1,
        num_cross_attention_heads: 1,
        cross_attention_head_dim: 1 << 16,
        cross_attention_dim: 1 << 16,
        caption_channels: 1 << 16,
        num_layers: 1 << 10,
        mlp_ratio: 999.0,
        ..SanaTransformerConfig::default()
    };
    transformer.validate().unwrap();
    let (model, peak) = peak_of(|| transformer.init(&device));
    assert!(peak < 64 << 20, "{peak}");
    assert!(count(parameter_shapes(&model, KeyMap::default())) > 1 << 50);
    drop(model);

    let text = Gemma2Config {
        vocab_size: 1 << 21,
        hidden_size: 1 << 21,
        intermediate_size: 1 << 21,
        num_hidden_layers: 1 << 10,
        num_attention_heads: 1 << 20,
        num_key_value_heads: 1 << 20,
        head_dim: 2,
        ..Gemma2Config::default()
    };
    text.validate().unwrap();
    assert!(text.parameter_count() > 1 << 50);
    let (model, peak) = peak_of(|| text.init(&device).unwrap());
    assert!(peak < 64 << 20, "{peak}");
    drop(model);

    let widths = vec![1 << 16; 16];
    let depth = vec![1 << 7; 16];
    let autoencoder = DcAeConfig {
        latent_channels: 1 << 16,
        encoder_block_out_channels: widths.clone(),
        decoder_block_out_channels: widths,
        encoder_layers_per_block: depth.clone(),
        decoder_layers_per_block: depth,
        encoder_qkv_multiscales: vec![vec![31; 8]; 16],
        decoder_qkv_multiscales: vec![vec![31; 8]; 16],
        ..DcAeConfig::default()
    };
    autoencoder.validate().unwrap();
    let (model, peak) = peak_of(|| autoencoder.init(&device));
    assert!(peak < 128 << 20, "{peak}");
    assert!(count(parameter_shapes(&model, KeyMap::default())) > 1 << 40);
}

/// In a folder: every error names the file, and nothing goes wrong between files that are read.
#[test]
fn checkpoints_with_a_changed_config() {
    let folder = tempfile::tempdir().unwrap();
    let names = [&["model_index.json"][..], &FILES].concat();
    let weights = ["text_encoder/model", "transformer/diffusion_pytorch_model"];
    let weights = [&weights[..], &["vae/diffusion_pytorch_model"]].concat();
    let weights: Vec<String> = weights
        .iter()
        .map(|stem| format!("{stem}.safetensors"))
        .collect();
    let others = weights
        .iter()
        .map(String::as_str)
        .chain(["tokenizer/tokenizer.json"]);
    for file in names.iter().copied().chain(others) {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture(file), path).unwrap();
    }
    let device = device();
    SanaPipeline::load(folder.path(), &device).unwrap();
    let originals: Vec<Value> = names.iter().map(|file| original(file)).collect();
    proptest!(cases(60), |(edits in json_edits())| {
        for (file, original) in names.iter().zip(&originals) {
            let path = folder.path().join(file);
            fs::write(&path, json_edited(original, &edits)).unwrap();
            if let Err(error) = SanaPipeline::load(folder.path(), &device) {
                let parts_differ = matches!(error, PipelineError::Checkpoint(CheckpointError::ComponentsDiffer { .. }));
                let message = error.to_string();
                let part = file.split('/').next().unwrap();
                let named = message.contains(part) || parts_differ || *file == "model_index.json";
                prop_assert!(named, "{}: {}", file, message);
            }
            fs::copy(fixture(file), &path).unwrap();
        }
    });
}

#[test]
fn files_that_are_too_large_or_have_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let index = fs::read(fixture("model_index.json")).unwrap();
    fs::write(folder.path().join("model_index.json"), index).unwrap();
    for file in FILES.iter().chain(&["tokenizer/tokenizer.json"]) {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(fixture(file), path).unwrap();
    }
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let path = folder.path().join("vae/config.json");
    let spaces = [" ".repeat(1 << 20).into_bytes(), fs::read(&path).unwrap()].concat();
    fs::write(&path, spaces).unwrap();
    let error = checkpoint.vae_config().unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, PipelineError::Read { .. }), "{message}");
    assert!(
        message.contains("vae/config.json") && message.contains("larger than 1048576 bytes"),
        "{message}"
    );
    // Longer than any list of shards, and of no length on disk.
    let shards = folder
        .path()
        .join("vae/diffusion_pytorch_model.safetensors.index.json");
    fs::File::create(&shards).unwrap().set_len(1 << 30).unwrap();
    let (result, peak) = peak_of(|| checkpoint.weights(Component::Vae, None));
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("larger than 16777216")
    );
    assert!(peak < 64 << 20, "{peak}");
}
