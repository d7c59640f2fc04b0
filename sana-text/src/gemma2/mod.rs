//! The Gemma-2 decoder stack, used as a text encoder: its last hidden state, no language head.
//!
//! One layer is, with `n` the `1 + w` RMS norms,
//!
//! ```text
//! x <- x + n_post_attention(attention(n_input(x)))
//! x <- x + n_post_feedforward(mlp(n_pre_feedforward(x)))
//! ```
//!
//! Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size",
//! arXiv:2408.00118, section 2.

mod attention;
mod config;
mod gguf;
mod init;
mod layer;
mod mask;
mod model;
mod norm;
mod rope;

pub use attention::Gemma2Attention;
pub use config::{Gemma2Config, HiddenActivation, LayerType, RopeParameters, RopeType};
pub use layer::{Gemma2Layer, Gemma2Mlp};
pub use mask::AttentionMasks;
pub use model::{EmbeddingPlacement, Gemma2LoadOptions, Gemma2Model};
pub use norm::GemmaRmsNorm;
pub use rope::Rope;
