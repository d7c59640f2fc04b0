//! Training (feature `train`): flow matching for the transformer with its text encoder, and
//! reconstruction for the autoencoder.
//!
//! A run is a folder. It holds `state.safetensors` (parameters, both moments of the optimiser and
//! their moving average), `state.json` (step and options), `log.csv`, `loss.png`, and the trained
//! parts in the published layout, ready to be a checkpoint. Every random draw of step `n` comes
//! from a generator made of the seed and `n`, so a run that was stopped goes on as if it had not
//! been: same numbers, same result.
//!
//! ```text
//! t   ~ shift(logit-normal)             one per picture
//! x_t = (1 - t) x_0 + t noise
//! loss = mean |network(x_t, 1000 t, caption) - (noise - x_0)|^2
//! ```
//!
//! The optimiser is AdamW, equal to PyTorch's, or Muon for the matrices of hidden layers, which
//! needs fewer steps.
//!
//! Sana paper (arXiv 2410.10629), section 2.3; captions are dropped with probability 0.1 for
//! classifier-free guidance.

mod autoencoder;
mod curve;
mod data;
mod error;
mod export;
mod muon;
mod optimizer;
mod parameters;
mod run;
mod scenes_model;
mod transformer;
mod workers;

pub use autoencoder::{AutoencoderOptions, AutoencoderTask, latent_std};
pub use data::{Data, Sample};
pub use error::TrainError;
pub use export::{CheckpointFiles, export_autoencoder, export_denoiser, with_measured_scale};
pub use muon::orthogonalize;
pub use optimizer::{MatrixUpdate, Optimizer, OptimizerOptions, ParameterState};
pub use parameters::{Parameters, gradients};
pub use run::{Progress, Run, RunOptions, Schedule, Task, share};
pub use scenes_model::{
    MAX_PROMPT_TOKENS, scenes_autoencoder, scenes_text_encoder, scenes_tokenizer,
    scenes_transformer,
};
pub use transformer::{Denoiser, LatentPool, TransformerOptions, TransformerTask, flow_loss};
pub use workers::Workers;
