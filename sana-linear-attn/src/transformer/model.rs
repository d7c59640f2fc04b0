use std::ops::Range;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::cross_attention::{TextKeysValues, mask_bias};
use crate::kernels::norm_modulate;
use crate::linear::TorchLinear;
use crate::linear_attention::LinearAttention;
use crate::norm::RmsNormAffine;
use crate::weights::{LoadOptions, WeightError, Weights, load_module};

use super::block::{Attend, SanaBlock, SanaBlockConfig};
use super::config::SanaTransformerConfig;
use super::embed::{CaptionProjection, PatchEmbed, TimeEmbed, sin_cos_positions};
use super::perturbed::{PerturbedBlocks, PerturbedOutput};

/// Whether self-attention outputs are limited to the range of f16.
///
/// Checkpoints trained in f16 without qk norm have activations beyond that range and were trained
/// with the limit, so they need it whatever the compute dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum F16Clamp {
    /// On for a model without qk norm whose weights, or whose compute dtype, are f16.
    #[default]
    Auto,
    /// Always on.
    On,
    /// Always off.
    Off,
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
    ) -> Result<SanaTransformer, WeightError> {
        let options = LoadOptions {
            dtype,
            ..LoadOptions::default()
        };
        let model = load_module(self.init(device), weights, &options, device)?;
        let clamp = match clamp {
            F16Clamp::On => true,
            F16Clamp::Off => false,
            F16Clamp::Auto => {
                let f16_weights = weights.dtypes().contains_key("f16");
                self.qk_norm.is_none() && (f16_weights || dtype == Some(DType::F16))
            }
        };
        Ok(model.with_f16_clamp(clamp))
    }
}

/// Everything of the prompt that does not change between steps: every block's cross-attention
/// keys and values, and the mask.
#[derive(Debug, Clone)]
pub struct TextContext {
    blocks: Vec<TextKeysValues>,
    bias: Option<Tensor<4>>,
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

/// What every block is given beside the tokens.
struct Conditions<'a> {
    /// `[batch, 6 * width]`, made of the timestep.
    modulation: Tensor<2>,
    text: &'a TextContext,
    /// Height and width in tokens.
    grid: [usize; 2],
    /// The blocks whose self-attention is the identity.
    perturbed: &'a [usize],
}

/// Sana's diffusion transformer: latents and a timestep to the velocity of the flow, given a text.
///
/// Tokens are latent patches; the sequence stays `[batch, tokens, channels]` from the patch
/// embedding to the output projection.
#[derive(Module, Debug)]
pub struct SanaTransformer {
    patch_embed: PatchEmbed,
    pub(super) time_embed: TimeEmbed,
    pub(super) caption_projection: CaptionProjection,
    caption_norm: RmsNormAffine,
    pub(super) transformer_blocks: Vec<SanaBlock>,
    scale_shift_table: Param<Tensor<2>>,
    pub(super) proj_out: TorchLinear,
    #[module(skip)]
    config: SanaTransformerConfig,
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

    /// Dtype of the weights, which is the dtype of the computation.
    pub fn dtype(&self) -> DType {
        self.proj_out.weight.val().dtype()
    }

    /// Projects and norms the text embeddings.
    ///
    /// # Shapes
    /// - caption `[batch, text_tokens, caption_channels]`
    /// - output `[batch, text_tokens, width]`
    pub fn project_caption(&self, caption: Tensor<3>) -> Tensor<3> {
        let caption = caption.cast(self.dtype());
        self.caption_norm
            .forward(self.caption_projection.forward(caption))
    }

    /// What the blocks need of the text, once per prompt.
    ///
    /// # Shapes
    /// - caption `[batch, text_tokens, caption_channels]`
    /// - mask `[batch, text_tokens]`, 1 keeps and 0 hides
    pub fn text_context(&self, caption: Tensor<3>, mask: Option<Tensor<2>>) -> TextContext {
        let caption = self.project_caption(caption);
        TextContext {
            blocks: self
                .transformer_blocks
                .iter()
                .map(|block| block.attn2.keys_values(caption.clone()))
                .collect(),
            bias: mask.map(mask_bias),
        }
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
        mut observe: impl FnMut(usize, &Tensor<3>),
    ) -> Tensor<4> {
        let grid = self.grid(&latents);
        let x = self.embed(latents, grid);
        observe(0, &x);
        let (embedding, modulation) = self.time_embed.forward(timestep, guidance);
        let conditions = Conditions {
            modulation,
            text,
            grid,
            perturbed: &[],
        };
        let blocks = 0..self.transformer_blocks.len();
        let x = self.run_blocks(blocks, x, &conditions, observe);
        self.output(x, embedding, grid)
    }

    /// [`forward`](Self::forward), and beside it the output of the last items of the batch with
    /// perturbed attention: in the given blocks every token attends to itself alone
    /// ([`LinearAttention::forward_identity`]). How many items that are, `perturbed_text` tells.
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
        let [batch, _, _, _] = latents.dims();
        let items = perturbed_text.batch();
        assert!(
            items <= batch,
            "{items} perturbed items of a batch of {batch}"
        );
        let start = batch - items;
        let grid = self.grid(&latents);
        let x = self.embed(latents, grid);
        let (embedding, modulation) = self.time_embed.forward(timestep, guidance);
        let conditions = Conditions {
            modulation: modulation.clone(),
            text,
            grid,
            perturbed: &[],
        };
        let perturbed_conditions = Conditions {
            modulation: modulation.narrow(0, start, items),
            text: perturbed_text,
            grid,
            perturbed: blocks.indices(),
        };
        let (first, all) = (blocks.first(), self.transformer_blocks.len());
        let x = self.run_blocks(0..first, x, &conditions, |_, _| {});
        let perturbed = x.clone().narrow(0, start, items);
        let perturbed = self.run_blocks(first..all, perturbed, &perturbed_conditions, |_, _| {});
        let x = self.run_blocks(first..all, x, &conditions, |_, _| {});
        PerturbedOutput {
            output: self.output(x, embedding.clone(), grid),
            perturbed: self.output(perturbed, embedding.narrow(0, start, items), grid),
        }
    }

    /// Height and width in tokens.
    fn grid(&self, latents: &Tensor<4>) -> [usize; 2] {
        let patch = self.config.patch_size;
        let [_, _, height, width] = latents.dims();
        [height / patch, width / patch]
    }

    /// Latents to tokens with their positions.
    fn embed(&self, latents: Tensor<4>, grid: [usize; 2]) -> Tensor<3> {
        let x = self.patch_embed.forward(latents.cast(self.dtype()));
        match self.positions(grid, &x.device()) {
            Some(positions) => x + positions,
            None => x,
        }
    }

    /// Some of the blocks, one after the other; `observe(index + 1, tokens)` after each.
    fn run_blocks(
        &self,
        indices: Range<usize>,
        mut x: Tensor<3>,
        conditions: &Conditions<'_>,
        mut observe: impl FnMut(usize, &Tensor<3>),
    ) -> Tensor<3> {
        let text = conditions.text;
        for index in indices {
            let attend: Attend = if conditions.perturbed.contains(&index) {
                LinearAttention::forward_identity
            } else {
                LinearAttention::forward
            };
            x = self.transformer_blocks[index].forward_with(
                attend,
                x,
                conditions.modulation.clone(),
                &text.blocks[index],
                text.bias.as_ref(),
                conditions.grid,
            );
            observe(index + 1, &x);
        }
        x
    }

    /// Tokens after the last block to the velocity, in f32.
    fn output(&self, x: Tensor<3>, embedding: Tensor<2>, grid: [usize; 2]) -> Tensor<4> {
        self.unpatchify(self.project_out(x, embedding), grid)
            .cast(DType::F32)
    }

    /// Final norm, modulated by the timestep's embedding, and projection to latent patches.
    fn project_out(&self, x: Tensor<3>, embedding: Tensor<2>) -> Tensor<3> {
        let table = self.scale_shift_table.val().unsqueeze::<3>(); // [1, 2, width]
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

    /// The position table `[1, tokens, width]` of models that have one.
    fn positions(&self, [height, width]: [usize; 2], device: &Device) -> Option<Tensor<3>> {
        let scale = self.config.interpolation_scale?;
        let channels = self.config.width();
        let base = self.config.sample_size / self.config.patch_size;
        let table = sin_cos_positions(channels, height, width, base, scale);
        let data = TensorData::new(table, [1, height * width, channels]);
        Some(Tensor::from_data(data, (device, self.dtype())))
    }
}
