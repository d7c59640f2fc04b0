use std::path::Path;

use burn::module::{Initializer, Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers::{RmsNormAffine, TorchLinear};
use crate::precision::compute_dtype;
use crate::weights::{LoadOptions, WeightError, Weights, load_module};

use super::block::{SanaBlock, SanaBlockConfig};
use super::config::{ConfigError, QkNorm, SanaTransformerConfig, parse, read_text};
use super::embed::{CaptionProjection, PatchEmbed, TimeEmbed};
use super::model::{F16Clamp, SanaTransformer, TextContext};
use super::trunk::{Conditions, Patches, Trunk};

/// Why a ControlNet cannot steer a transformer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlNetError {
    /// The two differ in a size that they have to share.
    #[error(
        "the ControlNet has {found} {what}, the transformer {expected}: it was made for another one"
    )]
    Differs {
        /// What is counted, such as `latent channels`.
        what: &'static str,
        /// The ControlNet's number.
        found: usize,
        /// The transformer's number.
        expected: usize,
    },
    /// It has as many blocks as the transformer or more, or none.
    #[error(
        "a ControlNet of {found} blocks for a transformer of {blocks}: it has fewer than the \
         transformer, and at least 1"
    )]
    Blocks {
        /// Blocks of the ControlNet.
        found: usize,
        /// Blocks of the transformer.
        blocks: usize,
    },
    /// The transformer embeds its guidance scale, which a ControlNet cannot.
    #[error(
        "this transformer (Sana-Sprint) has the guidance scale as an input, for which a ControlNet \
         has no embedding: use a checkpoint of Sana or SANA-1.5, or no ControlNet"
    )]
    EmbeddedGuidance,
}

/// Configuration of a [`SanaControlNet`], with the keys of the `config.json` of diffusers'
/// `SanaControlNetModel`. Keys it does not know are ignored; the defaults are the reference's.
///
/// The keys mean what they mean in [`SanaTransformerConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SanaControlNetConfig {
    /// Latent channels of the input and of the control picture.
    pub in_channels: usize,
    /// Latent channels of the transformer's output; without effect.
    pub out_channels: Option<usize>,
    /// Heads of the linear self-attention.
    pub num_attention_heads: usize,
    /// Channels of one of its heads.
    pub attention_head_dim: usize,
    /// Number of blocks: 7 in the released ones.
    pub num_layers: usize,
    /// Heads of the cross-attention.
    pub num_cross_attention_heads: usize,
    /// Channels of one of its heads.
    pub cross_attention_head_dim: usize,
    /// Channels of the projected caption: the width of the network.
    pub cross_attention_dim: usize,
    /// Channels of the text encoder's output.
    pub caption_channels: usize,
    /// Hidden channels of the feed-forward per channel.
    pub mlp_ratio: f64,
    /// Dropout in training; only 0 is implemented.
    pub dropout: f64,
    /// Whether the self-attention projections have a bias.
    pub attention_bias: bool,
    /// Latent size that the position table is made for.
    pub sample_size: usize,
    /// Latent pixels per token side.
    pub patch_size: usize,
    /// Learnt scale and shift in the block norms; only `false` is implemented.
    pub norm_elementwise_affine: bool,
    /// Added to the variance of the block norms.
    pub norm_eps: f64,
    /// Scale of the sin-cos position table; no table when absent.
    pub interpolation_scale: Option<f64>,
    /// Norm of queries and keys in both attentions, for ControlNets of SANA-1.5. The reference has
    /// no such key, and it is not written where there is no norm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_norm: Option<QkNorm>,
}

impl Default for SanaControlNetConfig {
    fn default() -> Self {
        Self::with_blocks_of(&SanaTransformerConfig::default(), 7)
    }
}

impl SanaControlNetConfig {
    /// That of the first `layers` blocks of a transformer.
    ///
    /// # Errors
    /// [`ControlNetError::Blocks`] unless `1 <= layers < blocks of the transformer`,
    /// [`ControlNetError::EmbeddedGuidance`] for a Sana-Sprint.
    pub fn of_transformer(
        transformer: &SanaTransformerConfig,
        layers: usize,
    ) -> Result<Self, ControlNetError> {
        let config = Self::with_blocks_of(transformer, layers);
        config.check_transformer(transformer)?;
        Ok(config)
    }

    fn with_blocks_of(transformer: &SanaTransformerConfig, layers: usize) -> Self {
        Self {
            in_channels: transformer.in_channels,
            out_channels: transformer.out_channels,
            num_attention_heads: transformer.num_attention_heads,
            attention_head_dim: transformer.attention_head_dim,
            num_layers: layers,
            num_cross_attention_heads: transformer.num_cross_attention_heads,
            cross_attention_head_dim: transformer.cross_attention_head_dim,
            cross_attention_dim: transformer.cross_attention_dim,
            caption_channels: transformer.caption_channels,
            mlp_ratio: transformer.mlp_ratio,
            dropout: transformer.dropout,
            attention_bias: transformer.attention_bias,
            sample_size: transformer.sample_size,
            patch_size: transformer.patch_size,
            norm_elementwise_affine: transformer.norm_elementwise_affine,
            norm_eps: transformer.norm_eps,
            interpolation_scale: transformer.interpolation_scale,
            qk_norm: transformer.qk_norm,
        }
    }

    /// A transformer whose blocks and embeddings are the ControlNet's.
    fn as_transformer(&self) -> SanaTransformerConfig {
        SanaTransformerConfig {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            num_attention_heads: self.num_attention_heads,
            attention_head_dim: self.attention_head_dim,
            num_layers: self.num_layers,
            num_cross_attention_heads: self.num_cross_attention_heads,
            cross_attention_head_dim: self.cross_attention_head_dim,
            cross_attention_dim: self.cross_attention_dim,
            caption_channels: self.caption_channels,
            mlp_ratio: self.mlp_ratio,
            dropout: self.dropout,
            attention_bias: self.attention_bias,
            sample_size: self.sample_size,
            patch_size: self.patch_size,
            norm_elementwise_affine: self.norm_elementwise_affine,
            norm_eps: self.norm_eps,
            interpolation_scale: self.interpolation_scale,
            qk_norm: self.qk_norm,
            guidance_embeds: false,
            ..SanaTransformerConfig::default()
        }
    }

    /// Reads and validates a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not such a config, or fails [`validate`](Self::validate).
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::from_json(&read_text(path)?, path)
    }

    /// Parses and validates the text of a `config.json`; `origin` names it in errors.
    ///
    /// # Errors
    /// When it is not such a config or fails [`validate`](Self::validate).
    pub fn from_json(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let config: Self = parse(text, origin)?;
        config.validate()?;
        Ok(config)
    }

    /// Channels of a token: heads times head_dim.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Checks that the values describe a network this crate implements.
    ///
    /// # Errors
    /// When they do not, with the values in the message.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.as_transformer()
            .validate()
            .map_err(|error| match error {
                ConfigError::Invalid(reason) => ConfigError::InvalidControlNet(reason),
                other => other,
            })
    }

    /// Checks that the ControlNet can steer a transformer: equal width, latent channels, caption
    /// channels and patch size, fewer blocks, and no embedded guidance.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check_transformer(
        &self,
        transformer: &SanaTransformerConfig,
    ) -> Result<(), ControlNetError> {
        if transformer.guidance_embeds {
            return Err(ControlNetError::EmbeddedGuidance);
        }
        let shared = [
            ("channels of a token", self.width(), transformer.width()),
            ("latent channels", self.in_channels, transformer.in_channels),
            (
                "caption channels",
                self.caption_channels,
                transformer.caption_channels,
            ),
            (
                "latent pixels along a token",
                self.patch_size,
                transformer.patch_size,
            ),
        ];
        for (what, found, expected) in shared {
            if found != expected {
                return Err(ControlNetError::Differs {
                    what,
                    found,
                    expected,
                });
            }
        }
        let (found, blocks) = (self.num_layers, transformer.num_layers);
        if found == 0 || found >= blocks {
            return Err(ControlNetError::Blocks { found, blocks });
        }
        Ok(())
    }

    /// Builds the network with lazily initialised weights: nothing is allocated before use. The
    /// projections in and out are zero.
    ///
    /// # Panics
    /// If the config was not validated and is impossible.
    pub fn init(&self, device: &Device) -> SanaControlNet {
        let width = self.width();
        let block = SanaBlockConfig::from(&self.as_transformer());
        let blocks = 0..self.num_layers;
        SanaControlNet {
            patch_embed: PatchEmbed::new(self.in_channels, width, self.patch_size, device),
            time_embed: TimeEmbed::new(width, false, device),
            caption_projection: CaptionProjection::new(self.caption_channels, width, device),
            caption_norm: RmsNormAffine::new(width, false, 1e-5, device),
            transformer_blocks: blocks.clone().map(|_| block.init(device)).collect(),
            input_block: zero_linear(width, device),
            controlnet_blocks: blocks.map(|_| zero_linear(width, device)).collect(),
            config: self.clone(),
        }
    }

    /// Builds the network from a checkpoint's weights.
    ///
    /// # Errors
    /// When the weights are not exactly those of this config.
    pub fn load(
        &self,
        weights: &Weights,
        dtype: Option<DType>,
        clamp: F16Clamp,
        device: &Device,
    ) -> Result<SanaControlNet, WeightError> {
        let options = LoadOptions {
            dtype,
            ..LoadOptions::default()
        };
        let model = load_module(self.init(device), weights, &options, device)?;
        let clamp = clamp.is_on(self.qk_norm.is_some(), weights, dtype);
        Ok(model.with_f16_clamp(clamp))
    }
}

fn zero_linear(width: usize, device: &Device) -> TorchLinear {
    TorchLinear {
        weight: Initializer::Zeros.init([width, width], device),
        bias: Some(Initializer::Zeros.init([width], device)),
        low_rank: Vec::new(),
    }
}

/// A ControlNet (Zhang et al., arXiv 2302.05543) of a [`SanaTransformer`]: a copy of its first
/// blocks that sees the latents of a control picture `c` too, and gives residuals that are added to
/// the transformer's tokens.
///
/// ```text
/// x_0        = patch_embed(latents) + W_in patch_embed(c) + b_in
/// x_{i+1}    = block_i(x_i, timestep, text)
/// residual_i = scale * (W_i x_{i+1} + b_i)
/// ```
///
/// with blocks and residuals counted from 0. Residual `i` is added to the output of the
/// transformer's block `i + 1`. Training starts with `W` and
/// `b` zero, so that a new ControlNet changes nothing. Position tables, where there are any, are
/// added to both embeddings.
///
/// The text goes through the ControlNet's own projection and has keys and values of its own.
#[derive(Module, Debug)]
pub struct SanaControlNet {
    patch_embed: PatchEmbed,
    time_embed: TimeEmbed,
    caption_projection: CaptionProjection,
    caption_norm: RmsNormAffine,
    transformer_blocks: Vec<SanaBlock>,
    input_block: TorchLinear,
    controlnet_blocks: Vec<TorchLinear>,
    #[module(skip)]
    config: SanaControlNetConfig,
}

impl SanaControlNet {
    /// The ControlNet that training starts from: copies of a transformer's embeddings and of its
    /// first `layers` blocks, with projections in and out that are zero. Low-rank terms that are
    /// kept beside the transformer's weights are not copied.
    ///
    /// # Errors
    /// As [`SanaControlNetConfig::of_transformer`].
    pub fn from_transformer(
        transformer: &SanaTransformer,
        layers: usize,
    ) -> Result<Self, ControlNetError> {
        let config = SanaControlNetConfig::of_transformer(transformer.config(), layers)?;
        let source = transformer.clone().without_low_rank();
        let device = source.proj_out.weight.lazy_device();
        let mut blocks = source.transformer_blocks;
        blocks.truncate(layers);
        let new = config.init(&device);
        let dtype = transformer.dtype();
        let copied = Self {
            patch_embed: source.patch_embed,
            time_embed: source.time_embed,
            caption_projection: source.caption_projection,
            caption_norm: source.caption_norm,
            transformer_blocks: blocks,
            ..new
        };
        Ok(copied.map(&mut Detached(dtype)))
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &SanaControlNetConfig {
        &self.config
    }

    /// Switches the limit on self-attention outputs; see [`F16Clamp`].
    pub fn with_f16_clamp(mut self, clamp: bool) -> Self {
        for block in &mut self.transformer_blocks {
            block.attn1 = block.attn1.clone().with_f16_clamp(clamp);
        }
        self
    }

    /// Dtype of the weights in memory.
    pub fn dtype(&self) -> DType {
        self.input_block.weight.val().dtype()
    }

    /// Dtype of the computation: what [`compute_dtype`] names for the weights where they are.
    pub fn compute_dtype(&self) -> DType {
        let weight = self.input_block.weight.val();
        compute_dtype(weight.dtype(), &weight.device())
    }

    /// What its blocks need of the text, once per prompt: not the transformer's.
    ///
    /// # Shapes
    /// - caption `[batch, text_tokens, caption_channels]`
    /// - mask `[batch, text_tokens]`, 1 keeps and 0 hides
    pub fn text_context(&self, caption: Tensor<3>, mask: Option<Tensor<2>>) -> TextContext {
        self.trunk().text_context(caption, mask)
    }

    /// The control picture as it is added to the tokens, once per picture.
    ///
    /// # Shapes
    /// - control `[batch, in, height, width]`, scaled latents of the picture
    /// - output `[batch, tokens, width]`
    pub fn condition(&self, control: Tensor<4>) -> Tensor<3> {
        self.input_block.forward(self.trunk().embed(control))
    }

    /// The residuals of one step, for [`SanaTransformer::controlled`].
    ///
    /// # Shapes
    /// - latents `[batch, in, height, width]`, as for the transformer
    /// - timestep `[batch]` in f32, as for the transformer
    /// - condition `[batch, tokens, width]` from [`condition`](Self::condition), or
    ///   `[1, tokens, width]` for all of the batch
    /// - output: for each block `[batch, tokens, width]`
    pub fn forward(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        text: &TextContext,
        condition: Tensor<3>,
        scale: f64,
    ) -> Vec<Tensor<3>> {
        let trunk = self.trunk();
        let grid = trunk.grid(&latents);
        let x = trunk.embed(latents) + condition;
        let (_, modulation) = self.time_embed.forward(timestep, None);
        let conditions = Conditions {
            modulation,
            text,
            grid,
            perturbed: &[],
            residuals: &[],
        };
        let mut residuals = Vec::with_capacity(self.controlnet_blocks.len());
        trunk.run_blocks(0..trunk.blocks.len(), x, &conditions, |index, tokens| {
            // Index 0 would be the tokens before the first block.
            let projection = &self.controlnet_blocks[index - 1];
            residuals.push(projection.forward(tokens.clone()) * scale);
        });
        residuals
    }

    fn trunk(&self) -> Trunk<'_> {
        Trunk {
            patch_embed: &self.patch_embed,
            caption_projection: &self.caption_projection,
            caption_norm: &self.caption_norm,
            blocks: &self.transformer_blocks,
            patches: Patches {
                width: self.config.width(),
                size: self.config.patch_size,
                sample_size: self.config.sample_size,
                interpolation_scale: self.config.interpolation_scale,
            },
            dtype: self.compute_dtype(),
        }
    }
}

/// Makes parameters of their own, in one dtype, of those that a clone shares with its source.
struct Detached(DType);

impl ModuleMapper for Detached {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        Param::from_tensor(param.val().cast(self.0).detach())
    }
}
