//! What a step trains on: the losses of both kinds of run.

mod autoencoder;
mod latent_pool;
mod latent_scale;
mod task;
mod transformer;

pub use autoencoder::{AutoencoderOptions, AutoencoderTask};
pub use latent_pool::{LatentPool, PoolOptions};
pub use latent_scale::with_measured_scale;
pub use task::Task;
pub use transformer::{Denoiser, TransformerOptions, TransformerTask, flow_loss};
