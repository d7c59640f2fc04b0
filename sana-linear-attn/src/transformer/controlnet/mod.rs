//! ControlNets of a transformer.

mod config;
mod error;

use burn::module::{Initializer, Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::kernels::cast;
use crate::layers::{LinearLayers, RmsNormAffine, TorchLinear};
use crate::precision::{Bf16Gemm, compute_dtype};
use crate::weights::{LoadOptions, WeightError, Weights, check_module, load_module};

use super::checkpoint::{F16Clamp, without_prefix};
use super::input::{
    BlockPart, ControlInput, ControlWiring, Observe, Place, Positions, TextContext,
};
use super::model::SanaTransformer;
use super::trunk::{
    CaptionProjection, Conditions, PatchEmbed, Patches, SanaBlock, SanaBlockConfig, TimeEmbed,
    Trunk,
};

pub use config::SanaControlNetConfig;
pub use error::ControlNetError;

impl SanaControlNetConfig {
    /// Builds the network with lazily initialised weights: nothing is allocated before use. The
    /// projections in and out are zero.
    ///
    /// # Panics
    /// If the config was not validated and is impossible.
    pub fn init(&self, device: &Device) -> SanaControlNet {
        let config = &self.transformer;
        let width = config.width();
        let block = SanaBlockConfig::from(config);
        let blocks = 0..config.num_layers;
        SanaControlNet {
            patch_embed: PatchEmbed::new(config.in_channels, width, config.patch_size, device),
            time_embed: TimeEmbed::new(width, false, device),
            caption_projection: CaptionProjection::new(config.caption_channels, width, device),
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
        let named = without_prefix(weights);
        let model = load_module(self.init(device), &named, &options, device)?;
        let clamp = clamp.is_on(self.transformer.qk_norm.is_some(), weights, dtype);
        Ok(model.with_f16_clamp(clamp))
    }

    /// Checks by the headers alone that [`load`](Self::load) can load these weights. The device is
    /// asked for nothing but the shapes of parameters.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check(&self, weights: &Weights, device: &Device) -> Result<(), WeightError> {
        let named = without_prefix(weights);
        check_module(&self.init(device), &named, &LoadOptions::default())
    }
}

fn zero_linear(width: usize, device: &Device) -> TorchLinear {
    TorchLinear {
        weight: Initializer::Zeros.init([width, width], device),
        bias: Some(Initializer::Zeros.init([width], device)),
        low_rank: Vec::new(),
        quantized: None,
        bf16_gemm: Bf16Gemm::default(),
    }
}

/// A ControlNet (Zhang et al., arXiv 2302.05543) of a [`SanaTransformer`]: a copy of its first
/// blocks that sees the latents of a control image `c` too, and gives residuals that are added to
/// the transformer's tokens.
///
/// ```text
/// x_0        = patch_embed(latents) + W_in patch_embed(c) + b_in
/// x_{i+1}    = block_i(x_i, timestep, text)
/// residual_i = scale * (W_i x_{i+1} + b_i)
/// ```
///
/// with blocks and residuals counted from 0. Residual `i` is added to the output of the
/// transformer's block `i + 1`. With the [original wiring](ControlWiring::Original) the output of the
/// transformer's block 0 takes the place of `patch_embed(latents)`, and residual `i` is added to the
/// input of block `i + 1`. Training starts with `W` and
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

impl LinearLayers for SanaControlNet {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.time_embed.set_bf16_gemm(gemm);
        self.caption_projection.set_bf16_gemm(gemm);
        self.transformer_blocks.set_bf16_gemm(gemm);
        self.input_block.set_bf16_gemm(gemm);
        self.controlnet_blocks.set_bf16_gemm(gemm);
    }
}

impl SanaControlNet {
    /// The ControlNet that training starts from: copies of a transformer's embeddings and of its
    /// first `layers` blocks, with projections in and out that are zero. Unmerged low-rank terms are
    /// not copied.
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

    /// Chooses how linear layers multiply f32 rows by bf16 weights on the CPU.
    pub fn with_bf16_gemm(mut self, gemm: Bf16Gemm) -> Self {
        self.set_bf16_gemm(gemm);
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

    /// The positions of the tokens of latents `[height, width]`: see
    /// [`SanaTransformer::positions`].
    pub fn positions(&self, [height, width]: [usize; 2], device: &Device) -> Option<Positions> {
        let patch = self.config.transformer.patch_size;
        self.trunk()
            .positions([height / patch, width / patch], device)
    }

    /// The control image as it is added to the tokens, once per image.
    ///
    /// # Shapes
    /// - control `[batch, in, height, width]`, scaled latents of the image
    /// - output `[batch, tokens, width]`
    pub fn condition(&self, control: Tensor<4>) -> Tensor<3> {
        self.input_block.forward(self.trunk().embed(control, None))
    }

    /// The residuals of one step, for [`TransformerInput::with_residuals`](super::TransformerInput::with_residuals),
    /// with [diffusers' wiring](ControlWiring::Diffusers).
    ///
    /// # Shapes
    /// - latents `[batch, in, height, width]`, as for the transformer
    /// - output: for each block `[batch, tokens, width]`
    pub fn forward(&self, latents: Tensor<4>, input: ControlInput<'_>) -> Vec<Tensor<3>> {
        let trunk = self.trunk();
        let grid = trunk.grid(&latents);
        self.residuals(trunk.embed(latents, input.positions), grid, input)
    }

    /// The residuals of one step with the [original wiring](ControlWiring::Original), for
    /// [`TransformerInput::with_residuals_from`](super::TransformerInput::with_residuals_from).
    ///
    /// # Shapes
    /// - tokens `[batch, tokens, width]` after the transformer's block 0
    /// - grid: height and width in tokens
    /// - output: for each block `[batch, tokens, width]`
    pub fn forward_from_tokens(
        &self,
        tokens: Tensor<3>,
        grid: [usize; 2],
        input: ControlInput<'_>,
    ) -> Vec<Tensor<3>> {
        self.residuals(cast(tokens, self.compute_dtype()), grid, input)
    }

    fn residuals(
        &self,
        tokens: Tensor<3>,
        grid: [usize; 2],
        input: ControlInput<'_>,
    ) -> Vec<Tensor<3>> {
        let ControlInput {
            timestep,
            context,
            condition,
            scale,
            ..
        } = input;
        let trunk = self.trunk();
        let x = tokens + condition;
        let (_, modulation) = self.time_embed.forward(timestep, None);
        let conditions = Conditions {
            modulation,
            context,
            grid,
            perturbed: &[],
            residuals: &[],
            wiring: ControlWiring::Diffusers,
        };
        let mut residuals = Vec::with_capacity(self.controlnet_blocks.len());
        let mut collect = |place, tokens: &Tensor<3>| {
            if let Place::Block { index, part } = place
                && part == BlockPart::FeedForward
            {
                let projection = &self.controlnet_blocks[index];
                residuals.push(projection.forward(tokens.clone()) * scale);
            }
        };
        let mut observe = Observe(Some(&mut collect));
        trunk.run_blocks(0..trunk.blocks.len(), x, &conditions, &mut observe);
        residuals
    }

    fn trunk(&self) -> Trunk<'_> {
        Trunk {
            patch_embed: &self.patch_embed,
            caption_projection: &self.caption_projection,
            caption_norm: &self.caption_norm,
            blocks: &self.transformer_blocks,
            patches: Patches::of(&self.config.transformer),
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
