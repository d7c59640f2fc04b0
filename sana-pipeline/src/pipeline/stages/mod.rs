//! The three stages: prompts to embeddings, noise to latents, latents to images.

mod control;
mod decode;
mod denoise;
mod finite;
mod generate;
mod image_to_image;
mod importance;
mod text;

use finite::all_finite;

pub use generate::Generation;
pub use text::TextConditioning;
