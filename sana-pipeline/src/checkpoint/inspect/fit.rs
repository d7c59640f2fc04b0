//! Whether the tensors of a checkpoint are those of its configs, by headers alone.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use burn::tensor::Device;
use sana_dcae::{DcAe, DcAeConfig};
use sana_linear_attn::{SanaTransformerConfig, WeightError, Weights};
use sana_sampler::{DpmSolverOptions, SigmaData};
use sana_text::Gemma2Model;
use serde::Serialize;

use crate::checkpoint::contents::weight_files::{has_variant_files, variants_in};
use crate::checkpoint::{Checkpoint, Component, ControlNetFolder, LoraFile, Scheduler, variants};
use crate::error::{CheckpointError, PipelineError};
use crate::support::escape::escaped;

/// What is loaded with a checkpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadedWith {
    /// Variant of the weight files, such as `fp16`.
    pub variant: Option<String>,
    /// Folder of a ControlNet in place of the checkpoint's own.
    pub controlnet: Option<PathBuf>,
    /// LoRAs for the transformer.
    pub loras: Vec<LoraFile>,
}

/// A component, or a LoRA, whose tensors are not those that are expected of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// Its folder, such as `vae`, or `lora`.
    pub part: String,
    /// What the pipeline's error says, with the names of all tensors.
    pub reason: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of tensors are of anybody.
        let reason = escaped(&self.reason);
        write!(f, "{:<13} does not fit: {reason}", self.part)
    }
}

impl Checkpoint {
    /// The components and LoRAs whose names, shapes or dtypes of tensors are not those of the configs:
    /// what [`SanaPipeline::from_checkpoint`](crate::SanaPipeline::from_checkpoint) refuses. Configs
    /// and headers alone are read.
    ///
    /// # Errors
    /// When a config or a file is not usable at all.
    pub fn misfits(&self, with: &LoadedWith) -> Result<Vec<Misfit>, PipelineError> {
        // Any device will do: it is asked for the shapes of parameters only.
        let device = Device::default();
        let variant = with.variant.as_deref();
        let controlnet = self.controlnet(with.controlnet.as_deref())?;
        self.check_variant(variant, controlnet.as_ref())?;
        let mut misfits = Vec::new();
        let transformer = self.transformer_config()?;
        let mut add = |part: &str, checked: Result<(), PipelineError>| {
            if let Err(error) = checked {
                let reason = error.all_names().unwrap_or_else(|| error.to_string());
                let part = part.to_owned();
                misfits.push(Misfit { part, reason });
            }
        };
        for component in self.weighted() {
            let weights = self.weights(component, variant)?;
            let folder = component.folder();
            let checked = self.check_component(component, &weights, &device);
            let checked = checked.and_then(|()| match component {
                Component::Vae => Ok(check_latents(&transformer, &self.vae_config()?)?),
                Component::TextEncoder => Ok(check_caption(
                    &transformer,
                    self.text_config()?.hidden_size,
                )?),
                _ => Ok(()),
            });
            add(folder, checked);
        }
        if let Some(controlnet) = controlnet {
            let weights = controlnet.weights(variant)?;
            let checked = controlnet.check_weights(&weights, &device);
            let checked = checked
                .map_err(PipelineError::from)
                .and_then(|()| Ok(controlnet.check(&transformer)?));
            add(Component::ControlNet.folder(), checked);
        }
        for file in &with.loras {
            let lora = file.open()?;
            let checked = lora.lora().check(&transformer, &device);
            add("lora", checked.map_err(PipelineError::from));
        }
        Ok(misfits)
    }

    /// That there are files of a variant for at least one component.
    ///
    /// # Errors
    /// [`CheckpointError::NoVariant`] when there is no such file.
    pub(crate) fn check_variant(
        &self,
        variant: Option<&str>,
        controlnet: Option<&ControlNetFolder>,
    ) -> Result<(), CheckpointError> {
        let Some(variant) = variant else {
            return Ok(());
        };
        let own = self.folder();
        let parts = self.parts().filter_map(|part| {
            let stem = part.weights_stem()?;
            match (part, &self.transformer) {
                (Component::Transformer, Some(file)) => Some((file.folder.clone()?, stem)),
                (Component::ControlNet, _) => None,
                (Component::TextEncoder, _) if self.text_encoder.is_some() => {
                    let file = self.text_encoder.as_ref()?;
                    Some((file.folder.clone()?, stem))
                }
                _ => Some((own?.join(part.folder()), stem)),
            }
        });
        let controlnet = controlnet.and_then(|controlnet| {
            let stem = Component::ControlNet.weights_stem()?;
            Some((controlnet.folder().to_path_buf(), stem))
        });
        let folders: Vec<(PathBuf, &str)> = parts.chain(controlnet).collect();
        if folders
            .iter()
            .any(|(folder, stem)| has_variant_files(folder, stem, variant))
        {
            return Ok(());
        }
        let found: BTreeSet<String> = folders
            .iter()
            .flat_map(|(folder, stem)| variants_in(folder, stem))
            .collect();
        Err(CheckpointError::NoVariant {
            variant: variant.to_owned(),
            origin: self.origin(),
            found: found.into_iter().collect(),
        })
    }

    /// Its components with weights, but a ControlNet.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = Component> + '_ {
        self.parts()
            .filter(|part| part.weights_stem().is_some() && *part != Component::ControlNet)
    }

    /// Compares the tensors of a component with its config.
    pub(crate) fn check_component(
        &self,
        component: Component,
        weights: &Weights,
        device: &Device,
    ) -> Result<(), PipelineError> {
        match component {
            Component::Transformer => self.transformer_config()?.check(weights, device)?,
            Component::Vae => DcAe::check_weights(&self.vae_config()?, weights, device)?,
            Component::TextEncoder => {
                Gemma2Model::check_weights(&self.text_config()?, weights, device)?;
            }
            Component::ControlNet | Component::Scheduler | Component::Tokenizer => {}
        }
        Ok(())
    }
}

impl ControlNetFolder {
    /// Compares its tensors with its config.
    pub(crate) fn check_weights(
        &self,
        weights: &Weights,
        device: &Device,
    ) -> Result<(), WeightError> {
        self.config().check(weights, device)
    }
}

/// The autoencoder's latents are the transformer's.
pub(crate) fn check_latents(
    transformer: &SanaTransformerConfig,
    autoencoder: &DcAeConfig,
) -> Result<(), CheckpointError> {
    let differ = |what, found, expected| {
        Err(CheckpointError::ComponentsDiffer {
            component: Component::Vae,
            what,
            found,
            expected,
        })
    };
    let (channels, latent) = (transformer.in_channels, autoencoder.latent_channels);
    if channels != latent {
        return differ("latent channels", latent, channels);
    }
    // Models that learn the variance predict it in as many channels again.
    let output = transformer.output_channels();
    if output != channels && output != 2 * channels {
        return differ("latent channels", latent, output);
    }
    if autoencoder.in_channels != 3 {
        return differ("image channels", autoencoder.in_channels, 3);
    }
    Ok(())
}

/// The text encoder's embeddings are what the transformer expects.
pub(crate) fn check_caption(
    transformer: &SanaTransformerConfig,
    hidden_size: usize,
) -> Result<(), CheckpointError> {
    if transformer.caption_channels == hidden_size {
        return Ok(());
    }
    Err(CheckpointError::ComponentsDiffer {
        component: Component::TextEncoder,
        what: "channels",
        found: hidden_size,
        expected: transformer.caption_channels,
    })
}

/// The scheduler, or one that fits the transformer: with the guidance scale as an input it is a
/// consistency model, without it a flow model, and neither makes images with the solver of the other.
pub(crate) fn fitting_scheduler(
    scheduler: Scheduler,
    transformer: &SanaTransformerConfig,
) -> (Scheduler, Option<String>) {
    let consistency = matches!(scheduler, Scheduler::Scm { .. });
    if consistency == transformer.guidance_embeds {
        return (scheduler, None);
    }
    let released = variants::recognize(transformer).map(|variant| variant.scheduler());
    let fitting = released.unwrap_or(match transformer.guidance_embeds {
        true => Scheduler::Scm {
            sigma_data: SigmaData::default(),
        },
        false => Scheduler::FlowDpm {
            options: DpmSolverOptions::default(),
            shift: 3.0,
        },
    });
    let kind = match transformer.guidance_embeds {
        true => "Sana-Sprint, a consistency model",
        false => "a flow model, and not Sana-Sprint",
    };
    let note = format!(
        "the scheduler is {}, but the transformer is {kind}: {} is used instead",
        scheduler.class_name(),
        fitting.class_name()
    );
    (fitting, Some(note))
}
