//! Trained components in the published layout.

use std::fs;
use std::path::Path;

use burn::tensor::{DType, Device};
use sana_dcae::{DcAe, DcAeConfig};
use sana_linear_attn::{SaveOptions, save_module};
use sana_sampler::DpmSolverOptions;
use serde_json::json;

use super::data::Data;
use super::error::TrainError;
use super::optimizer::Parameters;
use super::tasks::{Denoiser, latent_std, scale_of};
use crate::checkpoint::create::folder::{index_json, text, transformer_json};
use crate::checkpoint::{SanaKeys, Scheduler};
use crate::files;

/// Images that the scaling factor of an autoencoder is measured on.
const SCALE_IMAGES: usize = 256;
/// What reads the `tokenizer.json` of a trained model in the reference library.
const TOKENIZER_CLASS: &str = "PreTrainedTokenizerFast";

/// The autoencoder with its scaling factor set so that latents of this data have unit variance.
///
/// # Errors
/// When the data cannot be read, and [`TrainError::LatentScale`] when the latents are all equal or
/// not finite.
pub fn with_measured_scale(
    model: &DcAe,
    data: &Data,
    seed: u64,
    device: &Device,
) -> Result<DcAe, TrainError> {
    let std = latent_std(model, data, SCALE_IMAGES, seed, device)?;
    let scaling_factor = scale_of(std).ok_or(TrainError::LatentScale { std })?;
    let config = DcAeConfig {
        scaling_factor,
        ..model.config().clone()
    };
    Ok(Parameters::of(model).write_into(config.init(device), false))
}

/// Writes `FOLDER/vae`.
///
/// # Errors
/// When a file cannot be written.
pub fn export_autoencoder(model: &DcAe, folder: &Path, dtype: DType) -> Result<(), TrainError> {
    let folder = folder.join("vae");
    create(&folder)?;
    Ok(model.save(&folder, Some(dtype))?)
}

/// What a checkpoint folder needs in addition to the trained weights.
#[derive(Debug, Clone)]
pub struct CheckpointFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a str,
    /// Shift of the sampler's schedule: the one of the training times.
    pub flow_shift: f64,
    /// How prompts are encoded.
    pub keys: &'a SanaKeys,
}

/// Writes `FOLDER/transformer`, `FOLDER/text_encoder`, the tokenizer, the scheduler and
/// `model_index.json`; with the autoencoder the folder is a checkpoint.
///
/// # Errors
/// When a file cannot be written.
pub fn export_denoiser(
    model: &Denoiser,
    files: &CheckpointFiles<'_>,
    folder: &Path,
    dtype: DType,
) -> Result<(), TrainError> {
    let options = SaveOptions {
        dtype: Some(dtype),
        ..SaveOptions::default()
    };
    for component in ["transformer", "text_encoder", "tokenizer", "scheduler"] {
        create(&folder.join(component))?;
    }
    let weights = folder.join("transformer/diffusion_pytorch_model.safetensors");
    save_module(&model.transformer, &weights, &options)?;
    save_module(
        &model.text_encoder,
        &folder.join("text_encoder/model.safetensors"),
        &options,
    )?;

    write(
        &folder.join("transformer/config.json"),
        // The files are no longer of f16, which else would show it.
        &transformer_json(
            model.transformer.config(),
            model.transformer.has_f16_clamp(),
        ),
    )?;
    write(
        &folder.join("text_encoder/config.json"),
        &model.text_encoder.config().to_json(),
    )?;
    write(&folder.join("tokenizer/tokenizer.json"), files.tokenizer)?;
    let tokenizer = json!({
        "tokenizer_class": TOKENIZER_CLASS,
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "padding_side": "right",
    });
    write(
        &folder.join("tokenizer/tokenizer_config.json"),
        &text(&tokenizer),
    )?;
    let scheduler = Scheduler::FlowDpm {
        options: DpmSolverOptions::default(),
        shift: files.flow_shift,
    };
    write(
        &folder.join("scheduler/scheduler_config.json"),
        &scheduler.to_json(),
    )?;
    let keys = SanaKeys {
        f16_clamp: model.transformer.has_f16_clamp(),
        ..files.keys.clone()
    };
    let index = index_json(&scheduler, TOKENIZER_CLASS, &keys);
    write(&folder.join("model_index.json"), &index)
}

fn create(folder: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(folder).map_err(TrainError::io(folder))
}

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), TrainError> {
    files::write_text(path, text).map_err(TrainError::io(path))
}
