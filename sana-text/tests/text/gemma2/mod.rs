//! The decoder stack against the reference, its loading and its training.

mod forward;
mod gguf;
mod loading;
mod training;

use std::path::PathBuf;

use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{Fixture, assert_parity, built_in_fixture_path, device};
use sana_linear_attn::weights::write_tensors;
use sana_text::{EmbeddingPlacement, Gemma2LoadOptions, Gemma2Model};

use crate::ROOT;

fn on_device() -> Gemma2LoadOptions {
    Gemma2LoadOptions {
        embedding: EmbeddingPlacement::Device,
        ..Default::default()
    }
}

/// The crate's own checkpoint, whatever `SANA_FIXTURES` names: its tokens, bounds of half
/// precision and names of tensors stand in these tests.
fn text_encoder() -> PathBuf {
    built_in_fixture_path(ROOT, "text/text_encoder")
}

fn load(options: &Gemma2LoadOptions) -> Gemma2Model {
    Gemma2Model::load(&text_encoder(), options, &device()).unwrap()
}

struct Batch {
    io: Fixture,
    ids: Vec<Vec<u32>>,
    mask: Tensor<2>,
}

/// What the reference makes with the crate's own checkpoint.
fn batch() -> Batch {
    batch_of(Fixture::at(&built_in_fixture_path(
        ROOT,
        "text/io.safetensors",
    )))
}

fn batch_of(io: Fixture) -> Batch {
    let tokens = io.shape("input_ids")[1];
    let ids: Vec<u32> = io
        .values("input_ids")
        .into_iter()
        .map(|id| id as u32)
        .collect();
    let ids = ids.chunks(tokens).map(<[u32]>::to_vec).collect();
    let mask = io.tensor::<2>("attention_mask", &device());
    Batch { io, ids, mask }
}

/// The rows that the mask keeps; the rest becomes zero.
fn kept(states: Tensor<3>, mask: &Tensor<2>) -> Tensor<3> {
    states * mask.clone().unsqueeze_dim::<3>(2)
}

fn values(tensor: Tensor<3>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap()
}

fn compare(model: &Gemma2Model, name: &str) {
    compare_with(&batch(), model, name);
}

fn compare_with(batch: &Batch, model: &Gemma2Model, name: &str) {
    let Batch { io, ids, mask } = batch;
    let states = model.hidden_states(model.embed(ids).unwrap(), mask.clone());
    assert_eq!(states.len(), model.config().num_hidden_layers + 1);
    for (index, state) in states.into_iter().enumerate() {
        let expected = io.tensor::<3>(&format!("hidden_state_{index}"), &device());
        let name = format!("{name}: hidden state {index}");
        assert_parity(&name, kept(state, mask), kept(expected, mask));
    }
    let last = model.forward_ids(ids, mask.clone()).unwrap();
    let expected = io.tensor::<3>("last_hidden_state", &device());
    assert_parity(
        &format!("{name}: last"),
        kept(last, mask),
        kept(expected, mask),
    );
}

/// Writes a copy of the fixture's folder with other tensors.
fn folder_with(change: impl FnOnce(&mut Vec<(String, TensorData)>)) -> tempfile::TempDir {
    let source = text_encoder();
    let weights = Weights::open_folder(&source, "model", None).unwrap();
    let mut tensors: Vec<(String, TensorData)> = weights
        .names()
        .map(|name| {
            let shape = weights.shape(name).unwrap().to_vec();
            let bytes = weights.bytes(name).unwrap().to_vec();
            (
                name.to_owned(),
                TensorData::from_bytes_vec(bytes, shape, DType::F32),
            )
        })
        .collect();
    change(&mut tensors);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        source.join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    write_tensors(&folder.path().join("model.safetensors"), tensors).unwrap();
    folder
}
