//! Where in the network the first value that is not finite appears.

use std::fmt;

use burn::tensor::{DType, Tensor};

use super::controlled::ControlledTransformer;
use super::model::{SanaTransformer, TextContext};
use super::perturbed::PerturbedBlocks;
use crate::layers::LinearAttention;

/// A place in [`SanaTransformer`] after which values can be NaN or infinite.
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
    /// The final norm, its modulation and the output projection.
    Output,
}

/// A part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockPart {
    /// Keys and values of the text, which are computed once for all steps.
    TextKeysValues,
    /// The block's own part of the modulation.
    Modulation,
    /// The tokens after the self-attention.
    SelfAttention,
    /// The tokens after the cross-attention.
    CrossAttention,
    /// The tokens after the feed-forward.
    FeedForward,
    /// What a ControlNet adds to the tokens after the block.
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

impl SanaTransformer {
    /// Runs the network once more with every stage's output looked at, and names the first that
    /// holds NaN or infinity; `None` when all are finite, the output too. For after a failure: it
    /// reads a value from the device after every stage.
    ///
    /// Inputs are those of [`forward`](Self::forward); with `perturbed`, attention is replaced by
    /// the identity in those blocks, as on the perturbed path of
    /// [`forward_perturbed`](Self::forward_perturbed). `captions` are the embeddings that `text` was
    /// made of, `[batch, text_tokens, caption_channels]` each, as far as they are at hand.
    ///
    /// A value that cannot be read from the device counts as finite.
    pub fn locate_non_finite(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        captions: &[Tensor<3>],
        text: &TextContext,
        perturbed: Option<&PerturbedBlocks>,
    ) -> Option<Place> {
        self.locate_controlled(&[], latents, timestep, guidance, captions, text, perturbed)
    }

    #[allow(clippy::too_many_arguments)]
    fn locate_controlled(
        &self,
        residuals: &[Tensor<3>],
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        captions: &[Tensor<3>],
        text: &TextContext,
        perturbed: Option<&PerturbedBlocks>,
    ) -> Option<Place> {
        let found = |finite: bool, place: Place| (!finite).then_some(place);
        self.locate_in_inputs(&latents, captions, text).or_else(|| {
            let trunk = self.trunk();
            let grid = trunk.grid(&latents);
            let mut x = trunk.embed(latents);
            if !is_finite(&x) {
                return Some(Place::PatchEmbedding);
            }
            let (embedding, modulation) = self.embed_time(timestep, guidance);
            if !(is_finite(&embedding) && is_finite(&modulation)) {
                return Some(Place::TimeEmbedding);
            }
            let identity = perturbed.map_or(&[][..], PerturbedBlocks::indices);
            for (index, block) in self.transformer_blocks.iter().enumerate() {
                let place = |part| Place::Block { index, part };
                if !is_finite(&block.scale_shift_table.val()) {
                    return Some(place(BlockPart::Modulation));
                }
                let attend = if identity.contains(&index) {
                    LinearAttention::forward_identity
                } else {
                    LinearAttention::forward
                };
                let mut first = None;
                x = block.forward_observed(
                    attend,
                    x,
                    modulation.clone(),
                    &text.blocks[index],
                    text.bias.as_ref(),
                    grid,
                    |part, tokens| {
                        if first.is_none() && !is_finite(tokens) {
                            first = Some(place(part));
                        }
                    },
                );
                if first.is_some() {
                    return first;
                }
                let before = index.checked_sub(1);
                if let Some(residual) = before.and_then(|before| residuals.get(before)) {
                    if !is_finite(residual) {
                        return Some(place(BlockPart::ControlResidual));
                    }
                    x = x.clone() + residual.clone().cast(x.dtype());
                }
            }
            found(is_finite(&self.output(x, embedding, grid)), Place::Output)
        })
    }

    fn locate_in_inputs(
        &self,
        latents: &Tensor<4>,
        captions: &[Tensor<3>],
        text: &TextContext,
    ) -> Option<Place> {
        if !is_finite(latents) {
            return Some(Place::Latents);
        }
        if !captions.iter().all(is_finite) {
            return Some(Place::TextEmbeddings);
        }
        let projected = |caption: &Tensor<3>| is_finite(&self.project_caption(caption.clone()));
        if !captions.iter().all(projected) {
            return Some(Place::CaptionProjection);
        }
        let index = text.blocks.iter().position(|text| {
            let [key, value] = text.tensors();
            !(is_finite(key) && is_finite(value))
        })?;
        let part = BlockPart::TextKeysValues;
        Some(Place::Block { index, part })
    }
}

impl ControlledTransformer<'_> {
    /// As [`SanaTransformer::locate_non_finite`], with the residuals of the ControlNet.
    pub fn locate_non_finite(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        captions: &[Tensor<3>],
        text: &TextContext,
        perturbed: Option<&PerturbedBlocks>,
    ) -> Option<Place> {
        self.transformer.locate_controlled(
            self.residuals,
            latents,
            timestep,
            guidance,
            captions,
            text,
            perturbed,
        )
    }
}

/// Whether no element is NaN or infinite.
fn is_finite<const D: usize>(tensor: &Tensor<D>) -> bool {
    let finite = tensor.clone().cast(DType::F32).is_finite().all();
    finite.try_into_scalar::<bool>().unwrap_or(true)
}
