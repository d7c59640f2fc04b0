//! Multi-scale ReLU linear attention, the image form of linear attention in DC-AE (EfficientViT).

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::kernels::{
    add, cast, grouped_linear, image_to_tokens, relu_linear_attention_packed,
    relu_quadratic_attention_packed, tokens_to_image,
};
use crate::precision::Bf16Gemm;

use super::conv::DepthwiseConv;
use super::linear::{LinearLayers, TorchLinear};
use super::norm::RmsNormAffine;

/// Options of [`MultiScaleLinearAttention`].
#[derive(Debug, Clone, PartialEq)]
pub struct MultiScaleLinearAttentionConfig {
    /// Channels of the input and, because of the residual connection, of the output.
    pub channels: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// Depthwise kernel sizes of the further scales; empty for one scale.
    pub kernel_sizes: Vec<usize>,
}

impl MultiScaleLinearAttentionConfig {
    /// Builds the layer with lazily initialised weights.
    ///
    /// # Panics
    /// If `head_dim` does not divide `channels`.
    pub fn init(&self, device: &Device) -> MultiScaleLinearAttention {
        let Self {
            channels, head_dim, ..
        } = *self;
        assert!(
            head_dim > 0 && channels % head_dim == 0,
            "head_dim {head_dim} does not divide {channels} channels"
        );
        let scales = 1 + self.kernel_sizes.len();
        let projection = || TorchLinear::new(channels, channels, false, device);
        MultiScaleLinearAttention {
            to_q: projection(),
            to_k: projection(),
            to_v: projection(),
            to_qkv_multiscale: self
                .kernel_sizes
                .iter()
                .map(|&kernel| ScaleProjection::new(channels, head_dim, kernel, device))
                .collect(),
            to_out: TorchLinear::new(scales * channels, channels, false, device),
            norm_out: RmsNormAffine::new(channels, true, 1e-5, device),
            head_dim,
        }
    }
}

/// A further scale: queries, keys and values gathered over a neighbourhood by a depthwise
/// convolution, then mixed within each group of `head_dim` channels.
#[derive(Module, Debug)]
pub struct ScaleProjection {
    /// Depthwise convolution over the concatenated q, k, v.
    pub proj_in: DepthwiseConv,
    /// `[3 * channels, head_dim, 1, 1]`: a grouped 1x1 convolution, `3 * heads` groups.
    pub proj_out: GroupedPointwise,
}

/// Weight of a grouped 1x1 convolution without bias.
#[derive(Module, Debug)]
pub struct GroupedPointwise {
    /// `[channels, group_channels, 1, 1]`.
    pub weight: Param<Tensor<4>>,
}

impl GroupedPointwise {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = cast(self.weight.val(), x.dtype());
        let [channels, group, _, _] = weight.dims();
        grouped_linear(x, weight.reshape([channels, group]))
    }
}

impl ScaleProjection {
    fn new(channels: usize, head_dim: usize, kernel: usize, device: &Device) -> Self {
        let bound = 1.0 / (head_dim as f64).sqrt();
        let weight = Initializer::Uniform {
            min: -bound,
            max: bound,
        }
        .init([3 * channels, head_dim, 1, 1], device);
        Self {
            proj_in: DepthwiseConv::new(3 * channels, kernel, false, device),
            proj_out: GroupedPointwise { weight },
        }
    }

    fn forward(&self, qkv: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        self.proj_out.forward(self.proj_in.forward(qkv, grid))
    }
}

/// ReLU linear attention over the pixels of an image at several scales, with residual connection:
///
/// ```text
/// s_0 = [W_q x | W_k x | W_v x],  s_i = group1x1(depthwise_i(s_0))
/// y   = x + rms_norm(W_out [attention heads of s_0 | s_1 | ..])
/// ```
///
/// Heads are groups of `3 * head_dim` consecutive channels of the concatenated scales, cut into
/// query, key and value **after** concatenation, as released weights expect: the first head's
/// query, key and value all come from `W_q`'s output when it is wide enough.
///
/// When the image has no more pixels than `head_dim`, the reference normalises the explicit
/// pixel-by-pixel map instead (quadratic form); so does this layer. Sums are in f32, eps 1e-15.
#[derive(Module, Debug)]
pub struct MultiScaleLinearAttention {
    /// Query projection.
    pub to_q: TorchLinear,
    /// Key projection.
    pub to_k: TorchLinear,
    /// Value projection.
    pub to_v: TorchLinear,
    /// The further scales.
    pub to_qkv_multiscale: Vec<ScaleProjection>,
    /// Output projection over all scales.
    pub to_out: TorchLinear,
    /// Norm before the residual connection.
    pub norm_out: RmsNormAffine,
    head_dim: usize,
}

impl LinearLayers for MultiScaleLinearAttention {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.to_q.set_bf16_gemm(gemm);
        self.to_k.set_bf16_gemm(gemm);
        self.to_v.set_bf16_gemm(gemm);
        self.to_out.set_bf16_gemm(gemm);
    }
}

impl MultiScaleLinearAttention {
    /// Applies the attention.
    ///
    /// # Shapes
    /// - input and output `[batch, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let pixels = height * width;

        let tokens = image_to_tokens(x.clone()); // [batch, pixels, channels]
        let qkv = Tensor::cat(
            vec![
                self.to_q.forward(tokens.clone()),
                self.to_k.forward(tokens.clone()),
                self.to_v.forward(tokens),
            ],
            2,
        );
        let mut scales = vec![qkv.clone()];
        let grid = [height, width];
        scales.extend(
            self.to_qkv_multiscale
                .iter()
                .map(|scale| scale.forward(qkv.clone(), grid)),
        );
        let scales = Tensor::cat(scales, 2); // [batch, pixels, scales * 3 * channels]

        // Sums over all pixels are worth it from more pixels than channels of a head on.
        let attended = match pixels > self.head_dim {
            true => relu_linear_attention_packed(scales, self.head_dim),
            false => relu_quadratic_attention_packed(scales, self.head_dim),
        }; // [batch, pixels, scales * channels]
        let out = self.norm_out.forward(self.to_out.forward(attended)); // [batch, pixels, channels]
        add(tokens_to_image(out, grid), x)
    }
}
