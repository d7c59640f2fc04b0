//! Memory: what a request needs before it starts ([`estimate`], [`activations`]), and what its
//! stages took ([`measure`]).

pub mod activations;
pub mod estimate;
pub mod measure;
mod model;
mod picture;
mod plan;

pub use estimate::{MemoryAdvice, MemoryEstimate, MemoryShortage, StageEstimate};
pub use measure::{StageMeter, StageReport, available_bytes, peak_resident_bytes, reset_peak};
pub(crate) use model::{LoadedPart, MemoryModel};
pub use picture::{PictureMemory, PictureMemoryIn};
