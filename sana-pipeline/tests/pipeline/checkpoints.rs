//! Checkpoint folders: what is read from them, and what can be wrong with them.

use sana_pipeline::error::CheckpointError;
use std::fs;

use burn::tensor::{DType, Device};
use sana_linear_attn::WeightError;
use sana_pipeline::checkpoint::Component;
use sana_pipeline::{PipelineError, StepAction};

use super::*;

fn open_error(folder: &Path) -> PipelineError {
    SanaPipeline::load(folder, &device()).unwrap_err()
}

#[test]
fn a_published_folder_at_a_glance() {
    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    assert_eq!(checkpoint.pipeline_class(), "SanaPipeline");
    assert_eq!(checkpoint.parts().count(), 5);
    assert_eq!(checkpoint.class(Component::Vae).unwrap(), "AutoencoderDC");
    assert_eq!(checkpoint.keys().max_tokens, 300);
    assert_eq!(checkpoint.variant_name().unwrap(), None);
    let description = checkpoint.describe(None).unwrap();
    let transformer = &description.parts[3];
    assert_eq!(transformer.part, Component::Transformer);
    assert_eq!(transformer.bytes, 4 * transformer.parameters);
    assert_eq!(transformer.dtypes.keys().collect::<Vec<_>>(), ["f32"]);
    let text = checkpoint.text_config().unwrap();
    assert_eq!(
        description.parts[1].parameters,
        text.parameter_count() as u64
    );
    let table = description.to_string();
    assert!(table.contains("SanaTransformer2DModel"), "{table}");
    let json = serde_json::to_value(&description).unwrap();
    assert_eq!(json["parts"][4]["part"], "vae");
}

#[test]
fn keys_of_our_own_checkpoints() {
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "model_index.json",
        "{",
        r#"{"_sana": {"instruction": "none", "max_tokens": 40, "variant": "scenes"},"#,
    );
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.variant_name().unwrap().unwrap(), "scenes");
    let options = checkpoint.keys().prompt_options();
    assert_eq!((options.instruction, options.max_tokens), (None, 40));
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let conditioning = pipeline.encode_prompt(&small()).unwrap();
    assert_eq!(conditioning.prompt.embeds.dims()[1], 40);

    edit(&folder, "model_index.json", "\"none\"", "\"shouted\"");
    let error = open_error(folder.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Json { .. })
    ));
    assert!(error.to_string().contains("shouted"), "{error}");
}

#[test]
fn folders_that_are_no_checkpoints() {
    let empty = tempfile::tempdir().unwrap();
    let error = open_error(&empty.path().join("nowhere"));
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::NoFolder { .. })
    ));
    assert!(error.to_string().contains("nowhere"), "{error}");

    let error = open_error(empty.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::NotCheckpoint { .. })
    ));
    let message = error.to_string();
    assert!(
        message.contains("model_index.json") && message.contains("vae"),
        "{message}"
    );

    fs::write(empty.path().join("model_index.json"), "[]").unwrap();
    assert!(matches!(
        open_error(empty.path()),
        PipelineError::Checkpoint(CheckpointError::Json { .. })
    ));
    fs::write(
        empty.path().join("model_index.json"),
        r#"{"_class_name": "FluxPipeline"}"#,
    )
    .unwrap();
    let error = open_error(empty.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::PipelineClass { .. })
    ));
    assert!(error.to_string().contains("FluxPipeline"), "{error}");
}

#[test]
fn missing_files_are_named_together() {
    let folder = copy_of(&sana_folder());
    fs::remove_dir_all(folder.path().join("vae")).unwrap();
    fs::remove_file(folder.path().join("tokenizer/tokenizer.json")).unwrap();
    match open_error(folder.path()) {
        PipelineError::Checkpoint(CheckpointError::Incomplete { files, .. }) => {
            assert_eq!(files, ["tokenizer/tokenizer.json", "vae/config.json"]);
        }
        other => panic!("{other}"),
    }

    let folder = copy_of(&sana_folder());
    fs::remove_file(folder.path().join(TRANSFORMER)).unwrap();
    let error = open_error(folder.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Weights(WeightError::NoWeights { .. }))
    ));
    assert!(error.to_string().contains("transformer"), "{error}");

    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    let error = checkpoint.read("vae/none.json").unwrap_err();
    assert!(matches!(error, PipelineError::Read { .. }));
    assert!(error.to_string().contains("none.json"), "{error}");
}

#[test]
fn parts_of_another_class_or_none() {
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "model_index.json",
        "AutoencoderDC",
        "AutoencoderKL",
    );
    let error = open_error(folder.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::ComponentClass {
            component: Component::Vae,
            ..
        })
    ));
    assert!(error.to_string().contains("AutoencoderKL"), "{error}");

    // Written by the reference for a part that was left out.
    let folder = copy_of(&sana_folder());
    edit(&folder, "model_index.json", "\"Gemma2Model\"", "null");
    fs::remove_dir_all(folder.path().join("text_encoder")).unwrap();
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let error = pipeline.encode_prompt(&small()).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::NoComponent {
            component: Component::TextEncoder,
            ..
        })
    ));
}

#[test]
fn parts_that_do_not_fit_each_other() {
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "transformer/config.json",
        "\"caption_channels\": 48",
        "\"caption_channels\": 64",
    );
    match open_error(folder.path()) {
        PipelineError::Checkpoint(CheckpointError::ComponentsDiffer {
            component,
            found,
            expected,
            ..
        }) => assert_eq!(
            (component, found, expected),
            (Component::TextEncoder, 48, 64)
        ),
        other => panic!("{other}"),
    }
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "transformer/config.json",
        "\"in_channels\": 32",
        "\"in_channels\": 16",
    );
    let error = open_error(folder.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::ComponentsDiffer {
            component: Component::Vae,
            ..
        })
    ));

    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "text_encoder/config.json",
        "\"vocab_size\": 525",
        "\"vocab_size\": 524",
    );
    let error = open_error(folder.path());
    assert!(matches!(error, PipelineError::Text(_)), "{error}");
}

#[test]
fn configs_that_are_not_usable() {
    let cases = [
        (
            "scheduler/scheduler_config.json",
            "dpmsolver++",
            "sde-dpmsolver",
        ),
        (
            "scheduler/scheduler_config.json",
            "DPMSolverMultistepScheduler",
            "PNDMScheduler",
        ),
        (
            "transformer/config.json",
            "\"dropout\": 0.0",
            "\"dropout\": 0.5",
        ),
        ("vae/config.json", "\"interpolate\"", "\"bilinear\""),
        ("text_encoder/config.json", "\"gemma2\"", "\"t5\""),
    ];
    for (file, from, to) in cases {
        let folder = copy_of(&sana_folder());
        edit(&folder, file, from, to);
        let error = open_error(folder.path());
        let kind = match file {
            "transformer/config.json" => {
                matches!(error, PipelineError::Checkpoint(CheckpointError::Config(_)))
            }
            "vae/config.json" => matches!(error, PipelineError::Autoencoder(_)),
            "text_encoder/config.json" => matches!(error, PipelineError::Text(_)),
            _ => matches!(
                error,
                PipelineError::Checkpoint(CheckpointError::SchedulerClass { .. })
                    | PipelineError::Checkpoint(CheckpointError::SchedulerOption { .. })
            ),
        };
        assert!(kind, "{file}: {error}");
    }
}

/// Found when the checkpoint is opened, not after the text encoder has run.
#[test]
fn damaged_weights_are_found_at_once() {
    for (part, stem) in [
        ("transformer", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ] {
        let folder = copy_of(&sana_folder());
        let path = folder.path().join(format!("{part}/{stem}.safetensors"));
        let bytes = fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() - 4], &bytes[..100], &[0xff; 64], &[]] {
            fs::write(&path, damaged).unwrap();
            let error = open_error(folder.path());
            assert!(
                matches!(
                    error,
                    PipelineError::Checkpoint(CheckpointError::Weights(_))
                ),
                "{part}: {error}"
            );
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_listed() {
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "transformer/config.json",
        "\"num_layers\": 3",
        "\"num_layers\": 2",
    );
    let error = open_error(folder.path());
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Weights(WeightError::Mismatch { .. }))
    ));
    assert!(
        error.to_string().contains("transformer_blocks.2."),
        "{error}"
    );
}

/// Weight files of a variant; parts without them load their plain files.
#[test]
fn variants_of_weight_files() {
    let folder = copy_of(&sana_folder());
    let fp16 = TRANSFORMER.replace(".safetensors", ".fp16.safetensors");
    fs::rename(folder.path().join(TRANSFORMER), folder.path().join(fp16)).unwrap();
    let options = LoadOptions {
        variant: Some("fp16".to_owned()),
        ..LoadOptions::default()
    };
    let mut pipeline = load_with(folder.path(), options);
    let generation = pipeline
        .generate(&small(), &mut |_| StepAction::Continue)
        .unwrap();
    assert_eq!(generation.images.len(), 1);

    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    let error = checkpoint.weights(Component::Tokenizer, None).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::ComponentWithoutWeights {
            component: Component::Tokenizer
        })
    ));
}

/// On the CPU the dtype asked for is that of the weights, and f32 that of the computation. On other
/// devices text and images leave the range of f16.
#[test]
fn f16_where_it_is_enough() {
    let options = LoadOptions {
        dtype: Some(DType::F16),
        ..LoadOptions::default()
    };
    let mut pipeline = load_with(&sana_folder(), options);
    assert!(pipeline.notes().is_empty());
    if device() == Device::flex() {
        let text = pipeline.text_encoder().unwrap();
        let dtypes = (text.dtype(), text.compute_dtype());
        assert_eq!(dtypes, (DType::F16, DType::F32));
        let transformer = pipeline.transformer().unwrap();
        let dtypes = (transformer.dtype(), transformer.compute_dtype());
        assert_eq!(dtypes, (DType::F16, DType::F32));
        let autoencoder = pipeline.autoencoder().unwrap();
        let dtypes = (autoencoder.decoder.dtype(), autoencoder.compute_dtype());
        assert_eq!(dtypes, (DType::F16, DType::F32));
        assert!(pipeline.notes().is_empty());
        return;
    }
    assert_ne!(pipeline.text_encoder().unwrap().dtype(), DType::F16);
    assert_ne!(pipeline.autoencoder().unwrap().decoder.dtype(), DType::F16);
    let notes = pipeline.notes();
    assert_eq!(notes.len(), 2);
    assert!(notes[0].contains("text_encoder runs in"), "{}", notes[0]);
}

/// Whichever network the weights are for, a mismatch is one variant, and `source` leads to its cause.
#[test]
fn weights_of_every_network_fail_in_the_same_way() {
    for (file, tensor) in [
        ("text_encoder/model.safetensors", "norm.weight"),
        (TRANSFORMER, "proj_out.bias"),
        (
            "vae/diffusion_pytorch_model.safetensors",
            "decoder.conv_in.bias",
        ),
    ] {
        let folder = copy_of(&sana_folder());
        let path = folder.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let name = format!("\"{tensor}\"");
        let at = bytes.windows(name.len());
        let at = at.into_iter().position(|window| window == name.as_bytes());
        bytes[at.unwrap() + 1] = b'_';
        std::fs::write(path, bytes).unwrap();
        let error = open_error(folder.path());
        let weights = matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::Weights(_))
        );
        assert!(weights, "{file}: {error}");
        let nested = std::error::Error::source(&error).unwrap();
        let cause = nested.source().unwrap();
        assert!(cause.is::<sana_linear_attn::WeightError>(), "{file}");
        assert!(error.to_string().contains(tensor), "{file}: {error}");
    }
}
