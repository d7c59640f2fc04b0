//! Rewriting a transformer's weights in the other layout.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Bytes, DType, Device, TensorData};

use super::checkpoint::original_name;
use super::config::SanaTransformerConfig;
use super::model::checked;
use crate::weights::{
    KeyMap, PlannedTensor, WeightError, Weights, parameter_shapes, write_planned,
};

/// Names that the tensors of a transformer have in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransformerLayout {
    /// Those of diffusers, as in published checkpoint folders.
    Diffusers,
    /// Those of the authors' own files: see [`OriginalLayout`](super::OriginalLayout).
    Original,
}

/// What the rows of a tensor in the new file are made of, one after the other.
struct Rows {
    dtype: DType,
    shape: Vec<usize>,
    /// Which of the shares it is, and its published name.
    shares: Vec<(usize, String)>,
}

impl SanaTransformerConfig {
    /// Writes the weights to one safetensors file in a layout, from either layout. Each tensor
    /// keeps its dtype, and its values bit for bit, unless `dtype` is given; of an original tensor
    /// whose shares differ in dtype it is f32. Of the original layout only what inference needs is
    /// kept. One tensor at a time is in memory, and the file appears whole or not at all.
    /// `progress(written, all)` counts bytes.
    ///
    /// # Errors
    /// When the weights are not exactly those of this config, or the file cannot be written.
    pub fn convert(
        &self,
        weights: &Weights,
        layout: TransformerLayout,
        dtype: Option<DType>,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), WeightError> {
        // Any device will do: it is asked for the shapes of parameters only.
        let model = self.init(&Device::default());
        let published = checked(weights, &model)?;
        let mut tensors: BTreeMap<String, Rows> = BTreeMap::new();
        for (name, shape) in parameter_shapes(&model, KeyMap::default()) {
            let (target, [part, _]) = match layout {
                TransformerLayout::Diffusers => (name.clone(), [0, 1]),
                TransformerLayout::Original => original_name(&name),
            };
            let stored = dtype.map_or_else(|| published.dtype_of_floats(&name), Ok)?;
            match tensors.get_mut(&target) {
                Some(rows) => rows.add(part, name, &shape, stored),
                None => {
                    let rows = Rows {
                        dtype: stored,
                        shape,
                        shares: vec![(part, name)],
                    };
                    tensors.insert(target, rows);
                }
            }
        }
        let plan: Vec<PlannedTensor> = tensors
            .iter()
            .map(|(name, rows)| PlannedTensor {
                name: name.clone(),
                dtype: rows.dtype,
                shape: rows.shape.clone(),
            })
            .collect();
        let all = tensors.values().map(Rows::bytes).sum();
        let mut written = 0;
        write_planned(path, plan, |name| {
            let data = tensors[name].read(&published)?;
            written += data.as_bytes().len() as u64;
            progress(written, all);
            Ok(Cow::Owned(data))
        })
    }
}

impl Rows {
    fn add(&mut self, part: usize, name: String, shape: &[usize], dtype: DType) {
        self.shape[0] += shape[0];
        self.shares.push((part, name));
        self.shares.sort();
        if self.dtype != dtype {
            self.dtype = DType::F32;
        }
    }

    fn bytes(&self) -> u64 {
        (self.shape.iter().product::<usize>() * self.dtype.size()) as u64
    }

    fn read(&self, published: &Weights) -> Result<TensorData, WeightError> {
        if let [(_, name)] = self.shares.as_slice() {
            return published.tensor_data(name, Some(self.dtype));
        }
        let mut bytes = Vec::new();
        for (_, name) in &self.shares {
            let share = published.tensor_data(name, Some(self.dtype))?;
            bytes.extend_from_slice(share.as_bytes());
        }
        let bytes = Bytes::from_bytes_vec(bytes);
        Ok(TensorData::from_bytes(
            bytes,
            self.shape.clone(),
            self.dtype,
        ))
    }
}
