use std::path::{Path, PathBuf};

use crate::error::PipelineError;
use crate::support::units::human;

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
    /// A run that cannot be resumed: its state is damaged, or another model's.
    #[error("cannot resume from {path}: {reason}")]
    State {
        /// The run's folder, or the file of its state.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A run that would be continued with other settings than it was begun with.
    #[error("cannot resume from {path} with other settings: {changes}")]
    Settings {
        /// The run's folder.
        path: PathBuf,
        /// What differs, with both values.
        changes: String,
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
    /// A folder of images that cannot be trained on.
    #[error("no training data in {path}: {reason}")]
    Data {
        /// The folder or file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A data source that gives something else than it says.
    #[error("the data source is wrong: {reason}")]
    Source {
        /// What it gave, and what was expected.
        reason: String,
    },
    /// The loss, the gradients or a parameter became infinite or not a number. Nothing of the step
    /// is kept, and the state that was saved last stays.
    #[error(
        "diverged at step {step}: {quantity} is {value}; the last saved state is kept: lower the \
         learning rate or start from earlier weights"
    )]
    Diverged {
        /// The step, counted from 0.
        step: usize,
        /// What is not finite.
        quantity: String,
        /// Its value.
        value: f32,
    },
    /// What was asked for does not fit into memory.
    #[error(
        "{what} takes at least {}, and {} of memory can be had: lower it",
        human(*.needed),
        human(*.available)
    )]
    Memory {
        /// What takes it, with the numbers that were asked for.
        what: String,
        /// Bytes that it takes at least.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// Latents of an autoencoder whose scale cannot be measured.
    #[error(
        "the standard deviation of the autoencoder's latents is {std}, which gives no scaling \
         factor: its weights or the data are not usable"
    )]
    LatentScale {
        /// The standard deviation.
        std: f64,
    },
    /// An image that cannot be read.
    #[error(transparent)]
    Image(Box<PipelineError>),
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
    Flow(#[from] sana_sampler::SamplerError),
}

impl TrainError {
    /// An image that cannot be read.
    pub(super) fn image(error: PipelineError) -> Self {
        Self::Image(Box::new(error))
    }

    /// A file or folder that cannot be read or written.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        |source| Self::Io { path, source }
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
