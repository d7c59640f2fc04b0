//! What goes through a forward pass, and what can be seen of it.

mod context;
mod perturbed;
mod place;
mod positions;
mod sinusoids;
mod wiring;

use burn::tensor::Tensor;

pub(in crate::transformer) use positions::PositionScale;

pub use context::TextContext;
pub use perturbed::{PerturbedBlocks, PerturbedBlocksError};
pub use place::{BlockPart, Place};
pub use positions::{Positions, sin_cos_positions};
pub use sinusoids::Sinusoids;
pub use wiring::ControlWiring;

/// A look at the values of a forward pass, place by place; see [`TransformerInput::observer`].
pub type Observer<'a> = dyn FnMut(Place, &Tensor<3>) + 'a;

/// The residuals of a [`SanaControlNet`](crate::SanaControlNet) made of tokens `[batch, tokens, width]`.
pub type MakeResiduals<'a> = dyn Fn(Tensor<3>) -> Vec<Tensor<3>> + 'a;

/// What a [`SanaControlNet`](crate::SanaControlNet) adds to the tokens at a timestep,
/// `[batch, tokens, width]` each.
#[derive(Clone, Copy)]
pub enum Residuals<'a> {
    /// Residual `i` is added to the output of block `i + 1`, counted from 0
    /// ([`ControlWiring::Diffusers`](crate::ControlWiring::Diffusers)). Empty for none.
    Ready(&'a [Tensor<3>]),
    /// Made of the tokens after block 0; residual `i` is added to the input of block `i + 1`
    /// ([`ControlWiring::Original`](crate::ControlWiring::Original)).
    FromTokens(&'a MakeResiduals<'a>),
}

/// Input of [`SanaTransformer::forward`](crate::SanaTransformer::forward).
pub struct TransformerInput<'a> {
    /// `[batch, in, height, width]`, height and width divisible by the patch size.
    pub latents: Tensor<4>,
    /// One for each item: 1000 sigma times
    /// [`timestep_scale`](crate::SanaTransformerConfig::timestep_scale) for flow models, t in [0, 1]
    /// for Sana-Sprint.
    pub timestep: Sinusoids,
    /// The prompts, from [`SanaTransformer::text_context`](crate::SanaTransformer::text_context).
    pub context: &'a TextContext,
    /// One for each item, already multiplied by `guidance_embeds_scale`; only for models that embed
    /// it.
    pub guidance: Option<Sinusoids>,
    /// The positions of the latents' tokens, from
    /// [`SanaTransformer::positions`](crate::SanaTransformer::positions), so that no step makes them
    /// again; made where a network that needs them is given none.
    pub positions: Option<&'a Positions>,
    /// The residuals of a [`SanaControlNet`](crate::SanaControlNet) at this timestep.
    pub residuals: Residuals<'a>,
    /// The second output, with perturbed attention.
    pub perturbed: Option<Perturbed<'a>>,
    /// Called with the values at each [`Place`] in the order of computation: with perturbed
    /// attention, the perturbed path first, but for block 0 where residuals are
    /// [made of it](Residuals::FromTokens). Values are tokens `[batch, tokens, channels]`, but for
    /// the time embedding, `[batch, 1, width]` and `[batch, 1, 6 * width]`, and the modulation of a
    /// block, `[batch, 6, width]`.
    pub observer: Option<&'a mut Observer<'a>>,
}

/// Input of [`SanaControlNet::forward`](crate::SanaControlNet::forward), next to the latents or tokens
/// of a step.
#[derive(Debug, Clone)]
pub struct ControlInput<'a> {
    /// One for each item, as for the transformer.
    pub timestep: Sinusoids,
    /// The prompts, from [`SanaControlNet::text_context`](crate::SanaControlNet::text_context): not the
    /// transformer's.
    pub context: &'a TextContext,
    /// `[batch, tokens, width]` from [`SanaControlNet::condition`](crate::SanaControlNet::condition), or
    /// `[1, tokens, width]` for all of the batch.
    pub condition: Tensor<3>,
    /// As for the transformer; of no use with the [original wiring](ControlWiring::Original).
    pub positions: Option<&'a Positions>,
    /// What the residuals are multiplied with: 1 as they were trained, 0 for none.
    pub scale: f64,
}

/// Perturbed attention guidance's part of a [`TransformerInput`]: in the chosen blocks every token
/// attends to itself alone
/// ([`LinearAttention::forward_identity`](crate::LinearAttention::forward_identity)).
#[derive(Debug, Clone, Copy)]
pub struct Perturbed<'a> {
    /// The blocks.
    pub blocks: &'a PerturbedBlocks,
    /// The prompts of the last `n <= batch` items, as [`TextContext::items`] gives them; these items
    /// have a perturbed output.
    pub context: &'a TextContext,
}

/// Output of [`SanaTransformer::forward`](crate::SanaTransformer::forward).
#[derive(Debug, Clone)]
pub struct TransformerOutput {
    /// `[batch, out, height, width]` in f32: the velocity of the flow.
    pub velocity: Tensor<4>,
    /// `[n, out, height, width]` in f32: the velocity with perturbed attention, where asked for.
    pub perturbed: Option<Tensor<4>>,
}

impl<'a> TransformerInput<'a> {
    /// Latents at a timestep, and the prompts. See the fields for shapes and units.
    pub fn new(
        latents: Tensor<4>,
        timestep: impl Into<Sinusoids>,
        context: &'a TextContext,
    ) -> Self {
        Self {
            latents,
            timestep: timestep.into(),
            context,
            guidance: None,
            positions: None,
            residuals: Residuals::Ready(&[]),
            perturbed: None,
            observer: None,
        }
    }

    /// Sets the embedded guidance scale.
    pub fn with_guidance(mut self, guidance: impl Into<Sinusoids>) -> Self {
        self.guidance = Some(guidance.into());
        self
    }

    /// Sets the positions of the tokens, for networks that add them.
    pub fn with_positions(mut self, positions: Option<&'a Positions>) -> Self {
        self.positions = positions;
        self
    }

    /// Adds the residuals of a ControlNet with diffusers' wiring.
    pub fn with_residuals(mut self, residuals: &'a [Tensor<3>]) -> Self {
        self.residuals = Residuals::Ready(residuals);
        self
    }

    /// Adds the residuals of a ControlNet with the original wiring.
    pub fn with_residuals_from(mut self, make: &'a MakeResiduals<'a>) -> Self {
        self.residuals = Residuals::FromTokens(make);
        self
    }

    /// Asks for a second output, with perturbed attention, of the items of `context`.
    pub fn with_perturbed(mut self, blocks: &'a PerturbedBlocks, context: &'a TextContext) -> Self {
        self.perturbed = Some(Perturbed { blocks, context });
        self
    }

    /// Looks at the values on the way.
    pub fn with_observer<'b>(self, observer: &'b mut Observer<'b>) -> TransformerInput<'b>
    where
        'a: 'b,
    {
        TransformerInput {
            latents: self.latents,
            timestep: self.timestep,
            context: self.context,
            guidance: self.guidance,
            positions: self.positions,
            residuals: self.residuals,
            perturbed: self.perturbed,
            observer: Some(observer),
        }
    }
}

/// The observer of a forward pass, if there is one.
pub(in crate::transformer) struct Observe<'a>(pub Option<&'a mut Observer<'a>>);

impl Observe<'_> {
    pub fn tokens(&mut self, place: Place, values: &Tensor<3>) {
        if let Some(observer) = &mut self.0 {
            observer(place, values);
        }
    }

    /// Values that all tokens of an item share.
    pub fn rows(&mut self, place: Place, values: &Tensor<2>) {
        if let Some(observer) = &mut self.0 {
            observer(place, &values.clone().unsqueeze_dim(1));
        }
    }
}
