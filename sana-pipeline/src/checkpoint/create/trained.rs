//! Networks in memory, such as trained ones, in the published layout.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use burn::tensor::DType;
use sana_dcae::DcAe;
use sana_linear_attn::{SanaTransformer, SaveOptions, save_module};
use sana_sampler::DpmSolverOptions;
use sana_text::Gemma2Model;
use serde_json::json;

use super::folder::{index_json, text, transformer_json};
use super::{create_folder, write_text};
use crate::checkpoint::{CONFIG, Component, INDEX, SanaKeys, Scheduler};
use crate::error::PipelineError;
use crate::preview::LATENT_RGB;

/// What reads the `tokenizer.json` of such a checkpoint in the reference library.
const TOKENIZER_CLASS: &str = "PreTrainedTokenizerFast";

/// Writes `FOLDER/vae`, without the colours of latents that were fitted to what was there before.
///
/// # Errors
/// When a file cannot be written.
pub fn write_autoencoder(model: &DcAe, folder: &Path, dtype: DType) -> Result<(), PipelineError> {
    let colors = folder.join(LATENT_RGB);
    let folder = create_folder(folder, Component::Vae)?;
    match fs::remove_file(&colors) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(PipelineError::write(&colors)(error));
        }
        _ => {}
    }
    Ok(model.save(&folder, Some(dtype))?)
}

/// What a checkpoint folder needs in addition to the weights.
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
pub fn write_denoiser(
    transformer: &SanaTransformer,
    text_encoder: &Gemma2Model,
    files: &CheckpointFiles<'_>,
    folder: &Path,
    dtype: DType,
) -> Result<(), PipelineError> {
    let options = SaveOptions {
        dtype: Some(dtype),
        ..SaveOptions::default()
    };
    let transformer_folder = create_folder(folder, Component::Transformer)?;
    let text_folder = create_folder(folder, Component::TextEncoder)?;
    let tokenizer_folder = create_folder(folder, Component::Tokenizer)?;
    let scheduler_folder = create_folder(folder, Component::Scheduler)?;
    let weights = transformer_folder.join("diffusion_pytorch_model.safetensors");
    save_module(transformer, &weights, &options)?;
    save_module(
        text_encoder,
        &text_folder.join("model.safetensors"),
        &options,
    )?;

    // The files may no longer be of f16, which else would show it.
    let f16_clamp = transformer.has_f16_clamp();
    write_text(
        &transformer_folder.join(CONFIG),
        &transformer_json(transformer.config(), f16_clamp),
    )?;
    write_text(&text_folder.join(CONFIG), &text_encoder.config().to_json())?;
    write_text(&tokenizer_folder.join("tokenizer.json"), files.tokenizer)?;
    let tokenizer = json!({
        "tokenizer_class": TOKENIZER_CLASS,
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "padding_side": "right",
    });
    write_text(
        &tokenizer_folder.join("tokenizer_config.json"),
        &text(&tokenizer),
    )?;
    let scheduler = Scheduler::FlowDpm {
        options: DpmSolverOptions::default(),
        shift: files.flow_shift,
    };
    write_text(
        &scheduler_folder.join("scheduler_config.json"),
        &scheduler.to_json(),
    )?;
    let keys = SanaKeys {
        f16_clamp,
        ..files.keys.clone()
    };
    let index = index_json(&scheduler, TOKENIZER_CLASS, &keys);
    write_text(&folder.join(INDEX), &index)
}
