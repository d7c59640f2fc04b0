//! The error of this crate.

use std::fmt;
use std::path::{Path, PathBuf};

use sana_dcae::{DcAeError, DecoderPlace};
use sana_linear_attn::WeightError;
use sana_linear_attn::transformer::depth::GrowthError;
use sana_linear_attn::transformer::{
    ConfigError, ControlNetError, LoraError, PerturbedBlocksError, Place,
};
use sana_sampler::SamplerError;
use sana_text::TextError;

use super::checkpoint::CheckpointError;
use super::image::ImageError;
use super::memory::{MemoryAdvice, Shortage, advised, shortage};
use super::request::{ImageToImageError, RequestError};
#[cfg(feature = "scenes")]
use crate::scenes::SceneError;
#[cfg(feature = "scenes")]
use crate::sprites::SpriteError;

/// An error of this crate. [`source`](std::error::Error::source) leads through the nested errors to
/// those of the other crates, such as [`WeightError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A checkpoint, a component of it, or what comes with it, is not usable.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// A request does not fit the model, or its parts do not fit each other.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// An image cannot be read, written, compared or put on a grid.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A request that does not fit into memory by the
    /// [estimate](crate::SanaPipeline::memory_estimate).
    #[error(
        "{}: {}",
        shortage(Shortage {
            needs: *needs,
            free: *free,
            single_tensor: *single_tensor,
        }),
        advised(advice)
    )]
    Memory {
        /// Bytes that it needs where it is run in the way that takes least, or that its largest tensor
        /// needs.
        needs: u64,
        /// Bytes that it may take, or that one tensor may take.
        free: u64,
        /// Whether one tensor alone is too large for the device: a GPU gives a part of its memory at
        /// once.
        single_tensor: bool,
        /// Changes each of which would make it fit.
        advice: Vec<MemoryAdvice>,
    },
    /// The network's output at a step is not finite.
    #[error(
        "step {step} of {steps} (timestep {timestep}) gave values that are not finite{}; \
         try another dtype ({dtype} was used), and check the weights for such values",
        first_in(place)
    )]
    StepNotFinite {
        /// The step, from 1.
        step: usize,
        /// All steps.
        steps: usize,
        /// The time the network was called with.
        timestep: f64,
        /// The first part of the network with such a value; `None` when the network's own output
        /// was finite, and what was made of it not.
        place: Option<Place>,
        /// Dtype of the transformer.
        dtype: String,
    },
    /// The output of another stage is not finite.
    #[error(
        "the {stage} stage gave values that are not finite{}; try another dtype ({dtype} was \
         used), and check the weights for such values",
        first_in(place)
    )]
    NotFinite {
        /// The stage.
        stage: &'static str,
        /// The first layer of the decoder with such a value, where it was found.
        place: Option<DecoderPlace>,
        /// Dtype of its network.
        dtype: String,
    },
    /// Values that are not finite, where scales are so large that nothing else can come of them.
    #[error("{what} gave values that are not finite, with {scales}: take a smaller scale")]
    Scales {
        /// The step or the stage.
        what: String,
        /// Which scales.
        scales: String,
    },
    /// The device failed.
    #[error("the device failed while {doing}: {reason}")]
    Device {
        /// What was being done.
        doing: &'static str,
        /// The backend's reason.
        reason: String,
    },
    /// The observer of the steps failed.
    #[error("the observer of the steps failed")]
    Observer(#[source] ObserverError),
    /// The tokenizer or the text encoder failed; with its weights, it is
    /// [`CheckpointError::Weights`].
    #[error("{0}")]
    Text(#[source] TextError),
    /// The autoencoder failed; with its weights, it is [`CheckpointError::Weights`].
    #[error("{0}")]
    Autoencoder(#[source] DcAeError),
    /// An image cannot be evaluated by the scene language.
    #[cfg(feature = "scenes")]
    #[error("{0}")]
    Scene(#[from] SceneError),
    /// Scenes of little things cannot be made or evaluated.
    #[cfg(feature = "scenes")]
    #[error("{0}")]
    Sprites(#[from] SpriteError),
}

/// An error of an observer. It ends the run as [`PipelineError::Observer`], or as it is where it is
/// a [`PipelineError`].
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// Where the first value that is not finite was found, for the middle of a sentence.
fn first_in(place: &Option<impl fmt::Display>) -> String {
    place
        .as_ref()
        .map_or_else(String::new, |place| format!(", first in {place}"))
}

impl PipelineError {
    /// The text with the names of all tensors that do not fit, of which the usual one lists a few of
    /// each kind; `None` where that has all.
    pub fn all_names(&self) -> Option<String> {
        match self {
            Self::Checkpoint(
                CheckpointError::Weights(error) | CheckpointError::Lora(LoraError::Weights(error)),
            ) => error.all_names(),
            Self::Checkpoint(CheckpointError::Lora(LoraError::Mismatch(found))) => {
                found.all_names()
            }
            _ => None,
        }
    }

    /// Values of the steps, or of the images that they end in, that are not finite are of these scales,
    /// if there are any. The stages before the steps do not depend on them.
    pub(crate) fn of_scales(self, scales: Vec<String>) -> Self {
        let what = match &self {
            _ if scales.is_empty() => return self,
            Self::StepNotFinite { step, steps, .. } => format!("step {step} of {steps}"),
            Self::NotFinite {
                stage: stage @ "decode",
                ..
            } => format!("the {stage} stage"),
            _ => return self,
        };
        let scales = scales.join(" and ");
        Self::Scales { what, scales }
    }

    /// That this file cannot be written, of the system's reason.
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Write {
            path: path.to_path_buf(),
            source,
        }
    }
}

impl From<ConfigError> for PipelineError {
    fn from(error: ConfigError) -> Self {
        CheckpointError::Config(error).into()
    }
}

impl From<ControlNetError> for PipelineError {
    fn from(error: ControlNetError) -> Self {
        CheckpointError::ControlNet(error).into()
    }
}

impl From<WeightError> for PipelineError {
    fn from(error: WeightError) -> Self {
        CheckpointError::Weights(error).into()
    }
}

impl From<GrowthError> for PipelineError {
    fn from(error: GrowthError) -> Self {
        CheckpointError::Depth(error).into()
    }
}

impl From<LoraError> for PipelineError {
    fn from(error: LoraError) -> Self {
        CheckpointError::Lora(error).into()
    }
}

impl From<PerturbedBlocksError> for PipelineError {
    fn from(error: PerturbedBlocksError) -> Self {
        RequestError::PerturbedBlocks(error).into()
    }
}

impl From<SamplerError> for PipelineError {
    fn from(error: SamplerError) -> Self {
        RequestError::Sampler(error).into()
    }
}

impl From<ImageToImageError> for PipelineError {
    fn from(error: ImageToImageError) -> Self {
        RequestError::ImageToImage(error).into()
    }
}

impl From<TextError> for PipelineError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::Weights(error) => error.into(),
            error => Self::Text(error),
        }
    }
}

impl From<DcAeError> for PipelineError {
    fn from(error: DcAeError) -> Self {
        match error {
            DcAeError::Weights(error) => error.into(),
            error => Self::Autoencoder(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_blamed_for_what_depends_on_them() {
        let failed = |stage| PipelineError::NotFinite {
            stage,
            place: None,
            dtype: "f16".to_owned(),
        };
        let scales = || vec!["a guidance scale of 1000".to_owned()];
        let decoded = failed("decode").of_scales(scales());
        assert!(matches!(decoded, PipelineError::Scales { .. }), "{decoded}");
        for stage in ["text", "control", "encode"] {
            let error = failed(stage).of_scales(scales());
            assert!(matches!(error, PipelineError::NotFinite { .. }), "{error}");
        }
        let error = failed("decode").of_scales(Vec::new());
        assert!(matches!(error, PipelineError::NotFinite { .. }), "{error}");
    }
}
