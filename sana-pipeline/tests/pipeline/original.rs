//! Transformers under the names of the authors' own checkpoints, and in files of their own.

use burn::tensor::TensorData;
use sana_linear_attn::parity::{original_tensors, values, write_original};
use sana_linear_attn::transformer::ConfigError;
use sana_linear_attn::weights::write_tensors;
use sana_linear_attn::{WeightError, Weights};
use sana_pipeline::PipelineError;
use sana_pipeline::checkpoint::Component;
use sana_pipeline::error::CheckpointError;

use super::parity::sampled;
use super::*;

fn latents(pipeline: &mut SanaPipeline) -> Vec<f32> {
    values(sampled(pipeline, &small()))
}

fn published(folder: &Path) -> Weights {
    Weights::open_file(&folder.join(TRANSFORMER)).unwrap()
}

/// The tensors of a file in f32, their names after a prefix.
pub(super) fn tensors_of(weights: &Weights, prefix: &str) -> Vec<(String, TensorData)> {
    let tensors = weights.names().map(|name| {
        let shape = weights.shape(name).unwrap().to_vec();
        let values = weights.bytes(name).unwrap().chunks_exact(4);
        let values: Vec<f32> = values
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        (format!("{prefix}{name}"), TensorData::new(values, shape))
    });
    tensors.collect()
}

fn with_transformer(path: &Path) -> LoadOptions {
    LoadOptions {
        transformer: Some(path.to_path_buf()),
        ..LoadOptions::default()
    }
}

/// What opening the checkpoint of the fixtures with this transformer says.
fn open_error(path: &Path) -> PipelineError {
    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    SanaPipeline::from_checkpoint(checkpoint, with_transformer(path), &device()).unwrap_err()
}

/// Bit for bit the latents of the published names, for Sprint too, which has qk norm and embedded
/// guidance.
#[test]
fn a_checkpoint_with_original_names_works() {
    for folder in [sana_folder(), sprint_folder()] {
        let expected = latents(&mut SanaPipeline::load(&folder, &device()).unwrap());
        let copied = copy_of(&folder);
        let weights = published(&folder);
        write_original(&weights, &copied.path().join(TRANSFORMER), "state_dict.");
        let mut pipeline = SanaPipeline::load(copied.path(), &device()).unwrap();
        assert_eq!(latents(&mut pipeline), expected);
        assert!(pipeline.notes().is_empty());
        let description = Checkpoint::open(copied.path()).unwrap().describe(None);
        let dtypes = &description.unwrap().parts[3].dtypes;
        assert_eq!(dtypes.keys().collect::<Vec<_>>(), ["f32"]);
    }
}

/// What trainers and user interfaces put before the names, in the original layout and in the
/// published one.
#[test]
fn prefixes_of_other_programs() {
    let folder = sana_folder();
    let expected = latents(&mut SanaPipeline::load(&folder, &device()).unwrap());
    let weights = published(&folder);
    let files = tempfile::tempdir().unwrap();
    let (original, named) = (
        files.path().join("o.safetensors"),
        files.path().join("n.safetensors"),
    );
    for prefix in [
        "model.diffusion_model.",
        "diffusion_model.",
        "_orig_mod.",
        "module.",
        "transformer.",
        "module._orig_mod.",
    ] {
        write_original(&weights, &original, prefix);
        write_tensors(&named, tensors_of(&weights, prefix)).unwrap();
        for file in [&original, &named] {
            let checkpoint = Checkpoint::open(&folder).unwrap();
            let options = with_transformer(file);
            let mut pipeline =
                SanaPipeline::from_checkpoint(checkpoint, options, &device()).unwrap();
            assert_eq!(
                latents(&mut pipeline),
                expected,
                "{prefix} {}",
                file.display()
            );
        }
    }
}

/// In both layouts, in place of a transformer that the checkpoint does not even have.
#[test]
fn a_transformer_in_a_file_of_its_own() {
    for folder in [sana_folder(), sprint_folder()] {
        let expected = latents(&mut SanaPipeline::load(&folder, &device()).unwrap());
        let copied = copy_of(&folder);
        std::fs::remove_file(copied.path().join(TRANSFORMER)).unwrap();
        let files = tempfile::tempdir().unwrap();
        let original = files.path().join("original.safetensors");
        write_original(&published(&folder), &original, "");
        for file in [original, folder.join(TRANSFORMER)] {
            let mut pipeline = load_with(copied.path(), with_transformer(&file));
            assert_eq!(latents(&mut pipeline), expected, "{}", file.display());
            // Only where no config.json has it.
            let inferred = !file.starts_with(&folder);
            assert_eq!(pipeline.notes().len(), usize::from(inferred));
            if inferred {
                let note = &pipeline.notes()[0];
                assert!(note.contains("5 heads of 8 channels"), "{note}");
            }
        }
        let mut pipeline = load_with(
            copied.path(),
            with_transformer(&folder.join(Component::Transformer.folder())),
        );
        assert_eq!(latents(&mut pipeline), expected, "the folder");
    }
}

/// The file is not of the checkpoint's size: the config follows the file.
#[test]
fn another_depth_is_read_off_the_file() {
    let folder = sana_folder();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("two-blocks.safetensors");
    let mut tensors = original_tensors(&published(&folder), "");
    tensors.retain(|(name, _)| !name.starts_with("blocks.2."));
    write_tensors(&file, tensors).unwrap();
    let mut pipeline = load_with(&folder, with_transformer(&file));
    assert_eq!(pipeline.spec().transformer.num_layers, 2);
    assert_eq!(pipeline.spec().transformer.sample_size, 8);
    let all = latents(&mut sana());
    assert_ne!(latents(&mut pipeline), all);
    // Another model's config next to it does not count.
    std::fs::write(
        files.path().join("config.json"),
        r#"{"_class_name": "AutoencoderDC"}"#,
    )
    .unwrap();
    let pipeline = load_with(&folder, with_transformer(&file));
    assert_eq!(pipeline.spec().transformer.num_layers, 2);
}

#[test]
fn files_that_are_no_transformer_of_this_checkpoint() {
    let error = open_error(Path::new("no/such.safetensors"));
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Weights(WeightError::Io { .. }))
    ));
    assert!(error.to_string().contains("no/such.safetensors"), "{error}");

    let vae = sana_folder().join("vae/diffusion_pytorch_model.safetensors");
    let error = open_error(&vae);
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::Config(ConfigError::NotInferred { .. }))
    ));
    assert!(error.to_string().contains("patch_embed.proj"), "{error}");

    // Latents that the autoencoder does not have.
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("original.safetensors");
    let mut tensors = original_tensors(&published(&sana_folder()), "");
    for (name, data) in &mut tensors {
        if name == "x_embedder.proj.weight" {
            *data = TensorData::new(vec![0f32; 40 * 7], [40, 7, 1, 1]);
        }
    }
    write_tensors(&file, tensors.clone()).unwrap();
    let error = open_error(&file);
    assert!(matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::ComponentsDiffer {
            found: 32,
            expected: 7,
            ..
        })
    ));

    // By the names of the file, before it is loaded.
    for (name, data) in &mut tensors {
        if name == "x_embedder.proj.weight" {
            *data = TensorData::new(vec![0f32; 40 * 32], [40, 32, 1, 1]);
        }
    }
    tensors.retain(|(name, _)| name != "blocks.1.attn.proj.bias");
    write_tensors(&file, tensors).unwrap();
    let text = open_error(&file).to_string();
    assert!(
        text.contains("missing 1: blocks.1.attn.proj.bias"),
        "{text}"
    );
}
