use std::fs;
use std::path::Path;

use burn::tensor::{DType, Device};
use sana_linear_attn::transformer::F16Clamp;
use sana_linear_attn::{SanaControlNet, SanaControlNetConfig, SaveOptions, save_module};

use super::folder::config_json;
use super::random::WeightDtype;
use super::write_text;
use crate::checkpoint::{CONFIG, Checkpoint, Component};
use crate::error::{CheckpointError, PipelineError};

/// Writes the ControlNet that training starts from: the embeddings and the first `layers` blocks of
/// a checkpoint's transformer, with projections that are zero, so that it changes no image yet.
/// The released ones have 7 blocks. The weights are in `dtype`, or the dtype of the transformer's
/// files.
///
/// The transformer is loaded onto the device in the dtype of its files. Files appear whole or not
/// at all, `config.json` last.
///
/// # Errors
/// [`CheckpointError::ControlNet`] unless `1 <= layers < blocks of the transformer`, or for a
/// Sana-Sprint; [`CheckpointError::WeightDtype`], [`CheckpointError::Exists`],
/// [`PipelineError::Write`], or when the transformer is not usable.
pub fn write_controlnet(
    checkpoint: &Checkpoint,
    variant: Option<&str>,
    layers: usize,
    folder: &Path,
    dtype: Option<DType>,
    device: &Device,
) -> Result<(), PipelineError> {
    dtype.map(WeightDtype::new).transpose()?;
    let path = folder.join(CONFIG);
    if path.exists() {
        return Err(PipelineError::Checkpoint(CheckpointError::Exists {
            folder: folder.to_path_buf(),
        }));
    }
    let transformer = checkpoint.transformer_config()?;
    SanaControlNetConfig::of_transformer(&transformer, layers)?;
    let weights = checkpoint.weights(Component::Transformer, variant)?;
    let transformer = transformer.load(&weights, None, F16Clamp::Off, device)?;
    let controlnet = SanaControlNet::from_transformer(&transformer, layers)?;

    fs::create_dir_all(folder).map_err(PipelineError::write(folder))?;
    let stem = Component::ControlNet.weights_stem().unwrap_or_default();
    let file = folder.join(format!("{stem}.safetensors"));
    let options = SaveOptions {
        dtype,
        ..SaveOptions::default()
    };
    save_module(&controlnet, &file, &options)?;
    write_text(
        &path,
        &config_json(Component::ControlNet, controlnet.config()),
    )
}
