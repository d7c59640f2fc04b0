//! Loading and writing of a transformer whose linear layers are quantized.
//!
//! Those of the blocks are, but for the keys and values of the text: they are used once for each
//! prompt, so that 8 bits would save memory and no time, and are sensitive. The embeddings of patches,
//! timestep and caption, and the projection of the output stay as they are too.

use burn::tensor::{DType, Device};

use crate::quantization::{Quantization, Quantize};
use crate::weights::{QuantizePlan, WeightError, Weights, load_quantized};

use super::{PUBLISHED_OPTIONS, SanaTransformer, checked, published};
use crate::transformer::checkpoint::F16Clamp;
use crate::transformer::config::SanaTransformerConfig;
use crate::transformer::lora::layers_mut;

/// The form of a layer by its name; `None` for one that is not quantized.
fn form(layer: &str, quantize: Quantize) -> Option<Quantization> {
    let inner = layer.strip_prefix("transformer_blocks.")?;
    let (_, inner) = inner.split_once('.')?;
    let dense = match inner {
        "attn2.to_k" | "attn2.to_v" => true,
        "ff.conv_point" => quantize.dense_down,
        _ => false,
    };
    (!dense).then_some(quantize.to)
}

impl SanaTransformerConfig {
    /// As [`load`](Self::load), with the layers of the blocks quantized one after the other where
    /// `quantize` says so. Weights that are quantized in the file stay as they are there.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_quantized(
        &self,
        weights: &Weights,
        dtype: Option<DType>,
        clamp: F16Clamp,
        quantize: Option<Quantize>,
        device: &Device,
    ) -> Result<SanaTransformer, WeightError> {
        let options = crate::LoadOptions {
            dtype,
            ..PUBLISHED_OPTIONS
        };
        let model = self.init(device);
        let published = published(weights, &model)?;
        let choose = |layer: &str| form(layer, quantize?);
        let model = load_quantized(model, &published, &options, layers_mut, &choose, device)?;
        let clamp = clamp.is_on(self.qk_norm.is_some(), weights, dtype);
        Ok(model.with_f16_clamp(clamp))
    }

    /// The sizes `[out, in]` of the layers that [`load_quantized`](Self::load_quantized) quantizes;
    /// nothing is allocated.
    pub fn quantized_sizes(&self, quantize: Quantize, device: &Device) -> Vec<[usize; 2]> {
        let mut model = self.init(device);
        let layers = layers_mut(&mut model).into_iter();
        let chosen = layers.filter(|(layer, _)| form(layer, quantize).is_some());
        chosen.map(|(_, layer)| layer.size()).collect()
    }

    /// The weights with the names of the published layout, to be written with the layers of the blocks
    /// quantized.
    ///
    /// # Errors
    /// When the weights are not exactly those of this config, or quantized already.
    pub fn quantize_plan<'a>(
        &self,
        weights: &'a Weights,
        quantize: Quantize,
        device: &Device,
    ) -> Result<QuantizePlan<'a>, WeightError> {
        let mut model = self.init(device);
        let published = checked(weights, &model)?;
        let layers = layers_mut(&mut model).into_iter();
        let chosen = layers.filter(|(layer, _)| form(layer, quantize).is_some());
        let names = chosen.map(|(layer, _)| format!("{layer}.weight"));
        QuantizePlan::new(published, quantize.to, names)
    }
}

impl SanaTransformer {
    /// The same network with the layers quantized that
    /// [`load_quantized`](SanaTransformerConfig::load_quantized) quantizes.
    pub fn quantized(mut self, quantize: Quantize) -> Self {
        for (name, mut layer) in layers_mut(&mut self) {
            if let Some(form) = form(&name, quantize) {
                layer.quantize(form);
            }
        }
        self
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn layers_of_the_blocks() {
        let config = SanaTransformerConfig::sana_600m_1024px();
        let device = Device::flex();
        let count = |quantize| config.quantized_sizes(quantize, &device).len();
        let quantize = Quantize::from(Quantization::Int8);
        assert_eq!(count(quantize), 8 * config.num_layers);
        let dense_down = Quantize {
            dense_down: true,
            ..quantize
        };
        assert_eq!(count(dense_down), 7 * config.num_layers);
        for layer in [
            "proj_out",
            "time_embed.linear",
            "caption_projection.linear_1",
        ] {
            assert_eq!(form(layer, quantize), None, "{layer}");
        }
        let down = "transformer_blocks.3.ff.conv_point";
        assert_eq!(form(down, quantize), Some(Quantization::Int8));
        assert_eq!(form("transformer_blocks.3.attn2.to_k", quantize), None);
    }
}
