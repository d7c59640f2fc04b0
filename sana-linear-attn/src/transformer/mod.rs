//! The linear diffusion transformer of the Sana family (Sana paper, section 2.2):
//! [`SanaTransformer`](crate::SanaTransformer), [`SanaControlNet`](crate::SanaControlNet), LoRA
//! files, and what their inputs and errors are made of.

mod checkpoint;
pub(crate) mod config;
pub(crate) mod controlnet;
mod convert;
pub mod depth;
pub(crate) mod input;
mod lora;
pub(crate) mod model;
mod trunk;

pub use checkpoint::{F16Clamp, InferredConfig};
#[doc(hidden)]
pub use checkpoint::{NunchakuLayout, OriginalLayout};
pub use config::{ConfigError, QkNorm};
pub use controlnet::ControlNetError;
pub use convert::TransformerLayout;
#[doc(hidden)]
pub use input::sin_cos_positions;
pub use input::{
    BlockPart, ControlInput, MakeResiduals, Observer, Perturbed, PerturbedBlocks,
    PerturbedBlocksError, Place, Positions, Residuals, Sinusoids, TextContext, TransformerInput,
    TransformerOutput,
};
pub use lora::{Lora, LoraError, LoraKind, LoraMismatch, LoraMode, ScaledLora};
pub use trunk::{SanaBlock, SanaBlockConfig};
