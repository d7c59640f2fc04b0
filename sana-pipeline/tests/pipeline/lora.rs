//! LoRA files on the reference's tiny checkpoint.

use burn::tensor::TensorData;
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{assert_close, dropped_in_fixtures, tolerance, values};
use sana_linear_attn::transformer::LoraError;
use sana_linear_attn::weights::write_tensors;
use sana_pipeline::checkpoint::{LoraFile, LoraMode};
use sana_pipeline::error::CheckpointError;
use sana_pipeline::memory::MemoryPolicy;
use sana_pipeline::{PipelineError, StepAction};

use super::parity::{Reference, sampled};
use super::*;

const FILE: &str = "pytorch_lora_weights.safetensors";
const MODES: [LoraMode; 2] = [LoraMode::Merged, LoraMode::Unmerged];

/// The crate's own file.
fn file() -> LoraFile {
    LoraFile::new(built_in_fixture_path(CRATE, "pipeline/lora").join(FILE))
}

fn with(loras: &[LoraFile]) -> LoadOptions {
    LoadOptions {
        loras: loras.to_vec(),
        ..LoadOptions::default()
    }
}

fn sana_with(loras: &[LoraFile]) -> SanaPipeline {
    load_with(&sana_folder(), with(loras))
}

fn open_error(loras: &[LoraFile]) -> PipelineError {
    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    SanaPipeline::from_checkpoint(checkpoint, with(loras), &device()).unwrap_err()
}

fn small_latents(pipeline: &mut SanaPipeline) -> Vec<f32> {
    values(sampled(pipeline, &small()))
}

/// The scales and numbers of steps in names such as `latent_scale0.5_steps4`.
fn cases(reference: &Reference) -> Vec<(String, f64, usize)> {
    let read = |name: String| {
        let (scale, steps) = name.strip_prefix("latent_scale")?.split_once("_steps")?;
        let (scale, steps) = (scale.parse::<f64>().ok()?, steps.parse::<usize>().ok()?);
        Some((name, scale, steps))
    };
    let cases: Vec<_> = reference.io.names().into_iter().filter_map(read).collect();
    assert!(!cases.is_empty(), "no scales in {:?}", reference.io.path());
    cases
}

/// Compares latents at every scale of the reference, changed by a factor.
fn assert_scales(reference: &Reference, checkpoint: &Path, mode: LoraMode, factor: f64) {
    for (name, scale, steps) in cases(reference) {
        let file = LoraFile::new(reference.folder.join(FILE)).mode(mode);
        let mut pipeline = load_with(checkpoint, with(&[file.scale(factor * scale)]));
        let latents = sampled(&mut pipeline, &reference.guided_request().steps(steps));
        assert_parity(
            &format!("{name} {mode:?}"),
            latents,
            reference.tensor(&name),
        );
    }
}

#[test]
fn merged_and_apart_equal_the_reference() {
    // The LoRA belongs to the checkpoint next to it: both are dropped in, or both are our own.
    let together = dropped_in_fixtures().is_none_or(|folder| {
        let has = |name: &str| folder.join("pipeline").join(name).exists();
        has("lora") == has("sana")
    });
    let open = match together {
        true => Reference::open,
        false => Reference::built_in,
    };
    let (reference, base) = (open("lora"), open("sana"));
    assert!(reference.io.metadata("weights").contains("pipeline/sana"));
    for mode in MODES {
        assert_scales(&reference, &base.folder, mode, 1.0);
    }
}

/// A scale that is off by one in a hundred is seen, by as much more elsewhere than on the CPU as
/// the bound is wider there.
#[test]
#[should_panic(expected = "differs by")]
fn another_scale_is_seen() {
    let reference = Reference::built_in("lora");
    let factor = 1.0 + 100.0 * tolerance();
    assert_scales(&reference, &sana_folder(), LoraMode::Merged, factor);
}

#[test]
fn two_at_once_are_summed() {
    let expected = small_latents(&mut sana_with(&[file()]));
    for first in MODES {
        for second in MODES {
            let (first, second) = (file().mode(first), file().mode(second));
            let files = [first.scale(1.25), second.scale(-0.25)];
            let latents = small_latents(&mut sana_with(&files));
            assert_close("the sum", &latents, &expected, tolerance());
        }
    }
}

#[test]
fn scale_0_is_the_base() {
    let base = small_latents(&mut sana());
    for mode in MODES {
        let latents = small_latents(&mut sana_with(&[file().mode(mode).scale(0.0)]));
        assert_eq!(latents, base, "{mode:?}");
    }
    assert_ne!(small_latents(&mut sana_with(&[file()])), base);
}

/// Also after the transformer was dropped.
#[test]
fn they_are_applied_whenever_the_transformer_is_loaded() {
    let draw = |pipeline: &mut SanaPipeline| {
        let generation = pipeline.generate(&small(), &mut |_| StepAction::Continue);
        generation.unwrap().images
    };
    let expected = draw(&mut sana_with(&[file()]));
    let options = LoadOptions {
        memory: MemoryPolicy::OneStageAtATime,
        ..with(&[file()])
    };
    let mut pipeline = load_with(&sana_folder(), options);
    for _ in 0..2 {
        assert_eq!(draw(&mut pipeline), expected);
        assert!(!pipeline.is_loaded(sana_pipeline::checkpoint::Component::Transformer));
    }
}

/// Before anything is loaded.
#[test]
fn files_that_do_not_fit() {
    let error = open_error(&[file(), LoraFile::new("no/style.safetensors")]);
    let text = error.to_string();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Lora(LoraError::Weights(_)))
    ));
    assert!(text.contains("no/style.safetensors"), "{text}");

    let error = open_error(&[file().scale(f64::NAN)]);
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Lora(LoraError::Scale { .. }))
    ));
    assert!(error.to_string().contains("NaN"), "{error}");

    // A checkpoint's own weights are no LoRA.
    let error = open_error(&[LoraFile::new(sana_folder().join(TRANSFORMER))]);
    let text = error.all_names().unwrap();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Lora(LoraError::Mismatch(_)))
    ));
    assert!(text.contains("unexpected"), "{text}");
    assert!(
        text.contains("transformer_blocks.2.attn2.to_v.weight"),
        "{text}"
    );

    // Half the blocks: all targets in the others are named.
    let folder = copy_of(&sana_folder());
    let config = "transformer/config.json";
    edit(&folder, config, "\"num_layers\": 3", "\"num_layers\": 1");
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let opened = SanaPipeline::from_checkpoint(checkpoint, with(&[file()]), &device());
    let text = opened.unwrap_err().all_names().unwrap();
    assert!(text.contains("targets that it lacks 12: "), "{text}");
    for block in [1, 2] {
        for attention in ["attn1", "attn2"] {
            for layer in ["to_q", "to_k", "to_v"] {
                let name = format!("transformer_blocks.{block}.{attention}.{layer}");
                assert!(text.contains(&name), "{name} in {text}");
            }
        }
    }
}

/// The tensors of the crate's own file, by the names that another trainer gives them, each with an
/// alpha that is the rank.
fn of_another_trainer(name_of: impl Fn(&str, &str) -> String) -> tempfile::TempDir {
    let weights = Weights::open_file(&file().path).unwrap();
    let mut tensors = Vec::new();
    for name in weights.names().filter(|name| !name.ends_with(".alpha")) {
        let shape = weights.shape(name).unwrap().to_vec();
        let rank = shape[0] as f32;
        let dtype = weights.dtype(name).unwrap();
        let data = TensorData::from_bytes_vec(weights.bytes(name).unwrap().to_vec(), shape, dtype);
        let layer = name.strip_prefix("transformer.").unwrap_or(name);
        let (layer, factor) = layer.split_once(".lora_").unwrap();
        if factor.starts_with('A') {
            tensors.push((name_of(layer, "lora_down.weight"), data));
            let alpha = TensorData::new(vec![rank], [0usize; 0]);
            tensors.push((name_of(layer, "alpha"), alpha));
        } else {
            tensors.push((name_of(layer, "lora_up.weight"), data));
        }
    }
    let text = TensorData::new(vec![0f32; 2], [1, 2]);
    tensors.push(("text_encoder.a.lora_down.weight".to_owned(), text));
    let folder = tempfile::tempdir().unwrap();
    write_tensors(&folder.path().join(FILE), tensors).unwrap();
    folder
}

/// By its path or its folder, whose text encoder's tensors are skipped with a note.
#[test]
fn files_of_other_trainers_give_the_same_latents() {
    let expected = small_latents(&mut sana_with(&[file()]));
    let dotted = of_another_trainer(|layer, word| format!("transformer.{layer}.{word}"));
    let kohya = of_another_trainer(|layer, word| {
        format!("lora_transformer_{}.{word}", layer.replace('.', "_"))
    });
    for path in [dotted.path().to_owned(), kohya.path().join(FILE)] {
        let mut pipeline = sana_with(&[LoraFile::new(path)]);
        let notes = pipeline.notes().join("\n");
        assert!(notes.contains("text encoder"), "{notes}");
        assert_eq!(small_latents(&mut pipeline), expected);
    }
}

#[test]
fn scale_0_is_noted() {
    let noted = |scale: f64| {
        let pipeline = sana_with(&[file().scale(scale)]);
        let mut notes = pipeline.notes().iter();
        notes.any(|note| note.contains("no effect at scale 0"))
    };
    assert!(noted(0.0));
    assert!(!noted(0.5));
}
