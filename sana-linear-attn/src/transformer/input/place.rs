use std::fmt;

/// A place in a [`SanaTransformer`](crate::SanaTransformer) at which its values can be
/// [observed](super::TransformerInput::observer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The latents that the network was called with.
    Latents,
    /// The text embeddings that the network was called with.
    TextEmbeddings,
    /// The projection of the text embeddings and its norm.
    CaptionProjection,
    /// The embedding of latent patches, and the position table where the model has one.
    PatchEmbedding,
    /// The embedding of the timestep, and of the guidance scale where the model has one, and the
    /// modulation made of it.
    TimeEmbedding,
    /// A block.
    Block {
        /// Which one, from 0: `transformer_blocks.INDEX` in a checkpoint.
        index: usize,
        /// What in it.
        part: BlockPart,
    },
    /// The final norm, its modulation and the output projection: latent patches.
    Output,
}

/// A part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockPart {
    /// Keys and values of the text, which are computed once for all steps.
    TextKeysValues,
    /// The modulation of the block, `[batch, 6, width]`: the timestep's and the block's own table.
    Modulation,
    /// The tokens after the self-attention.
    SelfAttention,
    /// The tokens after the cross-attention.
    CrossAttention,
    /// The tokens after the feed-forward.
    FeedForward,
    /// The tokens after the block with the residual of a ControlNet added, or before it with the
    /// original wiring.
    ControlResidual,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latents => f.write_str("the latents that the network was given"),
            Self::TextEmbeddings => f.write_str("the text embeddings"),
            Self::CaptionProjection => f.write_str("the caption projection"),
            Self::PatchEmbedding => f.write_str("the patch embedding"),
            Self::TimeEmbedding => f.write_str("the time embedding"),
            Self::Block { index, part } => write!(f, "transformer_blocks.{index}, {part}"),
            Self::Output => f.write_str("the output projection"),
        }
    }
}

impl fmt::Display for BlockPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextKeysValues => "the keys and values of the text (attn2)",
            Self::Modulation => "the modulation (scale_shift_table)",
            Self::SelfAttention => "the self-attention (attn1)",
            Self::CrossAttention => "the cross-attention (attn2)",
            Self::FeedForward => "the feed-forward (ff)",
            Self::ControlResidual => "the residual of the ControlNet",
        })
    }
}
