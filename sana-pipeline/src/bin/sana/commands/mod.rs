//! The commands other than `sana generate`, on which some of them build.

pub mod autoencoder;
pub mod bench;
pub mod checkpoint;
pub mod evaluate;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "serve")]
pub mod serve;
pub mod setup;
pub mod train;
