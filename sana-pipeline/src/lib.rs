#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod error;
#[cfg(feature = "hub")]
#[cfg_attr(docsrs, doc(cfg(feature = "hub")))]
pub mod hub;
pub mod image;
pub mod memory;
mod pipeline;
pub mod preview;
mod quality;
pub mod request;
#[cfg(feature = "scenes")]
#[cfg_attr(docsrs, doc(cfg(feature = "scenes")))]
pub mod scenes;
pub mod spec;
#[cfg(feature = "scenes")]
#[cfg_attr(docsrs, doc(cfg(feature = "scenes")))]
pub mod sprites;
mod support;
#[cfg(feature = "train")]
#[cfg_attr(docsrs, doc(cfg(feature = "train")))]
pub mod train;

pub use checkpoint::opened::Checkpoint;
pub use error::pipeline::PipelineError;
pub use pipeline::{Generation, LoadOptions, Plan, SanaPipeline, StepAction, StepInfo};
pub use quality::best_of;
#[cfg(feature = "scenes")]
#[cfg_attr(docsrs, doc(cfg(feature = "scenes")))]
pub use quality::evaluate;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use quality::metrics;
pub use request::builder::Request;
#[doc(hidden)]
pub use support::escape::{escaped, escaped_lines};
#[doc(hidden)]
pub use support::files::FolderLock;
#[doc(hidden)]
pub use support::json::InOrder;

/// The scheduler of a checkpoint, and what requests, settings and errors take from `sana-sampler`.
pub mod sampler {
    pub use crate::checkpoint::scheduler::{Schedule, Scheduler, Solver};
    pub use sana_sampler::{
        AdaptiveProjection, FlowSchedule, Guidance, GuidanceInterval, Order, SamplerError,
        ScmSchedule, ScmTimesteps, SigmaData, Timesteps,
    };
}

/// Encoded prompts, and what requests, pipelines and errors take from `sana-text`.
pub mod text {
    pub use crate::pipeline::TextConditioning;
    pub use sana_text::{
        Gemma2Config, Gemma2Model, Instruction, PromptEmbeds, PromptOptions, PromptTokenizer,
        TextError,
    };
}

/// What options, pipelines and errors take from `sana-dcae`.
pub mod autoencoder {
    pub use sana_dcae::{DcAe, DcAeConfig, DcAeError, DecoderPlace, Tiling};
}

/// What options, pipelines and errors take from `sana-linear-attn`.
pub mod transformer {
    pub use sana_linear_attn::quantization::Quantization;
    pub use sana_linear_attn::transformer::depth;
    pub use sana_linear_attn::transformer::{
        ConfigError, ControlNetError, F16Clamp, LoraError, PerturbedBlocks, PerturbedBlocksError,
        Place,
    };
    pub use sana_linear_attn::{
        ControlWiring, SanaControlNet, SanaControlNetConfig, SanaTransformer,
        SanaTransformerConfig, WeightError,
    };
}
