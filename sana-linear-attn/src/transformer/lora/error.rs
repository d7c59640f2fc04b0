use std::fmt;

use crate::weights::{LISTED, WeightError, listed, mismatch_lists};

/// What can be wrong with a LoRA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// The file cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A file without tensors.
    #[error("the LoRA {origin} is empty")]
    Empty {
        /// The file.
        origin: String,
    },
    /// What the file, or the `adapter_config.json` next to it, says about alpha is not usable.
    #[error("the settings of the LoRA {origin} are not usable: {reason}")]
    Settings {
        /// The file.
        origin: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The tensors are not those of a LoRA of this transformer.
    #[error(transparent)]
    Mismatch(Box<LoraMismatch>),
    /// An adapter of a kind that is not supported.
    #[error(
        "the LoRA {origin} is {kind} ({tensor}), which is not supported: merge it into the \
         transformer with the tool that trained it and load the merged weights"
    )]
    Unsupported {
        /// The file.
        origin: String,
        /// What it is.
        kind: &'static str,
        /// A tensor that shows it.
        tensor: String,
    },
    /// A file that changes a text encoder alone.
    #[error(
        "the LoRA {origin} changes only a text encoder, which is not supported: take a file that \
         was trained on the transformer"
    )]
    TextEncoder {
        /// The file.
        origin: String,
    },
    /// An unmerged adapter whose change of the weights is not low rank.
    #[error("the LoRA {origin} is a {kind}, whose change of the weights is not low rank: merge it")]
    NotLowRank {
        /// The file.
        origin: String,
        /// What it is.
        kind: &'static str,
    },
    /// An adapter whose change of the weights is not low rank, on quantized weights.
    #[error(
        "the LoRA {origin} is a {kind}, whose change of the weights is not low rank, and the \
         weights are quantized: merge it into weights that are not, or load them so"
    )]
    Quantized {
        /// The file.
        origin: String,
        /// What it is.
        kind: &'static str,
    },
    /// A scale that is not finite.
    #[error("the scale of the LoRA {origin} must be a finite number, got {scale}")]
    Scale {
        /// The file.
        origin: String,
        /// The scale.
        scale: f64,
    },
}

/// Everything about a LoRA's tensors that does not fit the transformer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoraMismatch {
    /// The file.
    pub origin: String,
    /// Layers that the file changes and the transformer does not have, or that are not linear.
    pub absent: Vec<String>,
    /// The other halves of tensors that have none.
    pub missing: Vec<String>,
    /// Tensors that belong to no LoRA.
    pub unexpected: Vec<String>,
    /// Tensors of another shape: name, expected, found.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoraMismatch {
    pub(super) fn is_empty(&self) -> bool {
        self.absent.is_empty()
            && self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.misshapen.is_empty()
    }

    /// With at most `most` names of each kind.
    fn text(&self, most: usize) -> String {
        let mut text = format!("the LoRA {} does not fit the transformer", self.origin);
        if !self.absent.is_empty() {
            let (count, names) = (self.absent.len(), listed(&self.absent, most));
            text += &format!("; targets that it lacks {count}: {names}");
        }
        text + &mismatch_lists(&self.missing, &self.unexpected, &self.misshapen, most)
    }

    /// The text with all names, of which the usual one lists a few of each kind; `None` where that
    /// has all.
    pub fn all_names(&self) -> Option<String> {
        let text = self.text(usize::MAX);
        (text != self.text(LISTED)).then_some(text)
    }
}

impl fmt::Display for LoraMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(LISTED))
    }
}

impl std::error::Error for LoraMismatch {}
