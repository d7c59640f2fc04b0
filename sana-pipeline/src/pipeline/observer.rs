//! What an observer of the steps sees and answers.

use std::error::Error;

use sana_sampler::Step;

use crate::error::PipelineError;

/// What an observer sees after each step: its number, the network's time, the latents and the
/// estimate of the clean latents. Latents are scaled, but those of consistency sampling are in
/// units of `sigma_data`.
pub type StepInfo = Step<4>;

/// What an observer answers, as it is or as the `Ok` of a `Result`: continue, stop with the estimate
/// of the clean latents, or continue from or stop with other latents.
pub type StepAction = sana_sampler::StepAction<4>;

/// An error of an observer. It ends the run as [`PipelineError::Observer`], or as it is where it is
/// a [`PipelineError`].
pub type ObserverError = Box<dyn Error + Send + Sync>;

/// An observer as the stages call it.
pub(crate) type Observer<'a> = dyn FnMut(StepInfo) -> Result<StepAction, PipelineError> + 'a;

/// The observer's answer as the stages take it.
pub(crate) fn answer(
    answer: impl Into<Result<StepAction, ObserverError>>,
) -> Result<StepAction, PipelineError> {
    answer
        .into()
        .map_err(|error| match error.downcast::<PipelineError>() {
            Ok(error) => *error,
            Err(error) => PipelineError::Observer(error),
        })
}
