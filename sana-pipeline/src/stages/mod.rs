//! The three stages: prompts to embeddings, noise to latents, latents to pictures.

mod control;
mod decode;
mod denoise;
mod editing;
mod finite;
#[cfg(test)]
#[cfg(feature = "flex")]
mod looking_tests;
mod network;
mod text;

use sana_sampler::Step;

use finite::all_finite;

pub(crate) use decode::pictures_decoded_at_once;
pub use text::TextConditioning;

/// What an observer sees after each step: its number, the network's time, the latents and the
/// estimate of the clean latents. Latents are scaled, but those of consistency sampling are in
/// units of `sigma_data`.
pub type StepInfo = Step<4>;
/// What an observer answers: go on, stop, or go on from other latents.
pub type Control = sana_sampler::Control<4>;
