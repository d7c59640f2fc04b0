//! Transformers written in the other layout.

use std::fs;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{values, write_original};
use sana_pipeline::PipelineError;
use sana_pipeline::checkpoint::Component;
use sana_pipeline::checkpoint::create::{ConvertOptions, TransformerLayout, convert_transformer};
use sana_pipeline::error::CheckpointError;

use super::parity::sampled;
use super::*;

const FILE: &str = "diffusion_pytorch_model.safetensors";

fn original(from: &Path) -> ConvertOptions {
    ConvertOptions {
        layout: TransformerLayout::Original,
        ..ConvertOptions::new(from)
    }
}

#[track_caller]
fn convert(options: &ConvertOptions, out: &Path) -> Vec<String> {
    let mut last = (0, 1);
    let notes = convert_transformer(options, out, &mut |done, all| last = (done, all)).unwrap();
    assert_eq!(last.0, last.1);
    notes
}

/// Tensors of original files that inference does not need.
const DROPPED: [&str; 4] = [
    "logvar_linear.bias",
    "logvar_linear.weight",
    "pos_embed",
    "y_embedder.y_embedding",
];

/// Names, shapes, dtypes and bytes of all tensors.
#[track_caller]
fn assert_same(ours: &Path, theirs: &Path) {
    let [ours, theirs] = [ours, theirs].map(|path| Weights::open_file(path).unwrap());
    let kept = theirs.names().filter(|name| !DROPPED.contains(name));
    assert!(ours.names().eq(kept));
    for name in ours.names() {
        assert_eq!(ours.shape(name), theirs.shape(name), "{name}");
        assert_eq!(ours.dtype(name), theirs.dtype(name), "{name}");
        assert_eq!(ours.bytes(name), theirs.bytes(name), "{name}");
    }
}

/// To the authors' names and back, bit for bit, also with qk norm and embedded guidance.
#[test]
fn there_and_back_again() {
    for folder in [sana_folder(), sprint_folder()] {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let theirs = path("theirs.safetensors");
        write_original(
            &Weights::open_file(&folder.join(TRANSFORMER)).unwrap(),
            &theirs,
            "",
        );
        // A checkpoint, its component, or the file.
        let component = folder.join(Component::Transformer.folder());
        for (index, from) in [folder.clone(), component.clone(), component.join(FILE)]
            .iter()
            .enumerate()
        {
            let out = path(&format!("{index}.safetensors"));
            assert!(convert(&original(from), &out).is_empty());
            assert_same(&out, &theirs);
        }
        let options = ConvertOptions {
            config: Some(component.join("config.json")),
            ..ConvertOptions::new(&theirs)
        };
        let back = path("back");
        assert!(convert(&options, &back).is_empty());
        assert_same(&back.join(FILE), &component.join(FILE));
        let files = fs::read_dir(&back).unwrap().count();
        assert_eq!(files, 2, "config.json and weights");
        let again = path("again.safetensors");
        assert!(convert(&original(&back), &again).is_empty());
        assert_same(&again, &theirs);

        let expected = values(sampled(
            &mut SanaPipeline::load(&folder, &device()).unwrap(),
            &small(),
        ));
        let options = LoadOptions {
            transformer: Some(back),
            ..LoadOptions::default()
        };
        let mut pipeline = load_with(&folder, options);
        assert_eq!(values(sampled(&mut pipeline, &small())), expected);
        assert!(pipeline.notes().is_empty());
    }
}

/// The config that is not next to the weights is read off their shapes; what these do not show is
/// in a note.
#[test]
fn a_file_without_config() {
    let files = tempfile::tempdir().unwrap();
    let theirs = files.path().join("theirs.safetensors");
    let weights = Weights::open_file(&sana_folder().join(TRANSFORMER)).unwrap();
    write_original(&weights, &theirs, "module.");
    let out = files.path().join("out");
    // 40 channels are no released model's: the heads are not known.
    let error = convert_transformer(&ConvertOptions::new(&theirs), &out, &mut |_, _| ());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
    assert!(!out.exists());
}

#[test]
fn another_dtype() {
    let files = tempfile::tempdir().unwrap();
    let out = files.path().join("out");
    let options = ConvertOptions {
        dtype: Some(DType::BF16),
        ..ConvertOptions::new(sana_folder())
    };
    convert(&options, &out);
    let [narrow, wide] = [out.join(FILE), sana_folder().join(TRANSFORMER)]
        .map(|path| Weights::open_file(&path).unwrap());
    for name in wide.names() {
        let values = wide.bytes(name).unwrap().chunks_exact(4);
        let values: Vec<f32> = values
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let count = values.len();
        let expected = TensorData::new(values, [count]).convert_dtype(DType::BF16);
        assert_eq!(narrow.dtype(name), Some(DType::BF16), "{name}");
        assert_eq!(narrow.bytes(name).unwrap(), expected.as_bytes(), "{name}");
    }
    assert!(!clamps(&sana_folder(), &out));
    let options = ConvertOptions {
        dtype: Some(DType::I64),
        ..ConvertOptions::new(sana_folder())
    };
    let error = convert_transformer(&options, &files.path().join("none"), &mut |_, _| ());
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::WeightDtype { .. })
        ),
        "{error}"
    );
}

/// Whether self-attention outputs are limited with this transformer.
fn clamps(folder: &Path, transformer: &Path) -> bool {
    let options = LoadOptions {
        transformer: Some(transformer.to_path_buf()),
        ..LoadOptions::default()
    };
    let mut pipeline = load_with(folder, options);
    pipeline.transformer().unwrap().has_f16_clamp()
}

/// A model that was trained in f16 is known as such in every dtype.
#[test]
fn trained_in_f16_stays_known() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let folder = copy_of(&sana_folder());
    let transformer = folder.path().join(TRANSFORMER);
    let named = transformer.with_file_name("diffusion_pytorch_model.fp16.safetensors");
    fs::rename(&transformer, &named).unwrap();
    let to = |from: &Path, dtype| ConvertOptions {
        dtype: Some(dtype),
        ..ConvertOptions::new(from)
    };
    convert(&to(folder.path(), DType::BF16), &path("bf16"));
    assert!(clamps(&sana_folder(), &path("bf16")));
    // The file alone, whose config is next to it.
    let alone = path("bf16").join("diffusion_pytorch_model.safetensors");
    assert!(clamps(&sana_folder(), &alone));
    // Also where the folder becomes that of a checkpoint, and is converted once more.
    convert(&to(&path("bf16"), DType::F32), &path("f32"));
    let component = folder.path().join(Component::Transformer.folder());
    fs::remove_dir_all(&component).unwrap();
    fs::rename(path("f32"), &component).unwrap();
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    assert!(pipeline.transformer().unwrap().has_f16_clamp());
    // One file has no config: its name says it.
    let one = |name: &str| {
        let options = ConvertOptions {
            dtype: Some(DType::BF16),
            ..original(folder.path())
        };
        convert(&options, &path(name))
    };
    assert!(one("plain.safetensors")[0].contains(".fp16"));
    assert!(one("model.fp16.safetensors").is_empty());
    assert!(clamps(&sana_folder(), &path("model.fp16.safetensors")));
}

/// The config that is given counts, and not the one next to the weights.
#[test]
fn a_config_next_to_the_weights_is_replaced() {
    let folder = copy_of(&sana_folder());
    let next_to = folder.path().join("transformer/config.json");
    let given = folder.path().join("given.json");
    fs::rename(&next_to, &given).unwrap();
    let wrong = r#"{"_class_name": "SanaTransformer2DModel", "num_layers": "many"}"#;
    fs::write(&next_to, wrong).unwrap();
    let out = folder.path().join("out");
    let without = ConvertOptions::new(folder.path());
    convert_transformer(&without, &out, &mut |_, _| ()).unwrap_err();
    let options = ConvertOptions {
        config: Some(given),
        ..without
    };
    assert!(convert(&options, &out).is_empty());
}

#[test]
fn nothing_is_replaced() {
    let files = tempfile::tempdir().unwrap();
    let refused = |options: &ConvertOptions, out: &Path| {
        let error = convert_transformer(options, out, &mut |_, _| ()).unwrap_err();
        let exists = matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::WeightsExist { .. })
        );
        assert!(exists, "{error}");
    };
    let file = files.path().join("there");
    fs::write(&file, "mine").unwrap();
    refused(&original(&sana_folder()), &file);
    refused(&ConvertOptions::new(sana_folder()), &file);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let folder = files.path().join("folder");
    for name in [
        "config.json",
        "model_index.json",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
    ] {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), "mine").unwrap();
        refused(&ConvertOptions::new(sana_folder()), &folder);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
    // A folder with something else in it is no obstacle.
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("readme.md"), "mine").unwrap();
    convert(&ConvertOptions::new(sana_folder()), &folder);
    // The component of a checkpoint itself.
    let own = copy_of(&sana_folder());
    refused(&ConvertOptions::new(own.path()), own.path());
}

#[test]
fn what_is_no_transformer() {
    let files = tempfile::tempdir().unwrap();
    for from in ["vae", "text_encoder"] {
        let out = files.path().join("out");
        let options = ConvertOptions::new(sana_folder().join(from));
        convert_transformer(&options, &out, &mut |_, _| ()).unwrap_err();
        assert!(!out.exists(), "{from}");
    }
    let options = ConvertOptions {
        variant: Some("typo".to_owned()),
        ..ConvertOptions::new(sana_folder())
    };
    let error = convert_transformer(&options, &files.path().join("out"), &mut |_, _| ());
    let error = error.unwrap_err();
    let no_variant = matches!(
        error,
        PipelineError::Checkpoint(CheckpointError::NoVariant { .. })
    );
    assert!(no_variant, "{error}");
}
