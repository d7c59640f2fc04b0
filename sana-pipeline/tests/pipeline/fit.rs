//! What headers and configs show before the first stage: misfits, variants, files that are absent.

use std::fs;
use std::path::{Path, PathBuf};

use sana_linear_attn::{WeightError, Weights};
use sana_pipeline::PipelineError;
use sana_pipeline::checkpoint::LoraFile;
use sana_pipeline::checkpoint::check::{LoadedWith, Misfit};
use sana_pipeline::error::CheckpointError;
use serde_json::{Map, Value, json};

use super::*;

const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const TEXT: &str = "text_encoder/model.safetensors";

fn open(folder: &Path, variant: Option<&str>) -> Result<SanaPipeline, PipelineError> {
    let options = LoadOptions {
        variant: variant.map(str::to_owned),
        ..LoadOptions::default()
    };
    SanaPipeline::from_checkpoint(Checkpoint::open(folder)?, options, &device())
}

/// Header and data of a safetensors file.
fn read(path: &Path) -> (Map<String, Value>, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (header, bytes[8 + length..].to_vec())
}

fn write(path: &Path, header: &Map<String, Value>, data: &[u8]) {
    let header = serde_json::to_vec(header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

/// Changes the names of tensors.
fn rename(path: &Path, change: impl Fn(&str) -> String) {
    let (header, data) = read(path);
    let header = header.into_iter().map(|(name, info)| (change(&name), info));
    write(path, &header.collect(), &data);
}

/// Turns two axes of a matrix: another shape with the same bytes.
fn turn(path: &Path, tensor: &str) {
    let (mut header, data) = read(path);
    header[tensor]["shape"].as_array_mut().unwrap().reverse();
    write(path, &header, &data);
}

/// Zeros of a dtype of one byte in place of all tensors.
fn quantize(path: &Path) {
    let (mut header, _) = read(path);
    let mut end = 0;
    for (_, info) in header
        .iter_mut()
        .filter(|(name, _)| *name != "__metadata__")
    {
        let shape = info["shape"].as_array().unwrap();
        let elements: u64 = shape.iter().map(|side| side.as_u64().unwrap()).product();
        *info =
            json!({ "dtype": "F8_E4M3", "shape": shape, "data_offsets": [end, end + elements] });
        end += elements;
    }
    write(path, &header, &vec![0; end as usize]);
}

/// The one misfit; the pipeline refuses the checkpoint with the same words, before any stage.
#[track_caller]
fn only_misfit(folder: &Path) -> Misfit {
    let refused = open(folder, None).unwrap_err();
    let checkpoint = Checkpoint::open(folder).unwrap();
    let mut misfits = checkpoint.misfits(&LoadedWith::default()).unwrap();
    assert_eq!(checkpoint.check_weights(None).unwrap().misfits, misfits);
    assert_eq!(misfits.len(), 1, "{misfits:?}");
    let misfit = misfits.remove(0);
    let words = refused.all_names().unwrap_or_else(|| refused.to_string());
    assert_eq!(misfit.reason, words);
    misfit
}

#[test]
fn a_checkpoint_that_fits_has_no_misfits() {
    for folder in [sana_folder(), sprint_folder()] {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let with = LoadedWith::default();
        assert_eq!(checkpoint.misfits(&with).unwrap(), []);
    }
}

#[test]
fn names_of_another_layout() {
    for (file, part, from, to) in [
        (VAE, "vae", "decoder.up_blocks.", "decoder.stages."),
        (TEXT, "text_encoder", "layers.", "blocks."),
        (TRANSFORMER, "transformer", "attn2.", "cross."),
    ] {
        let folder = copy_of(&sana_folder());
        rename(&folder.path().join(file), |name| name.replace(from, to));
        let misfit = only_misfit(folder.path());
        assert_eq!(misfit.part, part);
        assert!(misfit.reason.contains("does not fit the model"), "{misfit}");
        // The usual text has a few of the names, and says how many there are.
        let error = open(folder.path(), None).unwrap_err();
        let [few, all] = [error.to_string(), error.all_names().unwrap()];
        assert!(few.contains(" more; unexpected "), "{few}");
        assert!(
            few.len() < all.len() && all.matches(to).count() > 5,
            "{all}"
        );
    }
}

#[test]
fn tensors_of_another_shape() {
    for (file, part, tensor) in [
        (VAE, "vae", "decoder.conv_in.bias"),
        (TEXT, "text_encoder", "layers.0.mlp.gate_proj.weight"),
        (TEXT, "text_encoder", "embed_tokens.weight"),
        (TRANSFORMER, "transformer", "proj_out.weight"),
    ] {
        let folder = copy_of(&sana_folder());
        let path = folder.path().join(file);
        match tensor.ends_with(".bias") {
            true => {
                let (mut header, data) = read(&path);
                let shape = header[tensor]["shape"].as_array_mut().unwrap();
                shape.push(json!(1));
                write(&path, &header, &data);
            }
            false => turn(&path, tensor),
        }
        let misfit = only_misfit(folder.path());
        assert_eq!(misfit.part, part);
        assert!(misfit.reason.contains(tensor), "{misfit}");
        assert!(misfit.reason.contains("expected ["), "{misfit}");
    }
}

#[test]
fn dtypes_that_are_not_read() {
    for (file, part) in [
        (VAE, "vae"),
        (TEXT, "text_encoder"),
        (TRANSFORMER, "transformer"),
    ] {
        let folder = copy_of(&sana_folder());
        quantize(&folder.path().join(file));
        let misfit = only_misfit(folder.path());
        assert_eq!(misfit.part, part);
        assert!(misfit.reason.contains("f8_e4m3, expected f32"), "{misfit}");
    }
}

#[test]
fn a_controlnet_and_loras_are_compared_too() {
    let control = built_in_fixture_path(CRATE, "pipeline/controlnet/controlnet");
    let control = copy_of(&control);
    let weights = control.path().join("diffusion_pytorch_model.safetensors");
    turn(&weights, "caption_projection.linear_1.weight");
    let lora = built_in_fixture_path(CRATE, "pipeline/lora/pytorch_lora_weights.safetensors");
    let files = tempfile::tempdir().unwrap();
    let turned = files.path().join("turned.safetensors");
    fs::copy(&lora, &turned).unwrap();
    let first = Weights::open_file(&lora).unwrap();
    let first = first
        .names()
        .find(|name| name.contains("lora_A"))
        .unwrap()
        .to_owned();
    turn(&turned, &first);
    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    let with = LoadedWith {
        controlnet: Some(control.path().to_path_buf()),
        loras: vec![LoraFile::new(&turned), LoraFile::new(&lora)],
        ..LoadedWith::default()
    };
    let check = checkpoint.check_weights_with(&with).unwrap();
    let parts: Vec<&str> = check.parts.iter().map(|part| part.part.as_str()).collect();
    assert_eq!(
        parts,
        [
            "text_encoder",
            "transformer",
            "vae",
            "controlnet",
            "lora",
            "lora"
        ]
    );
    let reasons: Vec<(&str, &str)> = check
        .misfits
        .iter()
        .map(|misfit| (misfit.part.as_str(), misfit.reason.as_str()))
        .collect();
    let [("controlnet", steering), ("lora", adapter)] = reasons[..] else {
        panic!("{reasons:?}")
    };
    assert!(
        steering.contains("caption_projection.linear_1.weight"),
        "{steering}"
    );
    assert!(adapter.contains(&first), "{adapter}");
    let options = LoadOptions {
        controlnet: Some(control.path().to_path_buf()),
        ..LoadOptions::default()
    };
    let error = SanaPipeline::from_checkpoint(checkpoint, options, &device()).unwrap_err();
    assert_eq!(error.to_string(), steering);
}

/// Moves the weights of a checkpoint to a variant's names; `shards` are the text encoder's.
fn variant_only(folder: &Path, variant: &str, shards: Option<[&str; 2]>) {
    for part in ["transformer", "vae"] {
        let part = folder.join(part);
        let plain = part.join("diffusion_pytorch_model.safetensors");
        let named = format!("diffusion_pytorch_model.{variant}.safetensors");
        fs::rename(plain, part.join(named)).unwrap();
    }
    let text = folder.join(TEXT);
    let Some(shards) = shards else {
        let named = format!("text_encoder/model.{variant}.safetensors");
        fs::rename(text, folder.join(named)).unwrap();
        return;
    };
    split(
        &text,
        &format!("model.safetensors.index.{variant}.json"),
        shards,
    );
}

/// Makes two shards and their index of a file.
fn split(path: &Path, index: &str, shards: [&str; 2]) {
    let (header, data) = read(path);
    let mut map = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let (mut own, mut bytes) = (Map::new(), Vec::new());
        let names = header.iter().filter(|(name, _)| *name != "__metadata__");
        for (name, info) in names.skip(number).step_by(2) {
            let at = |index: usize| info["data_offsets"][index].as_u64().unwrap() as usize;
            let mut info = info.clone();
            let part = &data[at(0)..at(1)];
            info["data_offsets"] = json!([bytes.len(), bytes.len() + part.len()]);
            bytes.extend(part);
            own.insert(name.clone(), info);
            map.insert(name.clone(), json!(shard));
        }
        write(&path.with_file_name(shard), &own, &bytes);
    }
    let text = json!({ "metadata": {}, "weight_map": map }).to_string();
    fs::write(path.with_file_name(index), text).unwrap();
    fs::remove_file(path).unwrap();
}

fn latents(pipeline: &mut SanaPipeline) -> Vec<f32> {
    sana_linear_attn::parity::values(super::parity::sampled(pipeline, &small()))
}

#[test]
fn the_only_variant_loads_without_being_asked_for() {
    let expected = latents(&mut sana());
    for shards in [
        None,
        Some([
            "model.bf16-00001-of-00002.safetensors",
            "model.bf16-00002-of-00002.safetensors",
        ]),
        Some([
            "model-00001-of-00002.bf16.safetensors",
            "model-00002-of-00002.bf16.safetensors",
        ]),
        Some(["one.safetensors", "two.safetensors"]),
    ] {
        let folder = copy_of(&sana_folder());
        variant_only(folder.path(), "bf16", shards);
        for variant in [None, Some("bf16")] {
            let mut pipeline = open(folder.path(), variant).unwrap();
            assert_eq!(latents(&mut pipeline), expected, "{shards:?} {variant:?}");
        }
    }
}

#[test]
fn of_several_variants_one_has_to_be_named() {
    let folder = copy_of(&sana_folder());
    variant_only(folder.path(), "bf16", None);
    let vae = |variant: &str| -> PathBuf {
        let name = format!("vae/diffusion_pytorch_model.{variant}.safetensors");
        folder.path().join(name)
    };
    // Quantized files are no choice of the other components, and are not chosen themselves.
    fs::copy(vae("bf16"), vae("int4")).unwrap();
    open(folder.path(), None).unwrap();
    fs::copy(vae("bf16"), vae("fp16")).unwrap();
    let error = open(folder.path(), None).unwrap_err();
    let PipelineError::Checkpoint(CheckpointError::Weights(WeightError::NoWeights {
        variants,
        ..
    })) = &error
    else {
        panic!("{error}")
    };
    assert_eq!(variants, &["bf16", "fp16", "int4"]);
    assert!(error.to_string().contains("bf16, fp16, int4"), "{error}");
    open(folder.path(), Some("fp16")).unwrap();
    fs::remove_file(vae("fp16")).unwrap();
    fs::remove_file(vae("bf16")).unwrap();
    let error = open(folder.path(), None).unwrap_err();
    assert!(
        error.to_string().contains("variants there: int4"),
        "{error}"
    );
}

#[test]
fn an_index_without_its_shards_hides_no_variant() {
    let folder = copy_of(&sana_folder());
    let text = folder.path().join(TEXT);
    let copied = text.with_file_name("model.fp16.safetensors");
    fs::copy(&text, &copied).unwrap();
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    split(&text, "model.safetensors.index.json", shards);
    fs::remove_file(text.with_file_name(shards[1])).unwrap();
    open(folder.path(), None).unwrap();
    fs::remove_file(copied).unwrap();
    let error = open(folder.path(), None).unwrap_err();
    assert!(error.to_string().contains(shards[1]), "{error}");
}

#[test]
fn a_variant_that_no_component_has() {
    let refused = |folder: &Path, expected: &str| {
        let error = open(folder, Some("typo")).unwrap_err();
        let no_variant = |error: &PipelineError| {
            matches!(
                error,
                PipelineError::Checkpoint(CheckpointError::NoVariant { .. })
            )
        };
        assert!(no_variant(&error), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        let checkpoint = Checkpoint::open(folder).unwrap();
        assert!(no_variant(&checkpoint.describe(Some("typo")).unwrap_err()));
        assert!(no_variant(
            &checkpoint.check_weights(Some("typo")).unwrap_err()
        ));
    };
    refused(&sana_folder(), "\"typo\": it has none but the plain ones");
    let folder = copy_of(&sana_folder());
    let text = folder.path().join(TEXT);
    fs::copy(&text, text.with_file_name("model.fp16.safetensors")).unwrap();
    refused(folder.path(), "\"typo\"; it has fp16");
    open(folder.path(), Some("fp16")).unwrap();
}

/// That a folder cannot be looked into is not that it holds no checkpoint.
#[cfg(unix)]
#[test]
fn the_reason_why_a_folder_cannot_be_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    // A link to itself cannot be looked at, not even by root.
    symlink("model_index.json", folder.path().join("model_index.json")).unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, PipelineError::Read { .. }), "{error}");
    let around = tempfile::tempdir().unwrap();
    let closed = around.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    // To root all is open.
    if fs::read_dir(&closed).is_err() {
        let error = Checkpoint::open(&closed).unwrap_err().to_string();
        assert!(
            error.to_lowercase().contains("permission denied"),
            "{error}"
        );
        let error = Checkpoint::open(&closed.join("inner")).unwrap_err();
        assert!(
            error
                .to_string()
                .to_lowercase()
                .contains("permission denied"),
            "{error}"
        );
    }
}
