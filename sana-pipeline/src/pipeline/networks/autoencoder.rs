//! The autoencoder, borrowed apart from the other networks.

use burn::tensor::Device;
use sana_dcae::DcAe;

use super::source::{choose_dtype, no_component};
use crate::checkpoint::{Checkpoint, Component};
use crate::error::PipelineError;
use crate::pipeline::options::LoadOptions;

/// The autoencoder apart from the other networks, loaded at first need.
pub(crate) struct Autoencoder<'a> {
    pub(super) loaded: &'a mut Option<DcAe>,
    pub(super) source: Option<&'a (Checkpoint, LoadOptions)>,
    pub(super) device: &'a Device,
    pub(super) notes: &'a mut Vec<String>,
}

impl<'a> Autoencoder<'a> {
    pub fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// The model, loaded now if it was not.
    pub fn load(&mut self) -> Result<&DcAe, PipelineError> {
        let Self {
            loaded,
            source,
            device,
            notes,
        } = self;
        Autoencoder {
            loaded,
            source: *source,
            device,
            notes,
        }
        .into_loaded()
    }

    pub(super) fn into_loaded(self) -> Result<&'a DcAe, PipelineError> {
        let model = match self.loaded.take() {
            Some(model) => model,
            None => {
                let component = Component::Vae;
                let (checkpoint, options) = self.source.ok_or_else(|| no_component(component))?;
                let weights = checkpoint.weights(component, options.variant.as_deref())?;
                let dtype = choose_dtype(component, &weights, options, self.device, self.notes);
                let config = checkpoint.vae_config()?;
                DcAe::from_weights(&config, &weights, Some(dtype), self.device)?
                    .with_bf16_gemm(options.bf16_gemm)
            }
        };
        Ok(self.loaded.insert(model))
    }
}
