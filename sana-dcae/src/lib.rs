#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod blocks;
mod config;
mod decoder;
mod encoder;
mod error;
mod model;
mod resample;
mod tiling;

pub use config::{
    Activation, BlockType, DcAeConfig, DownsampleBlockType, NormType, PerStage, UpsampleBlockType,
};
pub use decoder::{Decoder, DecoderPlace};
pub use encoder::Encoder;
pub use error::DcAeError;
pub use model::{DcAe, MemoryOptions};
pub use tiling::Tiling;

// What encoder and decoder are made of, for tests.
#[doc(hidden)]
pub use blocks::{ChannelNorm, EfficientVitBlock, FrozenBatchNorm, ResBlock, StageLayer};
#[doc(hidden)]
pub use decoder::DecoderHead;
#[doc(hidden)]
pub use encoder::EncoderStem;
#[doc(hidden)]
pub use resample::{DownBlock, UpBlock, group_mean};
