//! Commands on the autoencoder alone.

pub mod encode;
pub mod latent_rgb;
