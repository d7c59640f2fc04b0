use std::path::PathBuf;

use sana_linear_attn::WeightError;

use crate::error::PipelineError;

/// What can go wrong with a measure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A file could not be read or written.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that does not hold statistics of features.
    #[error(
        "{} holds no statistics of features: {reason}; expected an .npz with the arrays mu \
         [features] and sigma [features, features]",
        path.display()
    )]
    Npz {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// Numbers that are not the mean and covariance of anything.
    #[error("not the statistics of features: {reason}")]
    Statistics {
        /// What is wrong with them.
        reason: String,
    },
    /// Features of two lengths.
    #[error("features of length {found} cannot be compared with features of length {expected}")]
    Lengths {
        /// Length of those that came first.
        expected: usize,
        /// Length of the others.
        found: usize,
    },
    /// Fewer images than a covariance needs.
    #[error("a covariance needs at least 2 images, got {found}")]
    TooFew {
        /// Images.
        found: u64,
    },
    /// A file of a network that a measure needs is not what it has to be.
    #[error("{} is not usable: {reason}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The weights of such a network.
    #[error("{0}")]
    Weights(#[from] WeightError),
    /// A text that cannot be made into tokens.
    #[error("the tokenizer failed: {reason}")]
    Tokenize {
        /// What it found.
        reason: String,
    },
    /// Images and texts that belong together, in different numbers.
    #[error("{images} images and {texts} texts: each image needs its text")]
    Pairs {
        /// Images.
        images: usize,
        /// Texts.
        texts: usize,
    },
    /// A line of a file of prompts, questions or results.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of results without any.
    #[error("there are no results in it")]
    NoResults,
    /// A result that is NaN or infinite.
    #[error("a {what} is not finite: check the weights for such values")]
    NotFinite {
        /// What it is.
        what: &'static str,
    },
    /// An image could not be read, or the device failed.
    #[error("{0}")]
    Pipeline(#[from] PipelineError),
}
