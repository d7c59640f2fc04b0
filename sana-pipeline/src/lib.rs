#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod buckets;
#[cfg(feature = "scenes-model")]
mod built_in;
pub mod check;
pub mod checkpoint;
pub mod control;
pub mod controlnet;
pub mod describe;
mod dtype;
pub mod edges;
pub mod editing;
pub mod error;
pub mod evaluate;
mod files;
pub mod grid;
#[cfg(feature = "hub")]
pub mod hub;
pub mod image;
pub mod init;
mod keys;
pub mod lora;
pub mod memory;
mod part;
mod parts;
pub mod pipeline;
pub mod request;
mod resize;
pub mod scenes;
pub mod scheduler;
pub mod stages;
#[cfg(feature = "train")]
pub mod train;
mod transformer_file;
pub mod variants;

pub use buckets::Buckets;
pub use checkpoint::{Checkpoint, Part};
pub use control::{ControlImage, ControlSettings};
pub use controlnet::ControlNetFolder;
pub use editing::{EditError, EditSettings};
pub use error::PipelineError;
pub use lora::{LoraFile, LoraMode};
pub use memory::{MemoryAdvice, MemoryEstimate, MemoryShortage};
pub use pipeline::{Defaults, Generation, LoadOptions, MemoryPolicy, SanaPipeline};
pub use request::{InstructionChoice, Request, Settings};
pub use scheduler::{Schedule, Scheduler, Solver};
pub use stages::{Control, StepInfo, TextConditioning};
