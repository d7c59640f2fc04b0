//! What is in a checkpoint: its files, configs, tokenizer and weights.

#[cfg(feature = "scenes-model")]
pub(super) mod built_in;
pub(crate) mod dtype;
pub(super) mod quantize;
pub(super) mod weight_files;

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::PathBuf;

use sana_dcae::{DcAeConfig, DcAeError};
use sana_linear_attn::transformer::F16Clamp;
use sana_linear_attn::weights::{LARGEST_CONFIG, read_bounded};
use sana_linear_attn::{SanaTransformerConfig, Weights};
use sana_text::{Gemma2Config, GemmaTokenizer, LARGEST_TOKENIZER};

use super::component::Component;
use super::opened::{Checkpoint, Source};
use super::scheduler::Scheduler;
use crate::error::{CheckpointError, PipelineError};
use crate::preview::{LATENT_RGB, LatentRgb};

use quantize::as_configured;
use weight_files::{has_f16_files, open_weights};

impl Checkpoint {
    /// The bytes of a file, by its path relative to the checkpoint with `/` between folders.
    ///
    /// # Errors
    /// [`PipelineError::Read`] when it does not exist, cannot be read or has more than 64 MiB.
    pub fn read(&self, file: &str) -> Result<Cow<'static, [u8]>, PipelineError> {
        self.read_bounded(file, LARGEST_TOKENIZER)
    }

    pub(super) fn read_bounded(
        &self,
        file: &str,
        largest: u64,
    ) -> Result<Cow<'static, [u8]>, PipelineError> {
        match &self.source {
            Source::Folder(folder) => {
                let path = folder.join(file);
                read_bounded(&path, largest)
                    .map(Cow::Owned)
                    .map_err(|source| PipelineError::Read { path, source })
            }
            #[cfg(feature = "scenes-model")]
            Source::BuiltIn => {
                built_in::file(file)
                    .map(Cow::Borrowed)
                    .ok_or_else(|| PipelineError::Read {
                        path: self.name_of(file).into(),
                        source: std::io::ErrorKind::NotFound.into(),
                    })
            }
        }
    }

    fn config_bytes(&self, part: Component) -> Result<Cow<'static, [u8]>, PipelineError> {
        self.class(part)?;
        let largest = match part {
            Component::Tokenizer => LARGEST_TOKENIZER,
            _ => LARGEST_CONFIG,
        };
        self.read_bounded(part.config_file(), largest)
    }

    /// A config as text; what is not UTF-8 in it becomes a replacement character, at which the
    /// parser stops.
    fn config_text(&self, part: Component) -> Result<String, PipelineError> {
        Ok(String::from_utf8_lossy(&self.config_bytes(part)?).into_owned())
    }

    /// The scheduler.
    ///
    /// # Errors
    /// When it is missing, or as [`Scheduler::from_json`].
    pub fn scheduler(&self) -> Result<Scheduler, PipelineError> {
        let text = self.config_text(Component::Scheduler)?;
        let origin = self.name_of(Component::Scheduler.config_file());
        Ok(Scheduler::from_json(&origin, &text)?)
    }

    /// The transformer's config.
    ///
    /// # Errors
    /// When it is missing or not usable.
    pub fn transformer_config(&self) -> Result<SanaTransformerConfig, PipelineError> {
        if let Some(file) = &self.transformer {
            return Ok(file.config.clone());
        }
        let text = self.config_text(Component::Transformer)?;
        let origin = self.name_of(Component::Transformer.config_file());
        Ok(SanaTransformerConfig::from_json(&text, origin.as_ref())?)
    }

    /// The autoencoder's config.
    ///
    /// # Errors
    /// When it is missing or not usable.
    pub fn vae_config(&self) -> Result<DcAeConfig, PipelineError> {
        let text = self.config_text(Component::Vae)?;
        Ok(
            DcAeConfig::from_json(&text).map_err(|source| DcAeError::ConfigFile {
                path: self.name_of(Component::Vae.config_file()).into(),
                source: Box::new(source),
            })?,
        )
    }

    /// The map of its latents to colours, for previews: that of the file `vae/latent_rgb.json`, else
    /// the published one where the autoencoder is the published one by its config. `None` for
    /// another autoencoder, for which one can be [fitted](crate::SanaPipeline::fit_latent_rgb).
    ///
    /// # Errors
    /// When the autoencoder's config is missing, or there is a file that is not usable.
    pub fn latent_rgb(&self) -> Result<Option<LatentRgb>, PipelineError> {
        let config = self.vae_config()?;
        match self.read_bounded(LATENT_RGB, LARGEST_CONFIG) {
            Ok(json) => {
                let origin = self.name_of(LATENT_RGB);
                Ok(Some(LatentRgb::from_json(
                    &origin,
                    &json,
                    config.latent_channels,
                )?))
            }
            Err(PipelineError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(LatentRgb::published(&config))
            }
            Err(error) => Err(error),
        }
    }

    /// Where the map of its latents to colours is kept; `None` for the built-in checkpoint.
    pub fn latent_rgb_path(&self) -> Option<PathBuf> {
        self.folder().map(|folder| folder.join(LATENT_RGB))
    }

    /// The text encoder's config.
    ///
    /// # Errors
    /// When it is missing or not usable.
    pub fn text_config(&self) -> Result<Gemma2Config, PipelineError> {
        if let Some(config) = self
            .text_encoder
            .as_ref()
            .and_then(|file| file.config.as_ref())
        {
            return Ok(config.clone());
        }
        let json = self.config_bytes(Component::TextEncoder)?;
        let origin = self.name_of(Component::TextEncoder.config_file());
        Ok(Gemma2Config::from_json(&origin, &json)?)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When it is missing or not usable.
    pub fn tokenizer(&self) -> Result<GemmaTokenizer, PipelineError> {
        self.class(Component::Tokenizer)?;
        if let Some(folder) = self.folder() {
            return Ok(GemmaTokenizer::from_folder(
                &folder.join(Component::Tokenizer.folder()),
            )?);
        }
        let json = self.config_bytes(Component::Tokenizer)?;
        let origin = self.name_of(Component::Tokenizer.config_file());
        Ok(GemmaTokenizer::from_bytes(&origin, &json)?)
    }

    /// Opens the weights of a part; nothing but their headers is read. `variant` is a suffix of
    /// file names such as `fp16`; a part without files of that variant gives its plain ones, as
    /// the reference does.
    ///
    /// # Errors
    /// When there is no weight file, or a file is damaged; [`CheckpointError::ComponentWithoutWeights`] for the
    /// scheduler and the tokenizer; [`WeightError::Quantized`](sana_linear_attn::WeightError::Quantized)
    /// for weights that are quantized in a way that is not supported.
    pub fn weights(
        &self,
        part: Component,
        variant: Option<&str>,
    ) -> Result<Weights, PipelineError> {
        let stem = part.weights_stem().ok_or(PipelineError::Checkpoint(
            CheckpointError::ComponentWithoutWeights { component: part },
        ))?;
        self.class(part)?;
        if let (Component::Transformer, Some(file)) = (part, &self.transformer) {
            return Ok(file.weights.clone());
        }
        if let (Component::TextEncoder, Some(file)) = (part, &self.text_encoder) {
            return Ok(file.weights.clone());
        }
        match &self.source {
            Source::Folder(folder) => {
                let weights = open_weights(&folder.join(part.folder()), stem, variant)?;
                Ok(as_configured(weights, &self.config_bytes(part)?)?)
            }
            #[cfg(feature = "scenes-model")]
            Source::BuiltIn => {
                let file = format!("{}/{stem}.safetensors", part.folder());
                Ok(Weights::from_bytes(
                    &self.name_of(&file),
                    self.read(&file)?,
                )?)
            }
        }
    }

    /// The limit that its transformer was trained with, to load the weights of any of its files:
    /// [`F16Clamp::On`] for a model without qk norm that has files of the variant `fp16` or says so
    /// itself, else what the weights show.
    ///
    /// # Errors
    /// When the config of the transformer cannot be read.
    pub fn f16_clamp(&self) -> Result<F16Clamp, PipelineError> {
        let qk_norm = self.transformer_config()?.qk_norm;
        Ok(match qk_norm.is_none() && self.has_f16_transformer() {
            true => F16Clamp::On,
            false => F16Clamp::Auto,
        })
    }

    /// Whether files of the transformer's folder are of the variant `fp16`: then the model was
    /// trained in f16, whatever file is loaded. A model trained on from such a one says so itself.
    pub(crate) fn has_f16_transformer(&self) -> bool {
        if self.transformer.is_none() && self.keys.f16_clamp {
            return true;
        }
        if self.trained_in_f16 || self.transformer.as_ref().is_some_and(|file| file.f16) {
            return true;
        }
        self.folder()
            .is_some_and(|folder| has_f16_files(&folder.join(Component::Transformer.folder())))
    }
}
