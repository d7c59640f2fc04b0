use std::ops::Range;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::kernels::{cast, norm_modulate};
use crate::layers::{RmsNormAffine, TextKeysValues, TorchLinear};
use crate::precision::compute_dtype;
use crate::weights::{LoadOptions, WeightError, Weights, load_module};

use super::block::{SanaBlock, SanaBlockConfig};
use super::config::SanaTransformerConfig;
use super::controlled::ControlledTransformer;
use super::embed::{CaptionProjection, PatchEmbed, TimeEmbed};
use super::original::OriginalLayout;
use super::perturbed::{PerturbedBlocks, PerturbedOutput};
use super::trunk::{Patches, Trunk};

/// Whether self-attention outputs are limited to the range of f16.
///
/// Checkpoints trained in f16 without qk norm have activations beyond that range and were trained
/// with the limit, so they need it whatever the compute dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum F16Clamp {
    /// On for a model without qk norm whose weights are f16, in the file or in memory.
    #[default]
    Auto,
    /// Always on.
    On,
    /// Always off.
    Off,
}

impl F16Clamp {
    /// Whether the limit is on for a network of these weights.
    pub(super) fn is_on(self, qk_norm: bool, weights: &Weights, dtype: Option<DType>) -> bool {
        match self {
            Self::On => true,
            Self::Off => false,
            Self::Auto => {
                let f16_weights = weights.dtypes().contains_key("f16");
                !qk_norm && (f16_weights || dtype == Some(DType::F16))
            }
        }
    }
}

impl SanaTransformerConfig {
    /// Builds the network with lazily initialised weights: nothing is allocated before use.
    ///
    /// # Panics
    /// If the config was not validated and is impossible.
    pub fn init(&self, device: &Device) -> SanaTransformer {
        let width = self.width();
        let block = SanaBlockConfig::from(self);
        let patch = self.patch_size;
        SanaTransformer {
            patch_embed: PatchEmbed::new(self.in_channels, width, patch, device),
            time_embed: TimeEmbed::new(width, self.guidance_embeds, device),
            caption_projection: CaptionProjection::new(self.caption_channels, width, device),
            caption_norm: RmsNormAffine::new(width, false, 1e-5, device),
            transformer_blocks: (0..self.num_layers).map(|_| block.init(device)).collect(),
            scale_shift_table: Initializer::Normal {
                mean: 0.0,
                std: 1.0 / (width as f64).sqrt(),
            }
            .init([2, width], device),
            proj_out: TorchLinear::new(width, patch * patch * self.output_channels(), true, device),
            config: self.clone(),
            compute: None,
        }
    }

    /// Builds the network from a checkpoint's weights, in the published layout or the
    /// [original](super::OriginalLayout) one, `dtype` in memory, the file's own where `None`. It
    /// computes in the dtype that [`compute_dtype`] names for them.
    ///
    /// # Errors
    /// When the weights are not exactly those of this config, listed by the names of the file.
    pub fn load(
        &self,
        weights: &Weights,
        dtype: Option<DType>,
        clamp: F16Clamp,
        device: &Device,
    ) -> Result<SanaTransformer, WeightError> {
        let options = LoadOptions {
            dtype,
            ..LoadOptions::default()
        };
        let model = self.init(device);
        let original = OriginalLayout::of(weights);
        let renamed = original.map(|layout| layout.published(weights, &model));
        let renamed = renamed.transpose()?;
        let model = load_module(model, renamed.as_ref().unwrap_or(weights), &options, device)?;
        let clamp = clamp.is_on(self.qk_norm.is_some(), weights, dtype);
        Ok(model.with_f16_clamp(clamp))
    }
}

/// Everything of the prompt that does not change between steps: every block's cross-attention
/// keys and values, and the mask.
#[derive(Debug, Clone)]
pub struct TextContext {
    pub(super) blocks: Vec<TextKeysValues>,
    pub(super) bias: Option<Tensor<4>>,
}

impl TextContext {
    /// Number of texts.
    pub fn batch(&self) -> usize {
        self.blocks.first().map_or(0, TextKeysValues::batch)
    }

    /// That of some of the texts, without computing anything again.
    ///
    /// # Panics
    /// If the range is empty or goes beyond the last text.
    pub fn items(&self, range: Range<usize>) -> Self {
        let (first, count) = (range.start, range.len());
        let blocks = self.blocks.iter();
        Self {
            blocks: blocks.map(|text| text.items(first, count)).collect(),
            bias: self
                .bias
                .as_ref()
                .map(|bias| bias.clone().narrow(0, first, count)),
        }
    }
}

/// Sana's diffusion transformer: latents and a timestep to the velocity of the flow, given a text.
///
/// Tokens are latent patches; the sequence stays `[batch, tokens, channels]` from the patch
/// embedding to the output projection.
#[derive(Module, Debug)]
pub struct SanaTransformer {
    pub(super) patch_embed: PatchEmbed,
    pub(super) time_embed: TimeEmbed,
    pub(super) caption_projection: CaptionProjection,
    pub(super) caption_norm: RmsNormAffine,
    pub(super) transformer_blocks: Vec<SanaBlock>,
    scale_shift_table: Param<Tensor<2>>,
    pub(super) proj_out: TorchLinear,
    #[module(skip)]
    config: SanaTransformerConfig,
    #[module(skip)]
    compute: Option<DType>,
}

impl SanaTransformer {
    /// The configuration it was built from.
    pub fn config(&self) -> &SanaTransformerConfig {
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
        self.proj_out.weight.val().dtype()
    }

    /// Dtype of the computation: see [`precision`](crate::precision). That of
    /// [`with_compute_dtype`](Self::with_compute_dtype), or else what [`compute_dtype`] names for
    /// the weights where they are.
    pub fn compute_dtype(&self) -> DType {
        let weight = self.proj_out.weight.val();
        self.compute
            .unwrap_or_else(|| compute_dtype(weight.dtype(), &weight.device()))
    }

    /// Computes in this dtype, f32, f16 or bf16, whatever the weights are.
    pub fn with_compute_dtype(mut self, dtype: DType) -> Self {
        self.compute = Some(dtype);
        self
    }

    /// Projects and norms the text embeddings.
    ///
    /// # Shapes
    /// - caption `[batch, text_tokens, caption_channels]`
    /// - output `[batch, text_tokens, width]`
    pub fn project_caption(&self, caption: Tensor<3>) -> Tensor<3> {
        self.trunk().project_caption(caption)
    }

    /// What the blocks need of the text, once per prompt.
    ///
    /// # Shapes
    /// - caption `[batch, text_tokens, caption_channels]`
    /// - mask `[batch, text_tokens]`, 1 keeps and 0 hides
    pub fn text_context(&self, caption: Tensor<3>, mask: Option<Tensor<2>>) -> TextContext {
        self.trunk().text_context(caption, mask)
    }

    /// The transformer with the residuals of a [`SanaControlNet`](super::SanaControlNet) at one
    /// step. None at all is the transformer as it is.
    ///
    /// # Shapes
    /// - residuals `[batch, tokens, width]`, of the batch that the forward is called with
    ///
    /// # Panics
    /// If there are residuals for more blocks than all but the first.
    pub fn controlled<'a>(&'a self, residuals: &'a [Tensor<3>]) -> ControlledTransformer<'a> {
        ControlledTransformer::new(self, residuals)
    }

    /// The network's output: the velocity of the flow, in f32.
    ///
    /// # Shapes
    /// - latents `[batch, in, height, width]`, height and width divisible by the patch size
    /// - timestep `[batch]` in f32: 1000 sigma for flow models, t in [0, 1] for Sprint
    /// - guidance `[batch]` in f32, already multiplied by `guidance_embeds_scale`; only for models
    ///   that embed it
    /// - output `[batch, out, height, width]`
    pub fn forward(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        text: &TextContext,
    ) -> Tensor<4> {
        self.forward_observed(latents, timestep, guidance, text, |_, _| {})
    }

    /// [`forward`](Self::forward) with a look at the tokens after the patch embedding (index 0)
    /// and after every block (from 1): `observe(index, tokens)`.
    pub fn forward_observed(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        text: &TextContext,
        observe: impl FnMut(usize, &Tensor<3>),
    ) -> Tensor<4> {
        self.controlled(&[])
            .forward_observed(latents, timestep, guidance, text, observe)
    }

    /// [`forward`](Self::forward), and beside it the output of the last items of the batch with
    /// perturbed attention: in the given blocks every token attends to itself alone
    /// ([`LinearAttention::forward_identity`](crate::LinearAttention::forward_identity)). How many
    /// items that are, `perturbed_text` tells.
    ///
    /// The blocks before the first perturbed one run once for both. The others run with their own
    /// attention, query and key norm included, for `output`.
    ///
    /// # Shapes
    /// - inputs as for [`forward`](Self::forward)
    /// - `perturbed_text` of the last `n <= batch` items of `text`, as [`TextContext::items`]
    ///   gives it
    /// - output `[batch, out, height, width]`, perturbed `[n, out, height, width]`
    ///
    /// # Panics
    /// If `perturbed_text` has more items than the batch, or `blocks` were chosen for a network of
    /// more blocks.
    pub fn forward_perturbed(
        &self,
        latents: Tensor<4>,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
        text: &TextContext,
        blocks: &PerturbedBlocks,
        perturbed_text: &TextContext,
    ) -> PerturbedOutput {
        self.controlled(&[]).forward_perturbed(
            latents,
            timestep,
            guidance,
            text,
            blocks,
            perturbed_text,
        )
    }

    pub(super) fn trunk(&self) -> Trunk<'_> {
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

    /// The timestep's embedding and the modulation made of it.
    pub(super) fn embed_time(
        &self,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
    ) -> (Tensor<2>, Tensor<2>) {
        self.time_embed
            .forward_in(self.compute_dtype(), timestep, guidance)
    }

    /// Tokens after the last block to the velocity, in f32.
    pub(super) fn output(&self, x: Tensor<3>, embedding: Tensor<2>, grid: [usize; 2]) -> Tensor<4> {
        self.unpatchify(self.project_out(x, embedding), grid)
            .cast(DType::F32)
    }

    /// Final norm, modulated by the timestep's embedding, and projection to latent patches.
    fn project_out(&self, x: Tensor<3>, embedding: Tensor<2>) -> Tensor<3> {
        let table = cast(self.scale_shift_table.val(), embedding.dtype());
        let table = table.unsqueeze::<3>(); // [1, 2, width]
        let modulation = table + embedding.unsqueeze_dim::<3>(1); // [batch, 2, width]
        let shift = modulation.clone().narrow(1, 0, 1);
        let scale = modulation.narrow(1, 1, 1);
        self.proj_out.forward(norm_modulate(x, scale, shift, 1e-6))
    }

    fn unpatchify(&self, x: Tensor<3>, [height, width]: [usize; 2]) -> Tensor<4> {
        let [batch, _, _] = x.dims();
        let patch = self.config.patch_size;
        let channels = self.config.output_channels();
        x.reshape([batch, height, width, patch, patch, channels])
            .permute([0, 5, 1, 3, 2, 4]) // [batch, channels, height, patch, width, patch]
            .reshape([batch, channels, height * patch, width * patch])
    }
}
