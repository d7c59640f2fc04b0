//! GLUMBConv, the convolutional feed-forward of Sana ("Mix-FFN", Sana paper, section 2.2).

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::kernels::{Epilogue, add, image_to_tokens, tokens_to_image};
use crate::precision::Bf16Gemm;

use super::conv::{DepthwiseConv, PointwiseConv};
use super::linear::LinearLayers;
use super::norm::RmsNormAffine;

/// The norm after the last projection of a [`GluMbConv`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GluMbConvNorm {
    /// No norm: the diffusion transformer.
    None,
    /// RMS norm over channels with scale and shift, eps 1e-5: DC-AE.
    Rms,
}

/// Options of [`GluMbConv`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GluMbConvConfig {
    /// Input channels.
    pub channels: usize,
    /// Output channels; equal to the input's where there is a residual connection.
    pub out_channels: usize,
    /// Hidden channels per input channel: 2.5 in the transformer, 4 in DC-AE.
    pub expand_ratio: f64,
    /// Norm after the last projection.
    pub norm: GluMbConvNorm,
    /// Whether the input is added to the output.
    pub residual: bool,
}

impl GluMbConvConfig {
    /// Builds the layer with lazily initialised weights.
    pub fn init(&self, device: &Device) -> GluMbConv {
        let hidden = (self.expand_ratio * self.channels as f64) as usize;
        GluMbConv {
            conv_inverted: PointwiseConv::new(self.channels, 2 * hidden, true, device),
            conv_depth: DepthwiseConv::new(2 * hidden, 3, true, device),
            conv_point: PointwiseConv::new(hidden, self.out_channels, false, device),
            norm: match self.norm {
                GluMbConvNorm::None => None,
                GluMbConvNorm::Rms => {
                    Some(RmsNormAffine::new(self.out_channels, true, 1e-5, device))
                }
            },
            residual: self.residual,
        }
    }
}

/// Inverted bottleneck with a gated depthwise convolution:
///
/// ```text
/// h        = silu(W_inverted x + b)                 1x1, to 2 x hidden channels
/// [v | g]  = depthwise3x3(h) + b                    halves of the channels
/// y        = W_point (v * silu(g))                  1x1, to the output channels
/// ```
///
/// then, as configured, an RMS norm and the residual connection. The 1x1 convolutions are linear
/// layers on tokens; only the depthwise convolution sees height and width.
#[derive(Module, Debug)]
pub struct GluMbConv {
    /// 1x1 expansion to twice the hidden channels.
    pub conv_inverted: PointwiseConv,
    /// 3x3 depthwise convolution.
    pub conv_depth: DepthwiseConv,
    /// 1x1 projection to the output channels.
    pub conv_point: PointwiseConv,
    /// Norm after the projection.
    pub norm: Option<RmsNormAffine>,
    residual: bool,
}

impl LinearLayers for GluMbConv {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.conv_inverted.set_bf16_gemm(gemm);
        self.conv_point.set_bf16_gemm(gemm);
    }
}

impl GluMbConv {
    /// Applies the layer to the tokens of a `height` x `width` grid.
    ///
    /// # Shapes
    /// - input `[batch, height * width, channels]`
    /// - output `[batch, height * width, out_channels]`
    pub fn forward(&self, x: Tensor<3>, height: usize, width: usize) -> Tensor<3> {
        let hidden = self.conv_inverted.forward_fused(x.clone(), Epilogue::Silu); // [batch, tokens, 2 hidden]
        let hidden = self.conv_depth.forward_gated(hidden, [height, width]); // [batch, tokens, hidden]
        let out = self.conv_point.forward(hidden);
        let out = match &self.norm {
            Some(norm) => norm.forward(out),
            None => out,
        };
        if self.residual { add(out, x) } else { out }
    }

    /// Applies the layer to an image.
    ///
    /// # Shapes
    /// - input `[batch, channels, height, width]`
    /// - output `[batch, out_channels, height, width]`
    pub fn forward_image(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let y = self.forward(image_to_tokens(x), height, width);
        tokens_to_image(y, [height, width])
    }
}
