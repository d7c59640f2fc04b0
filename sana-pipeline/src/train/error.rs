use std::path::PathBuf;

use crate::error::PipelineError;

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file or folder could not be read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A run's saved state that cannot be used.
    #[error("cannot resume from {path}: {reason}")]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives no threads for the replicas.
    #[error("cannot start the threads of the replicas: {0}")]
    Threads(rayon::ThreadPoolBuildError),
    /// An option out of range.
    #[error("{name} must be {expected}, got {found}")]
    Option {
        /// Its name.
        name: &'static str,
        /// The range.
        expected: &'static str,
        /// The value given.
        found: String,
    },
    /// A folder of pictures that cannot be trained on.
    #[error("no training data in {path}: {reason}")]
    Data {
        /// The folder or file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The loss became infinite or not a number.
    #[error(
        "loss is {loss} at step {step}: lower the learning rate or resume from an earlier state"
    )]
    Diverged {
        /// The step.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// A picture that cannot be read.
    #[error(transparent)]
    Picture(Box<PipelineError>),
    /// Weights that do not fit.
    #[error(transparent)]
    Weights(#[from] sana_linear_attn::WeightError),
    /// A transformer config that cannot be.
    #[error(transparent)]
    Transformer(#[from] sana_linear_attn::transformer::ConfigError),
    /// The autoencoder's own error.
    #[error(transparent)]
    Autoencoder(#[from] sana_dcae::DcAeError),
    /// The text encoder's own error.
    #[error(transparent)]
    Text(#[from] sana_text::TextError),
    /// The flow's own error.
    #[error(transparent)]
    Flow(#[from] sana_sampler::Error),
}

impl TrainError {
    /// A picture that cannot be read.
    pub(super) fn picture(error: PipelineError) -> Self {
        Self::Picture(Box::new(error))
    }
}

/// Refuses zero.
pub(super) fn at_least_one(name: &'static str, value: usize) -> Result<(), TrainError> {
    in_range(name, "at least 1", value > 0, value)
}

/// Refuses what is negative, infinite or not a number.
pub(super) fn not_negative(name: &'static str, value: f64) -> Result<(), TrainError> {
    in_range(name, "0 or more", value >= 0.0 && value.is_finite(), value)
}

/// Refuses what is out of a range.
pub(super) fn in_range(
    name: &'static str,
    expected: &'static str,
    holds: bool,
    value: impl ToString,
) -> Result<(), TrainError> {
    if holds {
        return Ok(());
    }
    Err(TrainError::Option {
        name,
        expected,
        found: value.to_string(),
    })
}
