#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod embedding;
mod encoder;
mod error;
mod gemma2;
mod prompt;
mod tokenizer;

pub use embedding::{EmbeddingTable, TokenEmbedding};
pub use encoder::{PromptEmbeds, PromptEncoder, encode_tokens};
pub use error::TextError;
pub use gemma2::{
    EmbeddingPlacement, Gemma2Config, Gemma2LoadOptions, Gemma2Model, HiddenActivation, LayerType,
    RopeParameters, RopeType,
};
pub use prompt::{Instruction, PromptOptions, PromptTokenizer, PromptTokens, normalize_prompt};
pub use tokenizer::{Encoded, GemmaTokenizer, train_gemma_style};

// What the decoder stack is made of, for tests and benchmarks, and a limit of sana-pipeline's.
#[doc(hidden)]
pub use gemma2::{AttentionMasks, Gemma2Attention, Gemma2Layer, Gemma2Mlp, GemmaRmsNorm, Rope};
#[doc(hidden)]
pub use tokenizer::LARGEST_TOKENIZER;
