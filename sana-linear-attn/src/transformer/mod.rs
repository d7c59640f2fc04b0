//! The linear diffusion transformer of the Sana family (Sana paper, section 2.2).

mod block;
mod config;
mod controlled;
mod controlnet;
mod diagnose;
mod embed;
mod infer;
mod lora;
mod model;
mod original;
mod perturbed;
mod trunk;

pub use block::{SanaBlock, SanaBlockConfig};
pub use config::{ConfigError, QkNorm, SanaTransformerConfig};
pub use controlled::ControlledTransformer;
pub use controlnet::{ControlNetError, SanaControlNet, SanaControlNetConfig};
pub use diagnose::{BlockPart, Place};
pub use embed::{CaptionProjection, PatchEmbed, TimeEmbed, sin_cos_positions, sinusoidal};
pub use infer::InferredConfig;
pub use lora::{Lora, LoraError, LoraMismatch, LoraMode, ScaledLora};
pub use model::{F16Clamp, SanaTransformer, TextContext};
pub use original::OriginalLayout;
pub use perturbed::{PerturbedBlocks, PerturbedBlocksError, PerturbedOutput};
