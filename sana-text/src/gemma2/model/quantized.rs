//! The text encoder with its linear layers quantized.

use std::borrow::Cow;

use burn::tensor::Device;
use sana_linear_attn::Weights;
use sana_linear_attn::quantization::Quantization;
use sana_linear_attn::weights::QuantizePlan;

use super::{Gemma2Model, linear_layers};
use crate::error::TextError;
use crate::gemma2::config::Gemma2Config;

impl Gemma2Model {
    /// The same model with its linear layers quantized.
    pub fn quantized(mut self, to: Quantization) -> Self {
        for (_, mut layer) in linear_layers(&mut self) {
            layer.quantize(to);
        }
        self
    }
}

impl Gemma2Config {
    /// The sizes `[out, in]` of the layers that are quantized, all linear ones; nothing is allocated.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn quantized_sizes(&self, device: &Device) -> Result<Vec<[usize; 2]>, TextError> {
        let mut model = self.init(device)?;
        let layers = linear_layers(&mut model).into_iter();
        Ok(layers.map(|(_, layer)| layer.size()).collect())
    }

    /// The weights, under the names that they have, to be written with the linear layers quantized.
    ///
    /// # Errors
    /// When the weights are not exactly those of this config, or quantized already.
    pub fn quantize_plan<'a>(
        &self,
        weights: &'a Weights,
        to: Quantization,
        device: &Device,
    ) -> Result<QuantizePlan<'a>, TextError> {
        Gemma2Model::check_weights(self, weights, device)?;
        let mut model = self.init(device)?;
        let names = linear_layers(&mut model).into_iter().map(|(layer, _)| {
            let name = format!("{layer}.weight");
            let prefixed = format!("model.{name}");
            match weights.contains(&prefixed) {
                true => prefixed,
                false => name,
            }
        });
        Ok(QuantizePlan::new(Cow::Borrowed(weights), to, names)?)
    }
}
