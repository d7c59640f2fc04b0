//! The three stages: prompts to embeddings, noise to latents, latents to pictures.

mod control;
mod decode;
mod denoise;
mod editing;
mod network;
mod text;

use burn::tensor::{DType, Tensor};
use sana_sampler::Step;

use crate::error::PipelineError;

pub(crate) use decode::pictures_decoded_at_once;
pub use text::TextConditioning;

/// What an observer sees after each step: its number, the network's time, the latents and the
/// estimate of the clean latents. Latents are scaled, but those of consistency sampling are in
/// units of `sigma_data`.
pub type StepInfo = Step<4>;
/// What an observer answers: go on, stop, or go on from other latents.
pub type Control = sana_sampler::Control<4>;

/// Whether no element is NaN or infinite.
fn all_finite<const D: usize>(tensor: Tensor<D>) -> Result<bool, PipelineError> {
    let sum = tensor.cast(DType::F32).abs().sum();
    let sum: f32 = sum
        .try_into_scalar()
        .map_err(|error| PipelineError::Device {
            doing: "reading a result",
            reason: format!("{error:?}"),
        })?;
    Ok(sum.is_finite())
}
