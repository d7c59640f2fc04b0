//! The blocks stages are made of: residual blocks at high resolution, attention at low.

use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::kernels::{Epilogue, add, silu};
use sana_linear_attn::layers::{Conv3x3, LinearLayers, RmsNormAffine};
use sana_linear_attn::precision::Bf16Gemm;
use sana_linear_attn::{
    GluMbConv, GluMbConvConfig, GluMbConvNorm, MultiScaleLinearAttention,
    MultiScaleLinearAttentionConfig,
};

use crate::{Activation, BlockType, DownBlock, NormType, UpBlock};

/// Added to the mean square or variance in every norm of the autoencoder.
pub(crate) const NORM_EPS: f64 = 1e-5;

impl Activation {
    /// Applies the function to each element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => silu(x),
            Self::Relu => relu(x),
        }
    }
}

/// Batch norm with statistics fixed by the checkpoint:
/// `y = (x - running_mean) / sqrt(running_var + 1e-5) * weight + bias`.
///
/// In training, too, these statistics are used and not updated, as is usual when a batch norm is
/// fine-tuned with small batches; no gradient reaches them.
#[derive(Module, Debug)]
pub struct FrozenBatchNorm {
    /// `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// `[channels]`.
    pub running_mean: Param<Tensor<1>>,
    /// `[channels]`, the variance.
    pub running_var: Param<Tensor<1>>,
}

impl FrozenBatchNorm {
    /// A norm over `channels` channels that starts as the identity (up to eps).
    pub fn new(channels: usize, device: &Device) -> Self {
        let filled = |value: Initializer| value.init([channels], device);
        Self {
            weight: filled(Initializer::Ones),
            bias: filled(Initializer::Zeros),
            running_mean: filled(Initializer::Zeros).set_require_grad(false),
            running_var: filled(Initializer::Ones).set_require_grad(false),
        }
    }

    /// Normalises each channel, in f32.
    ///
    /// # Shapes
    /// - input and output `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let [weight, bias, mean, variance] = [
            &self.weight,
            &self.bias,
            &self.running_mean,
            &self.running_var,
        ]
        .map(|param| param.val().cast(DType::F32));
        let [channels] = weight.dims();
        let scale = weight / (variance.detach() + NORM_EPS).sqrt();
        let shift = bias - mean.detach() * scale.clone();
        let y = x.cast(DType::F32) * scale.reshape([1, channels, 1, 1]);
        (y + shift.reshape([1, channels, 1, 1])).cast(dtype)
    }
}

/// The norm at the end of a [`ResBlock`].
#[derive(Module, Debug)]
pub enum ChannelNorm {
    /// `x / sqrt(mean over channels of x^2 + 1e-5) * weight + bias`, per pixel.
    Rms(RmsNormAffine),
    /// Per channel, with stored statistics.
    Batch(FrozenBatchNorm),
}

impl ChannelNorm {
    /// A norm over `channels` channels.
    pub fn new(kind: NormType, channels: usize, device: &Device) -> Self {
        match kind {
            NormType::RmsNorm => Self::Rms(RmsNormAffine::new(channels, true, NORM_EPS, device)),
            NormType::BatchNorm => Self::Batch(FrozenBatchNorm::new(channels, device)),
        }
    }

    /// Normalises an image.
    ///
    /// # Shapes
    /// - input and output `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Rms(norm) => norm.forward_image(x),
            Self::Batch(norm) => norm.forward(x),
        }
    }

    /// Normalises an image and adds it to another.
    ///
    /// # Shapes
    /// - input, `residual` and output `[batch, channels, height, width]`
    pub fn forward_residual(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Rms(norm) => norm.forward_image_residual(x, residual),
            Self::Batch(norm) => add(norm.forward(x), residual),
        }
    }
}

/// `y = x + norm(conv2(activation(conv1(x))))`, 3x3 convolutions, the second without bias.
#[derive(Module, Debug)]
pub struct ResBlock {
    /// First convolution.
    pub conv1: Conv3x3,
    /// Second convolution.
    pub conv2: Conv3x3,
    /// Norm before the sum.
    pub norm: ChannelNorm,
    #[module(skip)]
    activation: Activation,
}

impl ResBlock {
    /// A block of `channels` channels.
    pub fn new(channels: usize, norm: NormType, activation: Activation, device: &Device) -> Self {
        Self {
            conv1: Conv3x3::new(channels, channels, 1, true, device),
            conv2: Conv3x3::new(channels, channels, 1, false, device),
            norm: ChannelNorm::new(norm, channels, device),
            activation,
        }
    }

    /// Applies the block.
    ///
    /// # Shapes
    /// - input and output `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = match self.activation {
            Activation::Silu => self.conv1.forward_fused(x.clone(), Epilogue::Silu),
            other => other.forward(self.conv1.forward(x.clone())),
        };
        self.norm.forward_residual(self.conv2.forward(hidden), x)
    }
}

/// Attention over all pixels, then a feed-forward over their neighbourhoods, each with its own
/// residual connection (EfficientViT): `y = ffn(attn(x))`.
#[derive(Module, Debug)]
pub struct EfficientVitBlock {
    /// Multi-scale ReLU linear attention.
    pub attn: MultiScaleLinearAttention,
    /// GLUMBConv of expansion 4 with an RMS norm.
    pub conv_out: GluMbConv,
}

impl LinearLayers for EfficientVitBlock {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.attn.set_bf16_gemm(gemm);
        self.conv_out.set_bf16_gemm(gemm);
    }
}

impl EfficientVitBlock {
    /// A block of `channels` channels in heads of `head_dim`; `kernel_sizes` are those of the
    /// further attention scales.
    ///
    /// # Panics
    /// If `head_dim` does not divide `channels` or a kernel size is even.
    pub fn new(channels: usize, head_dim: usize, kernel_sizes: &[usize], device: &Device) -> Self {
        let attention = MultiScaleLinearAttentionConfig {
            channels,
            head_dim,
            kernel_sizes: kernel_sizes.to_vec(),
        };
        let feed_forward = GluMbConvConfig {
            channels,
            out_channels: channels,
            expand_ratio: 4.0,
            norm: GluMbConvNorm::Rms,
            residual: true,
        };
        Self {
            attn: attention.init(device),
            conv_out: feed_forward.init(device),
        }
    }

    /// Applies the block.
    ///
    /// # Shapes
    /// - input and output `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv_out.forward_image(self.attn.forward(x))
    }
}

/// One element of a stage, as checkpoints number them: `down_blocks.{stage}.{index}`.
// A model has a few dozen of these.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum StageLayer {
    /// A residual block.
    Res(ResBlock),
    /// An attention block.
    EfficientVit(EfficientVitBlock),
    /// The last element of an encoder stage.
    Down(DownBlock),
    /// The first element of a decoder stage.
    Up(UpBlock),
}

impl LinearLayers for StageLayer {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        match self {
            Self::EfficientVit(block) => block.set_bf16_gemm(gemm),
            Self::Res(_) | Self::Down(_) | Self::Up(_) => {}
        }
    }
}

impl StageLayer {
    /// Applies the layer to an image.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Res(block) => block.forward(x),
            Self::EfficientVit(block) => block.forward(x),
            Self::Down(block) => block.forward(x),
            Self::Up(block) => block.forward(x),
        }
    }
}

/// What the blocks of one stage have in common.
pub(crate) struct StageBlocks<'a> {
    pub channels: usize,
    pub depth: usize,
    pub kind: BlockType,
    pub norm: NormType,
    pub activation: Activation,
    pub head_dim: usize,
    pub kernel_sizes: &'a [usize],
}

impl StageBlocks<'_> {
    pub(crate) fn init(&self, device: &Device) -> impl Iterator<Item = StageLayer> {
        (0..self.depth).map(|_| match self.kind {
            BlockType::Res => StageLayer::Res(ResBlock::new(
                self.channels,
                self.norm,
                self.activation,
                device,
            )),
            BlockType::EfficientVit => StageLayer::EfficientVit(EfficientVitBlock::new(
                self.channels,
                self.head_dim,
                self.kernel_sizes,
                device,
            )),
        })
    }
}
