//! The linear diffusion transformer of the Sana family (Sana paper, section 2.2).

mod block;
mod checkpoint;
mod config;
mod context;
mod controlnet;
mod embed;
mod input;
mod lora;
mod model;
mod non_finite;
mod perturbed;
mod place;
mod trunk;

pub use block::{SanaBlock, SanaBlockConfig};
#[doc(hidden)]
pub use checkpoint::OriginalLayout;
pub use checkpoint::{F16Clamp, InferredConfig};
pub use config::{ConfigError, QkNorm, SanaTransformerConfig};
pub use context::TextContext;
pub use controlnet::{ControlNetError, SanaControlNet, SanaControlNetConfig};
pub use embed::{CaptionProjection, PatchEmbed, TimeEmbed, sin_cos_positions, sinusoidal};
pub use input::{Observer, Perturbed, TransformerInput, TransformerOutput};
pub use lora::{Lora, LoraError, LoraMismatch, LoraMode, ScaledLora};
pub use model::SanaTransformer;
pub use perturbed::{PerturbedBlocks, PerturbedBlocksError};
pub use place::{BlockPart, Place};
