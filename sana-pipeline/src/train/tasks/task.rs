use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::train::error::TrainError;

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
