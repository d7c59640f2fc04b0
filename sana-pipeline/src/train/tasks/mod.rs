//! What a step trains on: the losses of both kinds of run.

mod autoencoder;
mod latent_pool;
mod task;
mod transformer;

pub use autoencoder::{AutoencoderOptions, AutoencoderTask};
pub use latent_pool::LatentPool;
pub use task::Task;
pub use transformer::{Denoiser, TransformerOptions, TransformerTask, flow_loss};

pub(super) use autoencoder::{latent_std, scale_of};
