//! Rewriting a transformer's weights in the other layout.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Bytes, DType, Device, TensorData};

use super::checkpoint::original_name;
use super::config::SanaTransformerConfig;
use super::model::{PUBLISHED_OPTIONS, published};
use crate::weights::{KeyMap, WeightError, Weights, check_module, parameter_shapes, write_tensors};

/// Names that the tensors of a transformer have in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransformerLayout {
    /// Those of diffusers, as in published checkpoint folders.
    Diffusers,
    /// Those of the authors' own files: see [`OriginalLayout`](super::OriginalLayout).
    Original,
}

impl SanaTransformerConfig {
    /// Writes the weights to one safetensors file in a layout, from either layout. Each tensor
    /// keeps its dtype, and its values bit for bit, unless `dtype` is given. The file appears
    /// whole or not at all.
    ///
    /// # Errors
    /// When the weights are not exactly those of this config, or the file cannot be written.
    pub fn convert(
        &self,
        weights: &Weights,
        layout: TransformerLayout,
        dtype: Option<DType>,
        path: &Path,
        device: &Device,
    ) -> Result<(), WeightError> {
        let model = self.init(device);
        let published = published(weights, &model)?;
        check_module(&model, &published, &PUBLISHED_OPTIONS)?;
        let mut tensors = Vec::new();
        for (name, _) in parameter_shapes(&model, KeyMap::default()) {
            let data = published.tensor_data(&name, dtype, device)?;
            tensors.push((name, data));
        }
        if layout == TransformerLayout::Original {
            tensors = originals(tensors);
        }
        write_tensors(path, tensors)
    }
}

/// The tensors of the original layout: query, key and value are one.
fn originals(published: Vec<(String, TensorData)>) -> Vec<(String, TensorData)> {
    let mut shares: BTreeMap<String, Vec<(usize, TensorData)>> = BTreeMap::new();
    for (name, data) in published {
        let (original, [part, _]) = original_name(&name);
        shares.entry(original).or_default().push((part, data));
    }
    shares
        .into_iter()
        .map(|(name, mut shares)| {
            shares.sort_by_key(|(part, _)| *part);
            (
                name,
                joined(shares.into_iter().map(|(_, data)| data).collect()),
            )
        })
        .collect()
}

/// The rows of all, one after the other; in f32 if their dtypes differ.
fn joined(mut parts: Vec<TensorData>) -> TensorData {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut dtype = parts[0].dtype();
    if parts.iter().any(|part| part.dtype() != dtype) {
        dtype = DType::F32;
    }
    let mut shape = parts[0].shape().to_vec();
    shape[0] = parts.iter().map(|part| part.shape()[0]).sum();
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part.convert_dtype(dtype).as_bytes());
    }
    TensorData::from_bytes(Bytes::from_bytes_vec(bytes), shape, dtype)
}
