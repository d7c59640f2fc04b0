//! Memory: what a request needs before it starts ([`estimate`], [`activations`]), and what its
//! stages took ([`measure`]).

pub mod activations;
mod batch;
pub mod estimate;
pub mod measure;
mod model;
mod summary;

pub use crate::error::MemoryAdvice;
pub(crate) use batch::images_decoded_at_once;
pub(crate) use estimate::Way;
pub use estimate::{MemoryEstimate, MemoryShortage, StageEstimate};
pub use measure::{
    StageMeter, StageReport, available_bytes, peak_resident_bytes, reset_peak, resident_bytes,
};
pub(crate) use model::{LoadedPart, MemoryModel, Workload, text_length};
pub use summary::{ImageMemory, ImageMemoryIn};
