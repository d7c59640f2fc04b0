//! Loading of modules whose linear layers are quantized, in the file or while they are loaded.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

use crate::kernels;
use crate::layers::{AnyLinear, QuantizedWeight};
use crate::quantization::Quantization;

use super::super::error::WeightError;
use super::super::load::{LoadOptions, load_all_but};
use super::super::tensors::Weights;

/// As [`load_module`](crate::load_module), for a module with these linear layers, by the names of
/// their paths. Those whose weight is packed in the file stay so, and others get the form that
/// `choose` names, one after the other: the dense network is never in memory.
///
/// # Errors
/// As [`load_module`](crate::load_module).
pub fn load_quantized<M: Module>(
    mut module: M,
    weights: &Weights,
    options: &LoadOptions,
    layers: for<'m> fn(&'m mut M) -> Vec<(String, AnyLinear<'m>)>,
    choose: &dyn Fn(&str) -> Option<Quantization>,
    device: &Device,
) -> Result<M, WeightError> {
    let mut kept: BTreeMap<String, (String, Option<Quantization>)> = BTreeMap::new();
    for (layer, _) in layers(&mut module) {
        let key = options.key_map.to_checkpoint(&format!("{layer}.weight"));
        let prefixed = format!("{}{key}", options.strip_prefix);
        let stored = match weights.contains(&prefixed) {
            true => prefixed,
            false => key,
        };
        let form = choose(&layer);
        if weights.packed(&stored).is_some() || form.is_some() {
            kept.insert(layer, (stored, form));
        }
    }
    let keys = kept.keys().map(|layer| {
        let path = format!("{layer}.weight");
        options.key_map.to_checkpoint(&path)
    });
    let keys: BTreeSet<String> = keys.collect();
    let mut module = load_all_but(module, weights, options, &keys, device)?;
    for (name, mut layer) in layers(&mut module) {
        let Some((stored, form)) = kept.get(&name) else {
            continue;
        };
        match (weights.packed_matrix(stored), form) {
            (Some(packed), _) => {
                let mut weight = packed.read(weights, device)?;
                weight.matrix = kernels::for_its_device(weight.matrix);
                layer.set_quantized(weight);
            }
            (None, Some(form)) => {
                let dense = weights.matrix(stored, device)?;
                let form = form.on(dense.dims()[1], device);
                layer.set_quantized(QuantizedWeight {
                    matrix: form.quantize(dense),
                    low_rank: None,
                });
            }
            (None, None) => {}
        }
    }
    Ok(module)
}

impl Weights {
    /// The weight of a linear layer or a 1x1 convolution as `[out, in]`, in f32.
    pub(super) fn matrix(&self, name: &str, device: &Device) -> Result<Tensor<2>, WeightError> {
        match self.shape(name) {
            Some(&[rows, inputs, 1, 1]) => {
                let tensor = self.tensor::<4>(name, DType::F32, device)?;
                Ok(tensor.reshape([rows, inputs]))
            }
            _ => self.tensor::<2>(name, DType::F32, device),
        }
    }
}
