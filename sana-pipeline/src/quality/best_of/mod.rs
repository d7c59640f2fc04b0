//! Inference-time scaling: of many images of a prompt, the ones that a verifier finds best
//! (SANA-1.5, arXiv 2501.18427, section 2.5).
//!
//! A [`Verifier`] rates one image at a time, a [`Rating`]; [`rank`] compares ratings.
//!
//! ```
//! use sana_pipeline::best_of::{Rating, rank};
//!
//! let scores = [0.2, 0.9, 0.9, 0.1].map(Rating::Score);
//! assert_eq!(rank(&scores, 2)?, [1, 2]);
//! # Ok::<(), sana_pipeline::best_of::VerifierError>(())
//! ```

#[cfg(feature = "metrics")]
mod clip;
mod command;
mod rank;
#[cfg(feature = "scenes")]
mod scenes;
#[cfg(feature = "scenes")]
mod sprites;

use std::path::Path;

use serde::{Deserialize, Serialize};

#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use clip::ClipVerifier;
pub use command::CommandVerifier;
pub use rank::{considered, rank};
#[cfg(feature = "scenes")]
#[cfg_attr(docsrs, doc(cfg(feature = "scenes")))]
pub use scenes::SceneVerifier;
#[cfg(feature = "scenes")]
#[cfg_attr(docsrs, doc(cfg(feature = "scenes")))]
pub use sprites::SpriteVerifier;

/// What a verifier says about an image. All ratings of a comparison are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rating {
    /// A number: the larger, the better.
    Score(#[serde(with = "score")] f64),
    /// The logits of the answers "yes" and "no" to whether the image shows the prompt; the larger
    /// one is the answer.
    Answer {
        /// Logit of "yes".
        yes: f64,
        /// Logit of "no".
        no: f64,
    },
}

/// `{"score": 1.0}`.
mod score {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Score {
        score: f64,
    }

    pub fn serialize<S: Serializer>(score: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Score { score: *score }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Score::deserialize(deserializer).map(|score| score.score)
    }
}

impl Rating {
    /// Whether its numbers are finite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Score(score) => score.is_finite(),
            Self::Answer { yes, no } => yes.is_finite() && no.is_finite(),
        }
    }
}

/// Rates how well an image shows its prompt.
pub trait Verifier {
    /// The rating of the image in a PNG file. It is asked for once per image.
    ///
    /// # Errors
    /// When the prompt or the image cannot be rated.
    fn rate(&mut self, prompt: &str, image: &Path) -> Result<Rating, VerifierError>;
}

/// What can be wrong with a verifier or its ratings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// The image could not be read or rated.
    #[error("cannot rate {}: {reason}", image.display())]
    Image {
        /// The file.
        image: std::path::PathBuf,
        /// The reason.
        reason: String,
    },
    /// The prompt is of no kind that the verifier knows.
    #[error("the verifier cannot rate images of {prompt:?}: {reason}")]
    Prompt {
        /// The prompt.
        prompt: String,
        /// The reason.
        reason: String,
    },
    /// The program of the verifier does not start.
    #[error("cannot start the verifier {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The program of the verifier ended, or its input and output are broken.
    #[error("the verifier {program} gave no answer: {reason}")]
    NoAnswer {
        /// The program.
        program: String,
        /// What happened.
        reason: String,
    },
    /// The program answered with something else.
    #[error(
        "the verifier {program} answered {answer:?}, which is neither {{\"score\": NUMBER}} nor \
         {{\"yes\": NUMBER, \"no\": NUMBER}} with finite numbers"
    )]
    Answer {
        /// The program.
        program: String,
        /// Its line.
        answer: String,
    },
    /// Scores and answers cannot be compared.
    #[error("the verifier gave a score for some images and yes or no for others")]
    Mixed,
    /// More images to keep than there are, or none.
    #[error("cannot keep {keep} of {images} images")]
    Keep {
        /// Images to keep.
        keep: usize,
        /// Images that are compared.
        images: usize,
    },
}
