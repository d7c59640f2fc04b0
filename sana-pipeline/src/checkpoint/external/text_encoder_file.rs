//! A text encoder from a file of its own, in place of the checkpoint's.

use std::path::{Path, PathBuf};

use sana_linear_attn::Weights;
use sana_linear_attn::weights::{LARGEST_CONFIG, read_bounded};
use sana_text::Gemma2Config;

use crate::checkpoint::component::{CONFIG, Component};
use crate::checkpoint::contents::quantize::as_configured;
use crate::checkpoint::contents::weight_files::open_weights;
use crate::error::PipelineError;

pub(crate) const CLASS: &str = "Gemma2Model";

/// The weights of such a text encoder.
#[derive(Debug, Clone)]
pub(crate) struct TextEncoderFile {
    pub weights: Weights,
    /// Its config, if it is a folder; else that of the checkpoint is its own.
    pub config: Option<Gemma2Config>,
    /// Its folder, if it is not a single file.
    pub folder: Option<PathBuf>,
}

impl TextEncoderFile {
    /// Opens a GGUF or safetensors file, or a folder as `text_encoder` of a checkpoint.
    pub fn open(path: &Path, variant: Option<&str>) -> Result<Self, PipelineError> {
        if !path.is_dir() {
            return Ok(Self {
                weights: Weights::open_file(path)?,
                config: None,
                folder: None,
            });
        }
        let stem = Component::TextEncoder.weights_stem().unwrap_or_default();
        let weights = open_weights(path, stem, variant)?;
        let file = path.join(CONFIG);
        let config = Gemma2Config::from_file(&file)?;
        Ok(Self {
            weights: match read_bounded(&file, LARGEST_CONFIG) {
                Ok(json) => as_configured(weights, &json)?,
                Err(_) => weights,
            },
            config: Some(config),
            folder: Some(path.to_path_buf()),
        })
    }
}
