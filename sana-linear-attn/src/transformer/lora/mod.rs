//! Low-rank adaptation (LoRA, [arXiv 2106.09685](https://arxiv.org/abs/2106.09685)) of the
//! transformer's linear layers.

mod change;
mod check;
mod error;
mod file;
mod kind;
mod layers;
mod names;
mod settings;

use burn::tensor::Tensor;

use crate::layers::AnyLinear;

use self::layers::{attach, layer_sizes, merge};
use super::model::SanaTransformer;

pub use error::{LoraError, LoraMismatch};
pub use file::Lora;
pub use kind::LoraKind;
pub(in crate::transformer) use layers::layers_mut;

/// How a LoRA takes part in the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoraMode {
    /// Added to the weights: `W + scale * alpha / rank * B A`, in f32 and rounded once to the
    /// weights' dtype. Costs nothing per step.
    #[default]
    Merged,
    /// As low-rank terms next to the weights, which stay as they are: `x W^T + scale * alpha / rank * (x A^T) B^T`.
    /// Costs two thin GEMMs per layer and step, does not round to the weights' dtype, and can be
    /// [removed](SanaTransformer::without_low_rank).
    Unmerged,
}

/// A LoRA as it is applied.
#[derive(Debug, Clone)]
pub struct ScaledLora {
    lora: Lora,
    scale: f64,
    mode: LoraMode,
}

impl ScaledLora {
    /// A LoRA with a scale; 0 leaves the transformer as it is.
    ///
    /// # Errors
    /// [`LoraError::Scale`] when the scale is not finite; [`LoraError::NotLowRank`] for an unmerged
    /// one whose change of the weights is not low rank.
    pub fn new(lora: Lora, scale: f64, mode: LoraMode) -> Result<Self, LoraError> {
        if !scale.is_finite() {
            return Err(LoraError::Scale {
                origin: lora.origin().to_owned(),
                scale,
            });
        }
        match lora.dense_kind() {
            Some(kind) if mode == LoraMode::Unmerged => Err(LoraError::NotLowRank {
                origin: lora.origin().to_owned(),
                kind: kind.name(),
            }),
            _ => Ok(Self { lora, scale, mode }),
        }
    }

    /// That it can be kept next to quantized weights: its changes are low rank, or its scale is 0.
    ///
    /// # Errors
    /// [`LoraError::Quantized`].
    pub fn check_quantized(&self) -> Result<(), LoraError> {
        match self.lora.dense_kind() {
            Some(kind) if self.scale != 0.0 => Err(LoraError::Quantized {
                origin: self.lora.origin().to_owned(),
                kind: kind.name(),
            }),
            _ => Ok(()),
        }
    }

    /// The LoRA.
    pub fn lora(&self) -> &Lora {
        &self.lora
    }

    /// What of it has no effect.
    pub fn notes(&self) -> Vec<String> {
        let origin = self.lora.origin();
        let mut notes = Vec::new();
        if self.scale == 0.0 {
            notes.push(format!("the LoRA {origin} has no effect at scale 0"));
        }
        let skipped = self.lora.text_encoder_tensors();
        if skipped > 0 {
            notes.push(format!(
                "the LoRA {origin} also changes a text encoder: its {skipped} tensors for that are skipped"
            ));
        }
        notes
    }
}

impl SanaTransformer {
    /// Applies LoRAs: each adds `scale * alpha / rank * B A`, or what a DoRA, LoHa or LoKr makes of
    /// the original weights, to the weights of the layers it changes. The merged ones are summed in f32 before the sum is rounded to the weights' dtype.
    ///
    /// Nothing is merged into a quantized weight, whose steps are coarser than most changes: there
    /// all of them are [unmerged](LoraMode::Unmerged).
    ///
    /// # Errors
    /// As [`Lora::check`], of the first that does not fit; nothing has been computed by then.
    /// [`LoraError::Quantized`] for a change of quantized weights that is not low rank.
    pub fn with_loras(mut self, loras: &[ScaledLora]) -> Result<Self, LoraError> {
        let sizes = layer_sizes(&mut self);
        for scaled in loras {
            scaled.lora.check_layers(&sizes)?;
        }
        for (name, mut layer) in layers_mut(&mut self) {
            let device = layer.device();
            let quantized = layer.quantized().is_some();
            let mut delta: Option<Tensor<2>> = None;
            for scaled in loras.iter().filter(|scaled| scaled.scale != 0.0) {
                let (lora, scale) = (&scaled.lora, scaled.scale);
                let mode = match quantized {
                    true => LoraMode::Unmerged,
                    false => scaled.mode,
                };
                match mode {
                    LoraMode::Unmerged => {
                        if let Some(kind) = lora.dense_kind_of(&name) {
                            return Err(LoraError::Quantized {
                                origin: lora.origin().to_owned(),
                                kind: kind.name(),
                            });
                        }
                        if let Some(term) = lora.term(&name, scale, &device)? {
                            attach(&mut layer, term);
                        }
                    }
                    LoraMode::Merged => {
                        let change = lora.delta(&name, scale, || layer.matrix(), &device)?;
                        delta = match (delta, change) {
                            (Some(sum), Some(change)) => Some(sum + change),
                            (sum, change) => sum.or(change),
                        };
                    }
                }
            }
            if let Some(delta) = delta {
                merge(&mut layer, delta);
            }
        }
        Ok(self)
    }

    /// Removes [unmerged](LoraMode::Unmerged) LoRAs.
    pub fn without_low_rank(mut self) -> Self {
        for (_, layer) in layers_mut(&mut self) {
            match layer {
                AnyLinear::Linear(layer) => layer.low_rank.clear(),
                AnyLinear::Pointwise(layer) => layer.low_rank.clear(),
            }
        }
        self
    }
}
