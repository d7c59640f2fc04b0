//! Writing of weights in 8 or 4 bits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde_json::Value;

use crate::layers::{LowRank, QuantizedWeight};
use crate::quantization::{Quantization, QuantizedMatrix, signal_to_noise};

use super::super::error::WeightError;
use super::super::save::{PlannedTensor, write_planned};
use super::super::tensors::Weights;
use super::settings;

/// How a weight became another one.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNoise {
    /// The layer.
    pub layer: String,
    /// Its form.
    pub form: Quantization,
    /// Signal to noise in decibels.
    pub decibels: f64,
}

/// Takes the low-rank part out of a weight `[out, in]`.
pub type TakeLowRank<'a> = &'a dyn Fn(Tensor<2>) -> LowRank;

/// Weights to write with some of their layers quantized.
#[derive(Debug, Clone)]
pub struct QuantizePlan<'a> {
    weights: Cow<'a, Weights>,
    to: Quantization,
    /// Names of the weights that are quantized.
    chosen: BTreeMap<String, Quantization>,
}

impl<'a> QuantizePlan<'a> {
    /// Of weights that are not quantized yet, with the names of those that will be.
    ///
    /// # Errors
    /// [`WeightError::Quantized`] when they are quantized, [`WeightError::NoTensor`] for a name
    /// that is not there.
    #[doc(hidden)]
    pub fn new(
        weights: Cow<'a, Weights>,
        to: Quantization,
        names: impl Iterator<Item = String>,
    ) -> Result<Self, WeightError> {
        let mut entries = weights.entries.values();
        if entries.any(|entry| entry.packed.is_some() || entry.encoded.is_some()) {
            let reason = "it would be quantized twice: take the weights that it was made of";
            return Err(weights.unsupported(reason.to_owned()));
        }
        let mut chosen = BTreeMap::new();
        for name in names {
            weights.checked_dtype(&name)?;
            let inputs = weights.shape(&name).and_then(|shape| shape.get(1).copied());
            chosen.insert(name, to.of_rows(inputs.unwrap_or(0)));
        }
        Ok(Self {
            weights,
            to,
            chosen,
        })
    }

    /// The `quantization_config` of the new `config.json`. SDNQ takes every layer for a quantized one
    /// that is not listed in it.
    pub fn config(&self, rank: Option<usize>) -> Value {
        let matrices = self.weights.names().filter(|name| {
            let shape = self.weights.shape(name).unwrap_or_default();
            name.ends_with(".weight") && shape.len() > 1
        });
        let exceptions = matrices.filter_map(|name| match self.chosen.get(name) {
            None => Some((name, None)),
            Some(form) => (*form != self.to).then_some((name, Some(*form))),
        });
        settings::written(self.to, rank, exceptions)
    }

    /// Writes them to one safetensors file, which appears whole or not at all. Dense tensors keep
    /// their dtype. The quantized weights are in memory together, the dense ones one at a time.
    /// `progress(done, all)` counts layers that are quantized.
    ///
    /// # Errors
    /// When a tensor cannot be read, or the file not be written.
    pub fn write(
        &self,
        low_rank: Option<TakeLowRank<'_>>,
        path: &Path,
        device: &Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<LayerNoise>, WeightError> {
        let mut noise = Vec::new();
        let mut written: BTreeMap<String, TensorData> = BTreeMap::new();
        for (name, form) in &self.chosen {
            let weight = self.weights.matrix(name, device)?;
            let low_rank = low_rank.map(|take| take(weight.clone()));
            let rest = match &low_rank {
                Some(LowRank { down, up }) => weight.clone() - up.clone().matmul(down.clone()),
                None => weight.clone(),
            };
            let quantized = QuantizedWeight {
                matrix: form.quantize(rest),
                low_rank,
            };
            let layer = name.strip_suffix(".weight").unwrap_or(name);
            noise.push(LayerNoise {
                layer: layer.to_owned(),
                form: *form,
                decibels: signal_to_noise(weight, quantized.dense(DType::F32)),
            });
            let pointwise = self
                .weights
                .shape(name)
                .is_some_and(|shape| shape.len() == 4);
            for (suffix, data) in tensors(quantized, pointwise) {
                written.insert(format!("{layer}.{suffix}"), data);
            }
            progress(noise.len() as u64, self.chosen.len() as u64);
        }
        let mut plan = Vec::new();
        for name in self.weights.names() {
            if !self.chosen.contains_key(name) {
                plan.push(PlannedTensor {
                    name: name.to_owned(),
                    dtype: self.weights.checked_dtype(name)?,
                    shape: self.weights.shape(name).unwrap_or_default().to_vec(),
                });
            }
        }
        plan.extend(written.iter().map(|(name, data)| PlannedTensor {
            name: name.clone(),
            dtype: data.dtype(),
            shape: data.shape().to_vec(),
        }));
        write_planned(path, plan, |name| match written.get(name) {
            Some(data) => Ok(Cow::Borrowed(data)),
            None => Ok(Cow::Owned(self.weights.tensor_data(name, None)?)),
        })?;
        Ok(noise)
    }
}

/// The tensors that a weight is stored as.
fn tensors(weight: QuantizedWeight, pointwise: bool) -> Vec<(&'static str, TensorData)> {
    let [rows, inputs] = weight.size();
    // The axes of a kernel.
    let with_kernel = |axes: &[usize]| {
        let kernel: &[usize] = if pointwise { &[1, 1] } else { &[] };
        [axes, kernel].concat()
    };
    let shaped = |data: TensorData, shape: Vec<usize>| {
        let dtype = data.dtype();
        TensorData::from_bytes(data.into_bytes(), shape, dtype)
    };
    let mut tensors = Vec::new();
    match weight.matrix {
        QuantizedMatrix::Int8Rows(matrix) => {
            let values = matrix.values.into_data();
            tensors.push(("weight", shaped(values, with_kernel(&[rows, inputs]))));
            let scales = matrix.scales.into_data();
            tensors.push(("scale", shaped(scales, with_kernel(&[rows, 1]))));
        }
        QuantizedMatrix::Uint4Groups(matrix) => {
            let [_, groups] = matrix.scales.dims();
            let axes = match groups {
                1 => with_kernel(&[rows, 1]),
                _ => with_kernel(&[rows, groups, 1]),
            };
            let packed = matrix.packed.into_data();
            tensors.push(("weight", shaped(packed, vec![rows * inputs / 2])));
            tensors.push(("scale", shaped(matrix.scales.into_data(), axes.clone())));
            tensors.push(("zero_point", shaped(matrix.zero_points.into_data(), axes)));
        }
    }
    if let Some(LowRank { down, up }) = weight.low_rank {
        tensors.push(("svd_up", up.into_data()));
        tensors.push(("svd_down", down.into_data()));
    }
    tensors
}
