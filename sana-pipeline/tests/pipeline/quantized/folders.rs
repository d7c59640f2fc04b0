//! Folders of SDNQ, and GGUF files, in the places of other weights.

use std::fs;

use sana_linear_attn::Weights;
use sana_linear_attn::parity::{GgufValue, edit_tensor_file, gemma2_gguf, gguf_file};
use sana_pipeline::checkpoint::check::check_part;
use sana_pipeline::checkpoint::create::{ConvertOptions, convert_transformer};
use sana_pipeline::checkpoint::{Component, QuantizeComponents};
use sana_pipeline::transformer::Quantization;

use super::super::*;
use super::{flat, text_output, transformer_output, write};

/// Networks of such a folder in place of another checkpoint's own are the same networks.
#[test]
fn networks_are_taken_from_quantized_folders() {
    let folder = tempfile::tempdir().unwrap();
    let components = QuantizeComponents::both(Quantization::Int8);
    write(&Checkpoint::built_in(), components, None, folder.path());
    let mut whole = SanaPipeline::load(folder.path(), &device()).unwrap();
    let transformer = folder.path().join("transformer");
    for file in [
        &transformer,
        &transformer.join("diffusion_pytorch_model.safetensors"),
    ] {
        let options = LoadOptions {
            transformer: Some(file.clone()),
            text_encoder: Some(folder.path().join("text_encoder")),
            ..LoadOptions::default()
        };
        let mut taken = SanaPipeline::from_checkpoint(Checkpoint::built_in(), options, &device());
        let taken = taken.as_mut().unwrap();
        let output = transformer_output(taken.transformer().unwrap());
        assert_eq!(output, transformer_output(whole.transformer().unwrap()));
        let output = text_output(taken.text_encoder().unwrap());
        assert_eq!(output, text_output(whole.text_encoder().unwrap()));
    }
}

/// A text encoder as GGUF needs as much memory as with the names of transformers: its table stays in the file too.
#[test]
fn the_estimate_is_the_same_for_gguf() {
    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    let weights = checkpoint.weights(Component::TextEncoder, None).unwrap();
    let (tensors, _) = gemma2_gguf(&weights, false);
    let metadata = [("general.architecture", GgufValue::Text("gemma2"))];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gemma.gguf");
    fs::write(&file, gguf_file(&metadata, &tensors)).unwrap();
    let own = checkpoint.describe_memory(None, None).unwrap();
    let other = checkpoint.with_text_encoder(&file, None).unwrap();
    assert_eq!(other.describe_memory(None, None).unwrap(), own);
}

/// As floats they are converted, and looked at.
#[test]
fn quantized_folders_are_converted_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let components = QuantizeComponents::both(Quantization::Uint4);
    write(&Checkpoint::built_in(), components, Some(4), folder.path());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let weights = checkpoint.weights(Component::Transformer, None).unwrap();
    let out = folder.path().join("dense");
    convert_transformer(&ConvertOptions::new(folder.path()), &out, &mut |_, _| ()).unwrap();
    let dense = Weights::open_file(&out.join("diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(dense.dtypes().keys().collect::<Vec<_>>(), ["bf16", "f32"]);
    for name in weights.names() {
        assert_eq!(flat(&dense, name), flat(&weights, name), "{name}");
    }
    let config = fs::read_to_string(out.join("config.json")).unwrap();
    assert!(!config.contains("quantization_config"), "{config}");

    let checked = check_part(Component::Transformer, &weights);
    assert_eq!(checked.tensors, weights.names().count());
    assert!(checked.not_read.is_empty() && checked.not_finite.is_empty());
    drop(weights);
    let file = folder
        .path()
        .join("transformer/diffusion_pytorch_model.safetensors");
    let layer = "transformer_blocks.1.attn1.to_k";
    let scale = format!("{layer}.scale");
    edit_tensor_file(
        &file,
        &scale,
        |index, value| if index == 3 { f32::NAN } else { value },
    );
    let weights = checkpoint.weights(Component::Transformer, None).unwrap();
    let checked = check_part(Component::Transformer, &weights);
    let bad: Vec<&str> = checked
        .not_finite
        .iter()
        .map(|bad| bad.name.as_str())
        .collect();
    assert_eq!(bad, [format!("{layer}.weight")]);
}
