//! What the transformer and the ControlNet have in common: embeddings, blocks, and the way through
//! them.

mod block;
mod embed;

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor};

use crate::layers::{LinearAttention, RmsNormAffine, mask_bias};

use super::config::SanaTransformerConfig;
use super::input::{
    BlockPart, ControlWiring, Observe, Place, PositionScale, Positions, TextContext,
};

use block::{Attend, BlockConditions};

pub use block::{SanaBlock, SanaBlockConfig};
pub use embed::{CaptionProjection, PatchEmbed, SinusoidMlp, TimeEmbed};

/// What a transformer and a ControlNet have in common: latents and texts become tokens, and the
/// blocks run on them.
pub(in crate::transformer) struct Trunk<'a> {
    pub patch_embed: &'a PatchEmbed,
    pub caption_projection: &'a CaptionProjection,
    pub caption_norm: &'a RmsNormAffine,
    pub blocks: &'a [SanaBlock],
    pub patches: Patches,
    /// Dtype of the computation.
    pub dtype: DType,
}

/// How latents are cut into tokens, and where these are.
#[derive(Debug, Clone, Copy)]
pub(in crate::transformer) struct Patches {
    /// Channels of a token.
    pub width: usize,
    /// Latent pixels per token side.
    pub size: usize,
    /// Latent size that positions are made for.
    pub sample_size: usize,
    /// Scale of the positions, for networks that add them.
    pub interpolation_scale: Option<f64>,
}

impl Patches {
    pub fn of(config: &SanaTransformerConfig) -> Self {
        Self {
            width: config.width(),
            size: config.patch_size,
            sample_size: config.sample_size,
            interpolation_scale: config.interpolation_scale,
        }
    }
}

/// What every block is given next to the tokens.
pub(in crate::transformer) struct Conditions<'a> {
    /// `[batch, 6 * width]`, made of the timestep.
    pub modulation: Tensor<2>,
    pub context: &'a TextContext,
    /// Height and width in tokens.
    pub grid: [usize; 2],
    /// The blocks whose self-attention is the identity.
    pub perturbed: &'a [usize],
    /// Residual `i`, `[batch, tokens, width]`, belongs to block `i + 1`: to its output, or to its
    /// input with the original wiring.
    pub residuals: &'a [Tensor<3>],
    pub wiring: ControlWiring,
}

impl Trunk<'_> {
    /// Projects and norms text embeddings.
    pub fn project_caption(&self, caption: Tensor<3>) -> Tensor<3> {
        let caption = caption.cast(self.dtype);
        self.caption_norm
            .forward(self.caption_projection.forward(caption))
    }

    /// What the blocks need of the text.
    pub fn text_context(&self, caption: Tensor<3>, mask: Option<Tensor<2>>) -> TextContext {
        let caption = self.project_caption(caption);
        TextContext {
            blocks: self
                .blocks
                .iter()
                .map(|block| block.attn2.keys_values(caption.clone()))
                .collect(),
            bias: mask.map(mask_bias),
        }
    }

    /// Height and width in tokens.
    pub fn grid(&self, latents: &Tensor<4>) -> [usize; 2] {
        let [_, _, height, width] = latents.dims();
        [height / self.patches.size, width / self.patches.size]
    }

    /// Latents to tokens with their positions, which are made where they are needed and not given.
    pub fn embed(&self, latents: Tensor<4>, positions: Option<&Positions>) -> Tensor<3> {
        let grid = self.grid(&latents);
        let x = self.patch_embed.forward(latents.cast(self.dtype));
        if self.patches.interpolation_scale.is_none() {
            return x;
        }
        let made = match positions {
            Some(_) => None,
            None => self.positions(grid, &x.device()),
        };
        match positions.or(made.as_ref()) {
            Some(positions) => positions.add_to(x),
            None => x,
        }
    }

    /// Some of the blocks, one after the other.
    pub fn run_blocks(
        &self,
        indices: Range<usize>,
        mut x: Tensor<3>,
        conditions: &Conditions<'_>,
        observe: &mut Observe<'_>,
    ) -> Tensor<3> {
        let context = conditions.context;
        for index in indices {
            let attend: Attend = if conditions.perturbed.contains(&index) {
                LinearAttention::forward_identity
            } else {
                LinearAttention::forward
            };
            let place = |part| Place::Block { index, part };
            let block_conditions = BlockConditions {
                modulation: conditions.modulation.clone(),
                text: &context.blocks[index],
                text_bias: context.bias.as_ref(),
                grid: conditions.grid,
            };
            let before = index.checked_sub(1);
            let residual = before.and_then(|before| conditions.residuals.get(before));
            let add = |x: Tensor<3>, observe: &mut Observe<'_>| match residual {
                Some(residual) => {
                    let residual = residual.clone().cast(x.dtype());
                    let x = x + residual;
                    observe.tokens(place(BlockPart::ControlResidual), &x);
                    x
                }
                None => x,
            };
            if conditions.wiring == ControlWiring::Original {
                x = add(x, observe);
            }
            x = self.blocks[index].forward_with(attend, x, block_conditions, |part, values| {
                observe.tokens(place(part), values);
            });
            if conditions.wiring == ControlWiring::Diffusers {
                x = add(x, observe);
            }
        }
        x
    }

    /// The positions of a grid's tokens, of networks that have them.
    pub fn positions(&self, grid: [usize; 2], device: &Device) -> Option<Positions> {
        let Patches {
            width,
            size,
            sample_size,
            interpolation_scale,
        } = self.patches;
        let scale = PositionScale {
            base_size: sample_size / size,
            interpolation: interpolation_scale?,
        };
        Some(Positions::new(width, grid, scale, device, self.dtype))
    }
}
