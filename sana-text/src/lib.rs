#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod embedding;
pub mod encoder;
pub mod error;
pub mod gemma2;
pub mod prompt;
pub mod tokenizer;

pub use embedding::{EmbeddingTable, TokenEmbedding};
pub use encoder::{PromptEmbeds, PromptEncoder};
pub use error::TextError;
pub use gemma2::{EmbeddingPlacement, Gemma2Config, Gemma2LoadOptions, Gemma2Model};
pub use prompt::{Instruction, PromptOptions, PromptTokenizer, PromptTokens};
pub use tokenizer::{Encoded, GemmaTokenizer, train_gemma_style};
