//! The three stages: prompts to embeddings, noise to latents, latents to pictures.

mod control;
mod decode;
mod denoise;
mod finite;
mod guided_velocity;
mod image_to_image;
#[cfg(test)]
#[cfg(feature = "flex")]
mod looking_tests;
mod preview;
mod text;

use finite::all_finite;

pub(super) use denoise::Encoded;
pub(super) use image_to_image::Composite;

pub use text::TextConditioning;
