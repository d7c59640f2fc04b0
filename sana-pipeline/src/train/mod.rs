//! Training (feature `train`): flow matching for the transformer with its text encoder, and
//! reconstruction for the autoencoder.
//!
//! A [`Task`] gives the loss of a step's samples; a [`Run`] takes the steps. A run is a folder. It
//! holds `state.safetensors` (parameters, moments of the optimizer and the moving average),
//! `state.json` (step and options), `log.csv`, `loss.png`, and the trained components in the
//! published layout, ready to be a checkpoint. Every random draw of step `n` comes from a generator
//! made of the seed and `n`, so a run that was stopped continues as if it had not been: same
//! numbers, same result.
//!
//! ```text
//! t   ~ shift(logit-normal)             one per image
//! x_t = (1 - t) x_0 + t noise
//! loss = mean |network(x_t, 1000 t, caption) - (noise - x_0)|^2
//! ```
//!
//! A run moves the model to autodiff by itself: model, data and tasks are on a plain device. In a loop
//! of your own, [`flow_loss`] takes a transformer on `Device::flex().autodiff()`. How to train and
//! fine-tune, step by step: `docs/training.md` and the example `train`.
//!
//! The optimizer is AdamW, equal to PyTorch's, Muon for the matrices of hidden layers, which needs
//! fewer steps, or CAME, which needs less memory.
//!
//! Sana paper (arXiv 2410.10629), section 2.3; captions are dropped with probability 0.1 for
//! classifier-free guidance.

/// The code of the page on training, compiled as doctests.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../../../docs/training.md")]
struct Page;

mod data;
mod error;
mod memory;
mod optimizer;
mod presets;
mod run;
mod tasks;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use data::{Bucket, DataSource, FlatShapes, ImageFolder, Sample, SpriteScenes};
pub use error::TrainError;
pub use memory::{check_autoencoder_run, check_text_encoder, check_transformer_run};
pub use optimizer::{OptimizerKind, OptimizerOptions};
pub use presets::{
    MAX_PROMPT_TOKENS, SCENES_VOCAB, SPRITES_PROMPT_TOKENS, SPRITES_VOCAB, scenes_autoencoder,
    scenes_text_encoder, scenes_tokenizer, scenes_transformer, sprites_autoencoder,
    sprites_text_encoder, sprites_transformer,
};
pub use run::{
    Change, Progress, Run, RunOptions, Schedule, Settings, discard_run, holds_run,
    recorded_replicas, text_hash, weights_hash,
};
pub use tasks::{
    AutoencoderOptions, AutoencoderTask, Denoiser, LatentPool, PoolOptions, Task,
    TransformerOptions, TransformerTask, flow_loss, with_measured_scale,
};
pub use tokenizer::train_tokenizer;
