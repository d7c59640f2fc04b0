//! What can be wrong with a checkpoint.

use std::path::PathBuf;

use sana_linear_attn::WeightError;
use sana_linear_attn::transformer::depth::GrowthError;
use sana_linear_attn::transformer::{ConfigError, ControlNetError, LoraError};

use crate::checkpoint::Component;

/// A checkpoint, a component of it, or what comes with it, is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A checkpoint was asked for where there is no folder.
    #[error("no folder {}", path.display())]
    NoFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder that holds no checkpoint.
    #[error(
        "{} is not a checkpoint folder: it has no model_index.json; a checkpoint in the diffusers \
         layout holds model_index.json and the folders scheduler, text_encoder, tokenizer, \
         transformer and vae", folder.display()
    )]
    NotCheckpoint {
        /// The folder.
        folder: PathBuf,
    },
    /// A checkpoint that lacks files its `model_index.json` promises.
    #[error("checkpoint {origin} is incomplete, it lacks {}", files.join(", "))]
    Incomplete {
        /// The checkpoint.
        origin: String,
        /// The files, relative to it.
        files: Vec<String>,
    },
    /// A JSON file that cannot be used.
    #[error("{origin} is not usable: {source}")]
    Json {
        /// The file.
        origin: String,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A checkpoint of another kind of pipeline.
    #[error("{origin} holds a {found}, expected one of {}", expected.join(", "))]
    PipelineClass {
        /// Its `model_index.json`.
        origin: String,
        /// The class named there.
        found: String,
        /// The classes that this crate runs.
        expected: &'static [&'static str],
    },
    /// A component of a checkpoint is of a class that this crate does not implement.
    #[error("{component} of {origin} is a {found}, expected {}", expected.join(" or "))]
    ComponentClass {
        /// The component.
        component: Component,
        /// The checkpoint.
        origin: String,
        /// The class named in `model_index.json`.
        found: String,
        /// The classes that would do.
        expected: &'static [&'static str],
    },
    /// A component that is needed now, but that the checkpoint does not have.
    #[error("checkpoint {origin} has no {component}")]
    NoComponent {
        /// The component.
        component: Component,
        /// The checkpoint.
        origin: String,
    },
    /// Weights were requested of a component that never has any.
    #[error("a {component} has no weights")]
    ComponentWithoutWeights {
        /// The component.
        component: Component,
    },
    /// A checkpoint was to be written with quantized networks, and none was named.
    #[error("no network to quantize: name the transformer or the text encoder")]
    NothingToQuantize,
    /// Two components of a checkpoint do not fit each other.
    #[error("{component} has {found} {what}, the transformer expects {expected}")]
    ComponentsDiffer {
        /// The component that does not fit the transformer.
        component: Component,
        /// What is counted, such as `latent channels`.
        what: &'static str,
        /// The component's number.
        found: usize,
        /// The transformer's number.
        expected: usize,
    },
    /// A variant of which no component has weight files.
    #[error(
        "{origin} has no weights of the variant {variant:?}{}",
        its_variants(found)
    )]
    NoVariant {
        /// The variant.
        variant: String,
        /// The checkpoint.
        origin: String,
        /// The variants there are.
        found: Vec<String>,
    },
    /// A scheduler class that this crate does not implement.
    #[error("{origin} names the scheduler {found:?}, expected one of {}", expected.join(", "))]
    SchedulerClass {
        /// The scheduler's config.
        origin: String,
        /// The class.
        found: String,
        /// The classes that this crate implements.
        expected: &'static [&'static str],
    },
    /// An option of a scheduler with a value that this crate does not implement.
    #[error("{origin}: {option} is {found}, supported is {supported}")]
    SchedulerOption {
        /// The scheduler's config.
        origin: String,
        /// The option.
        option: &'static str,
        /// Its value as JSON.
        found: String,
        /// What would be possible.
        supported: String,
    },
    /// A folder that was named as a ControlNet's, but is not one.
    #[error(
        "{} holds no ControlNet: there is no config.json in it, nor a folder controlnet with one; \
         a ControlNet's folder has config.json and diffusion_pytorch_model.safetensors",
        folder.display()
    )]
    NotControlNet {
        /// The folder.
        folder: PathBuf,
    },
    /// A name that is no released variant's.
    #[error("no variant {found:?}, the released ones are {}", known.join(", "))]
    UnknownVariant {
        /// The name.
        found: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A checkpoint was to be written where one is already.
    #[error("{} holds a checkpoint already; choose another folder", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// Weights were to be written where there are some already.
    #[error("{} exists already: nothing is replaced; choose another place", path.display())]
    WeightsExist {
        /// The folder or file.
        path: PathBuf,
    },
    /// A dtype that weights cannot be written in.
    #[error("weights cannot be written as {found}, supported are f32, f16 and bf16")]
    WeightDtype {
        /// The dtype.
        found: String,
    },
    /// Something needs the built-in checkpoint, which this build leaves out.
    #[error("{needs} needs the built-in checkpoint: build with the feature scenes-model")]
    NoBuiltIn {
        /// What needs it.
        needs: &'static str,
    },
    /// A map of latents to colours that cannot be used, or fitted.
    #[error("{origin} is not usable for previews: {reason}")]
    LatentRgb {
        /// The file, or the autoencoder.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A change of the transformer's depth that is not possible.
    #[error("{0}")]
    Depth(#[from] GrowthError),
    /// The config of the transformer or the ControlNet is not usable.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A ControlNet cannot steer the transformer.
    #[error("{0}")]
    ControlNet(#[from] ControlNetError),
    /// The weights of a component are not usable: one variant, whichever network they are for.
    #[error("{0}")]
    Weights(#[from] WeightError),
    /// A LoRA cannot be applied to the transformer.
    #[error("{0}")]
    Lora(#[from] LoraError),
}

fn its_variants(found: &[String]) -> String {
    match found {
        [] => ": it has none but the plain ones".to_owned(),
        found => format!("; it has {}", found.join(", ")),
    }
}
