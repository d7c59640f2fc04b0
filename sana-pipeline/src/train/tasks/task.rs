use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::train::error::TrainError;
use crate::train::run::Settings;

/// What a step trains on: a loss for a share of the batch.
pub trait Task: Sync {
    /// The module that is trained.
    type Model: Module;

    /// Number of samples of a step.
    fn batch(&self) -> usize;

    /// Refuses options that are out of range, before the first step.
    ///
    /// # Errors
    /// [`TrainError::Option`].
    fn validate(&self) -> Result<(), TrainError>;

    /// What the losses depend on, by name, to be recorded with the run: it is not continued with
    /// other settings without being asked to. Default none.
    fn settings(&self) -> Settings {
        Settings::new()
    }

    /// Refuses a model that is of no use, before it replaces the last good state. `step` is the
    /// number of steps taken. Default: it is of use.
    ///
    /// # Errors
    /// [`TrainError::Diverged`].
    fn check(&self, _model: &Self::Model, _step: usize) -> Result<(), TrainError> {
        Ok(())
    }

    /// The mean loss over these samples of the batch of step `step`, as a tensor `[1]` on the
    /// model's graph. `samples` are indices below [`batch`](Self::batch): all of them, or the
    /// replica's share. Everything random derives from the step and the sample's index.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn loss(
        &self,
        model: &Self::Model,
        step: usize,
        samples: Range<usize>,
    ) -> Result<Tensor<1>, TrainError>;
}
