//! Memory: what a request needs before it starts ([`MemoryEstimate`], [`activations`]), and what its
//! stages took ([`StageReport`]).

pub mod activations;
mod batch;
mod estimate;
mod limits;
mod measure;
mod model;
mod policy;
mod summary;

pub use crate::error::memory::MemoryAdvice;
pub(crate) use batch::images_decoded_at_once;
pub(crate) use estimate::Way;
pub use estimate::{MemoryEstimate, MemoryShortage, StageEstimate};
pub(crate) use limits::{Limits, device_budget};
pub use measure::{
    StageMeter, StageReport, available_bytes, peak_resident_bytes, reset_peak, resident_bytes,
};
pub(crate) use model::{LoadedPart, MemoryModel, Workload, text_length};
pub use policy::MemoryPolicy;
pub use summary::{ImageMemory, ImageMemoryIn};
