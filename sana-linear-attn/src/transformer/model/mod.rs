mod non_finite;
mod quantized;

use std::borrow::Cow;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};

use crate::kernels::{cast, norm_modulate};
use crate::layers::{LinearLayers, RmsNormAffine, TorchLinear};
use crate::precision::{Bf16Gemm, compute_dtype};
use crate::weights::{KeyMap, LoadOptions, WeightError, Weights, check_module, load_module};

use super::checkpoint::{F16Clamp, LOSS_WEIGHTING, NunchakuLayout, OriginalLayout, without_prefix};
use super::config::SanaTransformerConfig;
use super::input::{
    ControlWiring, Observe, Perturbed, Place, Positions, Residuals, TextContext, TransformerInput,
    TransformerOutput,
};
use super::trunk::{
    CaptionProjection, Conditions, PatchEmbed, Patches, SanaBlock, SanaBlockConfig, TimeEmbed,
    Trunk,
};

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

    /// Builds the network from a checkpoint's weights, in the published layout, the
    /// [original](super::OriginalLayout) one or that of [nunchaku](super::NunchakuLayout), `dtype` in memory, the file's own where `None`. It
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
            ..PUBLISHED_OPTIONS
        };
        let model = self.init(device);
        let published = published(weights, &model)?;
        let model = load_module(model, &published, &options, device)?;
        let clamp = clamp.is_on(self.qk_norm.is_some(), weights, dtype);
        Ok(model.with_f16_clamp(clamp))
    }

    /// Checks by the headers alone that [`load`](Self::load) can load these weights. The device is
    /// asked for nothing but the shapes of parameters.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn check(&self, weights: &Weights, device: &Device) -> Result<(), WeightError> {
        checked(weights, &self.init(device)).map(drop)
    }
}

/// How weights under the names of the published layout are read. The loss weighting of
/// Sana-Sprint's training is of no use for inference.
pub(in crate::transformer) const PUBLISHED_OPTIONS: LoadOptions = LoadOptions {
    dtype: None,
    key_map: KeyMap(&[]),
    strip_prefix: "",
    ignore: &LOSS_WEIGHTING,
};

/// The weights under the names of the published layout, whichever layout they are in.
pub(in crate::transformer) fn published<'a>(
    weights: &'a Weights,
    model: &SanaTransformer,
) -> Result<Cow<'a, Weights>, WeightError> {
    if let Some(layout) = NunchakuLayout::of(weights) {
        let published = layout.published(weights, model.config(), model);
        return published.map(Cow::Owned);
    }
    match OriginalLayout::of(weights) {
        Some(layout) => layout.published(weights, model).map(Cow::Owned),
        None => Ok(without_prefix(weights)),
    }
}

/// [`published`], once its headers are those of the model.
///
/// # Errors
/// When they are not.
pub(in crate::transformer) fn checked<'a>(
    weights: &'a Weights,
    model: &SanaTransformer,
) -> Result<Cow<'a, Weights>, WeightError> {
    let published = published(weights, model)?;
    check_module(model, &published, &PUBLISHED_OPTIONS)?;
    Ok(published)
}

/// Sana's diffusion transformer: latents and a timestep to the velocity of the flow, given a text.
///
/// Tokens are latent patches; the sequence stays `[batch, tokens, channels]` from the patch
/// embedding to the output projection.
#[derive(Module, Debug)]
pub struct SanaTransformer {
    pub(in crate::transformer) patch_embed: PatchEmbed,
    pub(in crate::transformer) time_embed: TimeEmbed,
    pub(in crate::transformer) caption_projection: CaptionProjection,
    pub(in crate::transformer) caption_norm: RmsNormAffine,
    pub(in crate::transformer) transformer_blocks: Vec<SanaBlock>,
    scale_shift_table: Param<Tensor<2>>,
    pub(in crate::transformer) proj_out: TorchLinear,
    #[module(skip)]
    config: SanaTransformerConfig,
    #[module(skip)]
    compute: Option<DType>,
}

impl LinearLayers for SanaTransformer {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.time_embed.set_bf16_gemm(gemm);
        self.caption_projection.set_bf16_gemm(gemm);
        self.transformer_blocks.set_bf16_gemm(gemm);
        self.proj_out.set_bf16_gemm(gemm);
    }
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

    /// Whether self-attention outputs are limited to the range of f16; see [`F16Clamp`].
    pub fn has_f16_clamp(&self) -> bool {
        let mut blocks = self.transformer_blocks.iter();
        blocks.any(|block| block.attn1.has_f16_clamp())
    }

    /// Chooses how linear layers multiply f32 rows by bf16 weights on the CPU.
    pub fn with_bf16_gemm(mut self, gemm: Bf16Gemm) -> Self {
        self.set_bf16_gemm(gemm);
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

    /// The positions of the tokens of latents `[height, width]`, once for all steps, of networks that add
    /// any: see [`TransformerInput::positions`].
    pub fn positions(&self, [height, width]: [usize; 2], device: &Device) -> Option<Positions> {
        let patch = self.config.patch_size;
        let grid = [height / patch, width / patch];
        self.trunk().positions(grid, device)
    }

    /// One forward pass.
    ///
    /// With [perturbed](TransformerInput::perturbed) attention, the blocks before the first perturbed
    /// one run once for both outputs. The others run with their own attention, query and key norm
    /// included, for `velocity`, and for the last items of the batch once more with the identity in
    /// the perturbed blocks, for `perturbed`.
    ///
    /// # Panics
    /// If the positions are those of another grid, there are residuals for more blocks than all but the
    /// first, the perturbed context has more items than the batch, or the perturbed blocks were chosen for a network of more blocks.
    pub fn forward(&self, input: TransformerInput<'_>) -> TransformerOutput {
        let TransformerInput {
            latents,
            timestep,
            context,
            guidance,
            positions,
            residuals,
            perturbed,
            observer,
        } = input;
        let blocks = self.transformer_blocks.len();
        let mut observe = Observe(observer);
        let trunk = self.trunk();
        let grid = trunk.grid(&latents);
        let x = trunk.embed(latents, positions);
        observe.tokens(Place::PatchEmbedding, &x);
        let dtype = self.compute_dtype();
        let (embedding, modulation) = self.time_embed.forward_in(dtype, timestep, guidance);
        observe.rows(Place::TimeEmbedding, &embedding);
        observe.rows(Place::TimeEmbedding, &modulation);
        let mut conditions = Conditions {
            modulation,
            context,
            grid,
            perturbed: &[],
            residuals: &[],
            wiring: ControlWiring::Diffusers,
        };
        let shared = perturbed.map_or(0, |perturbed| perturbed.blocks.first());
        // Kept only for a perturbed path that begins here.
        let embedded = (perturbed.is_some() && shared == 0).then(|| x.clone());
        let made;
        // The tokens with the network's own attention, and how many blocks they have gone through.
        let (mut own, mut done) = (x, 0);
        match residuals {
            Residuals::Ready(residuals) => conditions.residuals = residuals,
            Residuals::FromTokens(make) => {
                own = trunk.run_blocks(0..1, own, &conditions, &mut observe);
                done = 1;
                made = make(own.clone());
                conditions.residuals = &made;
                conditions.wiring = ControlWiring::Original;
            }
        }
        let residuals = conditions.residuals;
        assert!(
            residuals.is_empty() || residuals.len() < blocks,
            "{} residuals for a transformer of {blocks} blocks",
            residuals.len()
        );

        if shared > done {
            own = trunk.run_blocks(done..shared, own, &conditions, &mut observe);
            done = shared;
        }
        let perturbed = perturbed.map(
            |Perturbed {
                 blocks: chosen,
                 context,
             }| {
                let x = embedded.unwrap_or_else(|| own.clone());
                let [batch, _, _] = x.dims();
                let items = context.batch();
                assert!(
                    items <= batch,
                    "{items} perturbed items of a batch of {batch}"
                );
                let start = batch - items;
                let last = |residual: &Tensor<3>| residual.clone().narrow(0, start, items);
                let residuals: Vec<Tensor<3>> = residuals.iter().map(last).collect();
                let conditions = Conditions {
                    modulation: conditions.modulation.clone().narrow(0, start, items),
                    context,
                    grid,
                    perturbed: chosen.indices(),
                    residuals: &residuals,
                    wiring: conditions.wiring,
                };
                let x = trunk.run_blocks(shared..blocks, last(&x), &conditions, &mut observe);
                (x, embedding.clone().narrow(0, start, items))
            },
        );
        let x = trunk.run_blocks(done..blocks, own, &conditions, &mut observe);
        TransformerOutput {
            velocity: self.output(x, embedding, grid, &mut observe),
            perturbed: perturbed
                .map(|(x, embedding)| self.output(x, embedding, grid, &mut observe)),
        }
    }

    pub(in crate::transformer) fn trunk(&self) -> Trunk<'_> {
        Trunk {
            patch_embed: &self.patch_embed,
            caption_projection: &self.caption_projection,
            caption_norm: &self.caption_norm,
            blocks: &self.transformer_blocks,
            patches: Patches::of(&self.config),
            dtype: self.compute_dtype(),
        }
    }

    /// Tokens after the last block to the velocity, in f32.
    fn output(
        &self,
        x: Tensor<3>,
        embedding: Tensor<2>,
        grid: [usize; 2],
        observe: &mut Observe<'_>,
    ) -> Tensor<4> {
        let patches = self.project_out(x, embedding);
        observe.tokens(Place::Output, &patches);
        self.unpatchify(patches, grid).cast(DType::F32)
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
