#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod blocks;
mod config;
mod decoder;
mod diagnose;
mod encoder;
mod error;
mod model;
mod resample;
mod tiling;

pub use blocks::{ChannelNorm, EfficientVitBlock, FrozenBatchNorm, ResBlock, StageLayer};
pub use config::{
    Activation, BlockType, DcAeConfig, DownsampleBlockType, NormType, PerStage, UpsampleBlockType,
};
pub use decoder::{Decoder, DecoderHead};
pub use diagnose::DecoderPlace;
pub use encoder::{Encoder, EncoderStem};
pub use error::DcAeError;
pub use model::{DcAe, MemoryOptions};
pub use resample::{DownBlock, UpBlock, group_mean};
pub use sana_linear_attn::kernels::{pixel_shuffle, pixel_unshuffle, repeat_channels};
pub use tiling::Tiling;
