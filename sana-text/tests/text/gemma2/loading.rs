//! Folders and inputs, usable and not.

use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::parity::device;
use sana_linear_attn::{SaveOptions, WeightError, Weights, save_module};
use sana_text::{Gemma2LoadOptions, Gemma2Model, TextError};

use super::{compare, folder_with, load, on_device, text_encoder, values};

fn load_from(folder: &Path) -> Result<Gemma2Model, TextError> {
    Gemma2Model::load(folder, &Gemma2LoadOptions::default(), &device())
}

#[test]
fn whole_language_model_loads() {
    let folder = folder_with(|tensors| {
        for (name, _) in tensors.iter_mut() {
            *name = format!("model.{name}");
        }
        let head = tensors
            .iter()
            .find(|(name, _)| name.ends_with("embed_tokens.weight"));
        tensors.push(("lm_head.weight".to_owned(), head.unwrap().1.clone()));
    });
    compare(&load_from(folder.path()).unwrap(), "model. prefix, host");
    let model = Gemma2Model::load(folder.path(), &on_device(), &device()).unwrap();
    compare(&model, "model. prefix, device");
}

#[test]
fn mixed_dtypes_become_the_one_of_the_table() {
    let folder = folder_with(|tensors| {
        for (name, data) in tensors.iter_mut() {
            if name.contains("norm") {
                *data = data.clone().convert_dtype(DType::F16);
            }
        }
    });
    let model = load_from(folder.path()).unwrap();
    assert_eq!(model.dtype(), DType::F32);
    assert_eq!(model.layers[0].mlp.up_proj.weight.val().dtype(), DType::F32);
    let state = model
        .forward_ids(&[[2u32, 300]], Tensor::ones([1, 2], &device()))
        .unwrap();
    assert!(values(state).iter().all(|value| value.is_finite()));
}

#[test]
fn shards_and_variants_load() {
    let whole = folder_with(|_| ());
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(whole.path().join(from), folder.path().join(to)).unwrap();
    };
    copy("config.json", "config.json");
    copy("model.safetensors", "model.fp16.safetensors");
    let options = Gemma2LoadOptions {
        variant: Some("fp16".to_owned()),
        ..Default::default()
    };
    compare(
        &Gemma2Model::load(folder.path(), &options, &device()).unwrap(),
        "variant",
    );
    std::fs::remove_file(folder.path().join("model.fp16.safetensors")).unwrap();

    let mut map = serde_json::Map::new();
    for (shard, is_embedding) in [
        ("model-1.safetensors", true),
        ("model-2.safetensors", false),
    ] {
        let part = folder_with(|tensors| {
            tensors.retain(|(name, _)| name.starts_with("embed_tokens") == is_embedding);
            for (name, _) in tensors {
                map.insert(name.clone(), shard.into());
            }
        });
        let from = part.path().join("model.safetensors");
        std::fs::copy(from, folder.path().join(shard)).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    compare(&load_from(folder.path()).unwrap(), "shards");
}

#[test]
fn saved_model_is_a_whole_checkpoint() {
    let model = load(&Gemma2LoadOptions::default())
        .into_trainable()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), model.config().to_json()).unwrap();
    let file = folder.path().join("model.safetensors");
    save_module(&model, &file, &SaveOptions::default()).unwrap();
    let weights = Weights::open_file(&file).unwrap();
    assert_eq!(weights.total_elements(), model.config().parameter_count());
    compare(&load_from(folder.path()).unwrap(), "saved and loaded");
}

#[test]
fn unusable_folders() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::Io { .. }), "{error}");
    assert!(error.to_string().contains("config.json"), "{error}");

    std::fs::write(folder.path().join("config.json"), "{\"vocab_size\": []}").unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::ConfigSyntax { .. }), "{error}");

    std::fs::write(folder.path().join("config.json"), "{\"head_dim\": 3}").unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::Config { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&folder.path().display().to_string()),
        "{error}"
    );

    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let error = load_from(folder.path()).unwrap_err();
    assert!(
        matches!(error, TextError::Weights(WeightError::NoWeights { .. })),
        "{error}"
    );
}

#[test]
fn weights_that_do_not_fit() {
    let folder = folder_with(|tensors| {
        tensors.retain(|(name, _)| name != "layers.1.mlp.up_proj.weight");
        tensors.push(("surplus".to_owned(), TensorData::from([1.0f32])));
    });
    let error = load_from(folder.path()).unwrap_err().to_string();
    assert!(error.contains("layers.1.mlp.up_proj.weight"), "{error}");
    assert!(error.contains("surplus"), "{error}");

    let folder = folder_with(|tensors| tensors.retain(|(name, _)| !name.contains("embed")));
    let error = load_from(folder.path()).unwrap_err();
    assert!(
        matches!(error, TextError::Weights(WeightError::NoTensor { .. })),
        "{error}"
    );

    let folder = folder_with(|tensors| {
        let table = tensors
            .iter_mut()
            .find(|(name, _)| name.contains("embed"))
            .unwrap();
        table.1 = TensorData::from([[1.0f32, 2.0]]);
    });
    let error = load_from(folder.path()).unwrap_err();
    assert!(matches!(error, TextError::EmbeddingShape { .. }), "{error}");

    let folder = folder_with(|_| ());
    let file = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    for cut in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let error = load_from(folder.path()).unwrap_err();
        assert!(matches!(error, TextError::Weights(_)), "{cut}: {error}");
    }
}

#[test]
fn unusable_input() {
    let mut model = load(&on_device());
    let refused = |model: &Gemma2Model, ids: &[Vec<u32>]| model.embed(ids).unwrap_err();
    assert!(matches!(refused(&model, &[]), TextError::EmptyBatch));
    assert!(matches!(refused(&model, &[vec![]]), TextError::EmptyBatch));
    assert!(matches!(
        refused(&model, &[vec![1, 2], vec![3]]),
        TextError::RaggedBatch {
            row: 1,
            expected: 2,
            found: 1
        }
    ));
    let vocab_size = model.config().vocab_size;
    let outside = refused(&model, &[vec![vocab_size as u32]]);
    assert!(
        matches!(outside, TextError::TokenOutOfRange { .. }),
        "{outside}"
    );

    model.embed_tokens = None;
    assert!(matches!(
        refused(&model, &[vec![1]]),
        TextError::NoEmbedding
    ));
    assert!(matches!(
        model.into_trainable().unwrap_err(),
        TextError::NoEmbedding
    ));

    let options = Gemma2LoadOptions {
        dtype: Some(DType::I32),
        ..Default::default()
    };
    let error = Gemma2Model::load(&text_encoder(), &options, &device()).unwrap_err();
    assert!(
        matches!(error, TextError::Dtype { found: DType::I32 }),
        "{error}"
    );
}
