//! What loading any of the networks needs.

use burn::tensor::{DType, Device};
use sana_linear_attn::Weights;

use crate::checkpoint::{Component, dtype};
use crate::error::{CheckpointError, PipelineError};
use crate::pipeline::options::LoadOptions;

/// Chooses the dtype of a component, with a note where it is not the one to be expected.
pub(super) fn choose_dtype(
    component: Component,
    weights: &Weights,
    options: &LoadOptions,
    device: &Device,
    notes: &mut Vec<String>,
) -> DType {
    let choice = dtype::choose(component, weights, options.dtype, device);
    if let Some(note) = choice.note.filter(|note| !notes.contains(note)) {
        notes.push(note);
    }
    choice.dtype
}

pub(super) fn no_component(component: Component) -> PipelineError {
    PipelineError::Checkpoint(CheckpointError::NoComponent {
        component,
        origin: "in memory".to_owned(),
    })
}
