#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod checkpoint;
pub mod error;
#[cfg(feature = "scenes")]
pub mod evaluate;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod image;
pub mod memory;
mod pipeline;
mod request;
#[cfg(feature = "scenes")]
pub mod scenes;
mod spec;
#[cfg(feature = "train")]
pub mod train;
mod units;

pub use checkpoint::{
    Checkpoint, CheckpointInstruction, Component, ControlNetFolder, LoraFile, LoraMode, SanaKeys,
    Schedule, Scheduler, Solver, check, create, describe, variants,
};
pub use error::{
    CheckpointError, ImageError, ImageToImageError, MemoryAdvice, PipelineError, RequestError,
};
pub use memory::{MemoryEstimate, MemoryShortage};
pub use pipeline::{
    Generation, LoadOptions, MemoryPolicy, ObserverError, SanaPipeline, StepAction, StepInfo,
    TextConditioning,
};
pub use request::{
    ControlImage, ControlSettings, ImageToImageSettings, InstructionChoice, Request, Settings,
};
pub use spec::{Buckets, Defaults, ModelSpec};
