//! The linear diffusion transformer of the Sana family (Sana paper, section 2.2):
//! [`SanaTransformer`](crate::SanaTransformer), [`SanaControlNet`](crate::SanaControlNet), LoRA
//! files, and what their inputs and errors are made of.

mod block;
mod checkpoint;
pub(crate) mod config;
mod context;
pub(crate) mod controlnet;
mod convert;
mod embed;
pub mod growth;
mod input;
mod lora;
pub(crate) mod model;
mod non_finite;
mod perturbed;
mod place;
pub mod pruning;
mod trunk;
pub(crate) mod wiring;

pub use block::{SanaBlock, SanaBlockConfig};
#[doc(hidden)]
pub use checkpoint::OriginalLayout;
pub use checkpoint::{F16Clamp, InferredConfig};
pub use config::{ConfigError, QkNorm};
pub use context::TextContext;
pub use controlnet::ControlNetError;
pub use convert::TransformerLayout;
#[doc(hidden)]
pub use embed::sin_cos_positions;
pub use input::{
    MakeResiduals, Observer, Perturbed, Residuals, TransformerInput, TransformerOutput,
};
pub use lora::{Lora, LoraError, LoraKind, LoraMismatch, LoraMode, ScaledLora};
pub use perturbed::{PerturbedBlocks, PerturbedBlocksError};
pub use place::{BlockPart, Place};
