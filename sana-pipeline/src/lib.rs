#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod buckets;
mod checkpoint;
pub mod control;
pub mod edges;
pub mod editing;
pub mod error;
pub mod evaluate;
mod files;
pub mod grid;
#[cfg(feature = "hub")]
pub mod hub;
pub mod image;
pub mod memory;
mod parts;
pub mod pipeline;
pub mod request;
mod resize;
pub mod scenes;
pub mod stages;
#[cfg(feature = "train")]
pub mod train;

pub use buckets::Buckets;
pub use checkpoint::{
    Checkpoint, CheckpointInstruction, Component, ControlNetFolder, LoraFile, LoraMode, SanaKeys,
    Schedule, Scheduler, Solver, check, create, describe, variants,
};
pub use control::{ControlImage, ControlSettings};
pub use editing::{EditError, EditSettings};
pub use error::PipelineError;
pub use memory::{MemoryAdvice, MemoryEstimate, MemoryShortage};
pub use pipeline::{Defaults, Generation, LoadOptions, MemoryPolicy, SanaPipeline};
pub use request::{InstructionChoice, Request, Settings};
pub use stages::{Control, StepInfo, TextConditioning};
