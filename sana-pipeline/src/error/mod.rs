//! Everything that can go wrong between a checkpoint folder and an image: what a
//! [`PipelineError`] nests.

mod checkpoint;
mod image;
pub(crate) mod memory;
pub(crate) mod pipeline;
mod request;

pub use checkpoint::CheckpointError;
pub use image::ImageError;
pub(crate) use memory::{MemoryAdvice, Shortage, shortage};
pub use pipeline::ObserverError;
pub(crate) use pipeline::PipelineError;
pub use request::{ImageToImageError, RequestError};
