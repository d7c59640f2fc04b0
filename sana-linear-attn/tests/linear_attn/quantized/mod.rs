//! Files that other programs quantized. The fixtures are written by `benches/reference/quantized_fixtures.py`.

mod bitsandbytes;
mod gguf;
mod nunchaku;

use std::path::PathBuf;

use burn::tensor::DType;
use safetensors::tensor::{Dtype, TensorView, serialize};
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{built_in_fixture_path, device};

fn fixture(name: &str) -> PathBuf {
    built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), &format!("quantized/{name}"))
}

/// The values of a tensor of two axes as it is loaded in `dtype`.
fn matrix(weights: &Weights, name: &str, dtype: DType) -> Vec<f32> {
    let tensor = weights.tensor::<2>(name, dtype, &device()).unwrap();
    assert_eq!(tensor.dtype(), dtype);
    tensor.into_data().iter::<f32>().collect()
}

/// Equal: zeros of either sign, NaN by its bits.
#[track_caller]
fn assert_same(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let mut pairs = ours.iter().zip(theirs).enumerate();
    let other =
        pairs.find(|(_, (ours, theirs))| ours.to_bits() != theirs.to_bits() && ours != theirs);
    assert_eq!(other, None, "{name}: the first that differs");
}

/// A tensor of a file in memory.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

fn stored(name: &str) -> Vec<Stored> {
    let bytes = std::fs::read(fixture(name)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    tensors
        .map(|(name, view)| {
            (
                name,
                view.dtype(),
                view.shape().to_vec(),
                view.data().to_vec(),
            )
        })
        .collect()
}

fn opened(
    tensors: &[Stored],
    metadata: Option<std::collections::HashMap<String, String>>,
) -> Result<Weights, sana_linear_attn::WeightError> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
        )
    });
    Weights::from_bytes("a file", serialize(views, metadata).unwrap())
}
