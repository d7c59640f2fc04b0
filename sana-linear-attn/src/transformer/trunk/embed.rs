use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::gelu_approximate;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::kernels::{Epilogue, cast, linear, silu};
use crate::layers::{LinearLayers, TorchLinear};
use crate::precision::{Bf16Gemm, compute_dtype};

/// Channels of the sinusoidal features of timesteps and guidance scales.
const SINUSOID_CHANNELS: usize = 256;

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

/// Sinusoidal features `[cos(t w_i) | sin(t w_i)]`, `w_i = 10000^(-i / half)`, of scalars.
///
/// # Shapes
/// - values `[batch]` in f32
/// - output `[batch, channels]` in f32
pub fn sinusoidal(values: Tensor<1>, channels: usize) -> Tensor<2> {
    let half = channels / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| (-(10000f32.ln()) * i as f32 / half as f32).exp())
        .collect();
    let device = values.device();
    let frequencies = Tensor::<2>::from_data(
        TensorData::new(frequencies, [1, half]),
        (&device, DType::F32),
    );
    let angles = values.cast(DType::F32).unsqueeze_dim::<2>(1) * frequencies; // [batch, half]
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
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
            linear_1: TorchLinear::new(SINUSOID_CHANNELS, width, true, device),
            linear_2: TorchLinear::new(width, width, true, device),
        }
    }

    fn forward(&self, values: Tensor<1>, dtype: DType) -> Tensor<2> {
        let features = sinusoidal(values, SINUSOID_CHANNELS).cast(dtype);
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
    /// - `timestep`, `guidance` `[batch]` in f32; guidance already multiplied by
    ///   `guidance_embeds_scale`, used only by models that embed it
    /// - embedding `[batch, width]`
    /// - modulation `[batch, 6 * width]`
    pub fn forward(
        &self,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
    ) -> (Tensor<2>, Tensor<2>) {
        let weight = self.linear.weight.val();
        let dtype = compute_dtype(weight.dtype(), &weight.device());
        self.forward_in(dtype, timestep, guidance)
    }

    /// [`forward`](Self::forward) in the given dtype.
    pub fn forward_in(
        &self,
        dtype: DType,
        timestep: Tensor<1>,
        guidance: Option<Tensor<1>>,
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
        self.linear_2
            .forward(gelu_approximate(self.linear_1.forward(caption)))
    }
}

/// Sin-cos position table of a `height` x `width` grid of tokens, as the 2K and 4K models add it:
/// positions run to `base_size / interpolation_scale` along either axis, the first half of the
/// channels encodes x, the second y, each as `[sin | cos]`.
///
/// The host computes the two axes; the device makes the table of them.
///
/// # Shapes
/// - output `[1, height * width, channels]`, in row-major order of the grid
pub fn sin_cos_positions(
    channels: usize,
    [height, width]: [usize; 2],
    base_size: usize,
    interpolation_scale: f64,
    device: &Device,
    dtype: DType,
) -> Tensor<3> {
    let half = channels / 2;
    let axis = |length: usize| {
        let values = sin_cos_axis(half, length, base_size, interpolation_scale);
        Tensor::<2>::from_data(TensorData::new(values, [length, half]), (device, dtype))
    };
    let x = axis(width).reshape([1, width, half]);
    let y = axis(height).reshape([height, 1, half]);
    let table = Tensor::cat([x, y].map(|t| t.expand([height, width, half])).into(), 2);
    table.reshape([1, height * width, 2 * half])
}

/// `[sin | cos]` of the positions along one axis: `[length, channels]`.
fn sin_cos_axis(
    channels: usize,
    length: usize,
    base_size: usize,
    interpolation_scale: f64,
) -> Vec<f32> {
    let half = channels / 2;
    let frequencies: Vec<f64> = (0..half)
        .map(|i| 10000f64.powf(-(i as f64) / half as f64))
        .collect();
    // Positions in f32, as in the reference.
    let step = (length as f64 / base_size as f64) as f32;
    let mut values = Vec::with_capacity(length * channels);
    for i in 0..length {
        let position = f64::from(i as f32 / step / interpolation_scale as f32);
        values.extend(frequencies.iter().map(|w| (position * w).sin() as f32));
        values.extend(frequencies.iter().map(|w| (position * w).cos() as f32));
    }
    values
}
