use burn::module::{Initializer, Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor};

use crate::kernels::plain::gelu;
use crate::kernels::{Epilogue, cast, linear, silu};
use crate::layers::{LinearLayers, TorchLinear};
use crate::precision::{Bf16Gemm, compute_dtype};
use crate::transformer::input::Sinusoids;

/// Patches of the latent to tokens: a convolution whose stride is its kernel size.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// The convolution.
    pub proj: PatchConv,
}

/// Weights of the patch convolution.
#[derive(Module, Debug)]
pub struct PatchConv {
    /// `[width, in, patch, patch]`.
    pub weight: Param<Tensor<4>>,
    /// `[width]`.
    pub bias: Param<Tensor<1>>,
}

impl PatchEmbed {
    /// An embedding of `patch_size` x `patch_size` patches.
    pub fn new(in_channels: usize, width: usize, patch_size: usize, device: &Device) -> Self {
        let bound = 1.0 / ((in_channels * patch_size * patch_size) as f64).sqrt();
        let uniform = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        Self {
            proj: PatchConv {
                weight: uniform.init([width, in_channels, patch_size, patch_size], device),
                bias: uniform.init([width], device),
            },
        }
    }

    /// Embeds a latent, in the latent's dtype.
    ///
    /// # Shapes
    /// - latents `[batch, in, height, width]`
    /// - output `[batch, (height / patch) * (width / patch), channels]`
    pub fn forward(&self, latents: Tensor<4>) -> Tensor<3> {
        let dtype = latents.dtype();
        let weight = cast(self.proj.weight.val(), dtype);
        let bias = cast(self.proj.bias.val(), dtype);
        let [channels, in_channels, patch, _] = weight.dims();
        let [batch, _, height, width] = latents.dims();
        if patch == 1 {
            let tokens = latents
                .permute([0, 2, 3, 1])
                .reshape([batch * height * width, in_channels]); // [batch * tokens, in]
            let weight = weight.reshape([channels, in_channels]);
            let bf16 = Bf16Gemm::default(); // of no effect: the weight has the dtype of the tokens
            let tokens = linear(tokens, weight, Some(bias), Epilogue::None, bf16); // [batch * tokens, channels]
            return tokens.reshape([batch, height * width, channels]);
        }
        let options = ConvOptions::new([patch, patch], [0, 0], [1, 1], 1);
        let embedded = conv2d(latents, weight, Some(bias), options);
        embedded.flatten::<3>(2, 3).swap_dims(1, 2) // [batch, tokens, channels]
    }
}

/// Two linear layers with SiLU between, from sinusoidal features to the network's width.
#[derive(Module, Debug)]
pub struct SinusoidMlp {
    pub(in crate::transformer) linear_1: TorchLinear,
    pub(in crate::transformer) linear_2: TorchLinear,
}

impl LinearLayers for SinusoidMlp {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.linear_1.set_bf16_gemm(gemm);
        self.linear_2.set_bf16_gemm(gemm);
    }
}

impl SinusoidMlp {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            linear_1: TorchLinear::new(Sinusoids::CHANNELS, width, true, device),
            linear_2: TorchLinear::new(width, width, true, device),
        }
    }

    fn forward(&self, values: Sinusoids, dtype: DType) -> Tensor<2> {
        let features = values.features(dtype);
        self.linear_2.forward(silu(self.linear_1.forward(features)))
    }
}

/// The level of nesting that models without embedded guidance have in checkpoints.
#[derive(Module, Debug)]
pub struct TimestepOnly {
    pub(in crate::transformer) timestep_embedder: SinusoidMlp,
}

impl LinearLayers for TimestepOnly {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.timestep_embedder.set_bf16_gemm(gemm);
    }
}

/// Embedding of the timestep, and in Sprint of the guidance scale, and the modulation made of it.
#[derive(Module, Debug)]
pub struct TimeEmbed {
    pub(in crate::transformer) emb: Option<TimestepOnly>,
    pub(in crate::transformer) timestep_embedder: Option<SinusoidMlp>,
    pub(in crate::transformer) guidance_embedder: Option<SinusoidMlp>,
    pub(in crate::transformer) linear: TorchLinear,
}

impl LinearLayers for TimeEmbed {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.emb.set_bf16_gemm(gemm);
        self.timestep_embedder.set_bf16_gemm(gemm);
        self.guidance_embedder.set_bf16_gemm(gemm);
        self.linear.set_bf16_gemm(gemm);
    }
}

impl TimeEmbed {
    /// An embedding to `width` channels, with or without a guidance input.
    pub fn new(width: usize, guidance: bool, device: &Device) -> Self {
        let mlp = || SinusoidMlp::new(width, device);
        Self {
            emb: (!guidance).then(|| TimestepOnly {
                timestep_embedder: mlp(),
            }),
            timestep_embedder: guidance.then(mlp),
            guidance_embedder: guidance.then(mlp),
            linear: TorchLinear::new(width, 6 * width, true, device),
        }
    }

    /// The embedding and the six modulation vectors made of it, in the dtype that
    /// [`compute_dtype`] names for the weights and their device.
    ///
    /// # Shapes
    /// - `timestep`, `guidance` one for each item; guidance already multiplied by
    ///   `guidance_embeds_scale`, used only by models that embed it
    /// - embedding `[batch, width]`
    /// - modulation `[batch, 6 * width]`
    pub fn forward(
        &self,
        timestep: Sinusoids,
        guidance: Option<Sinusoids>,
    ) -> (Tensor<2>, Tensor<2>) {
        let weight = self.linear.weight.val();
        let dtype = compute_dtype(weight.dtype(), &weight.device());
        self.forward_in(dtype, timestep, guidance)
    }

    /// [`forward`](Self::forward) in the given dtype.
    pub fn forward_in(
        &self,
        dtype: DType,
        timestep: Sinusoids,
        guidance: Option<Sinusoids>,
    ) -> (Tensor<2>, Tensor<2>) {
        let timestep_embedder = self
            .emb
            .as_ref()
            .map(|emb| &emb.timestep_embedder)
            .or(self.timestep_embedder.as_ref());
        let Some(timestep_embedder) = timestep_embedder else {
            unreachable!("the constructor sets one of the two")
        };
        let embedding = timestep_embedder.forward(timestep, dtype);
        let embedding = match (&self.guidance_embedder, guidance) {
            (Some(embedder), Some(guidance)) => embedding + embedder.forward(guidance, dtype),
            _ => embedding,
        };
        let modulation = self.linear.forward(silu(embedding.clone()));
        (embedding, modulation)
    }
}

/// Two linear layers with GELU (tanh form) between, from text channels to the network's width.
#[derive(Module, Debug)]
pub struct CaptionProjection {
    pub(in crate::transformer) linear_1: TorchLinear,
    pub(in crate::transformer) linear_2: TorchLinear,
}

impl LinearLayers for CaptionProjection {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.linear_1.set_bf16_gemm(gemm);
        self.linear_2.set_bf16_gemm(gemm);
    }
}

impl CaptionProjection {
    /// A projection from `caption_channels` to `width`.
    pub fn new(caption_channels: usize, width: usize, device: &Device) -> Self {
        Self {
            linear_1: TorchLinear::new(caption_channels, width, true, device),
            linear_2: TorchLinear::new(width, width, true, device),
        }
    }

    /// Projects text embeddings.
    ///
    /// # Shapes
    /// - input `[batch, text_tokens, caption_channels]`
    /// - output `[batch, text_tokens, width]`
    pub fn forward(&self, caption: Tensor<3>) -> Tensor<3> {
        self.linear_2.forward(gelu(self.linear_1.forward(caption)))
    }
}
