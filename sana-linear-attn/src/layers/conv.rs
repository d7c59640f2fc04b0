//! Convolutions with the weight layouts of PyTorch checkpoints. They compute in the dtype of their
//! input and cast their weights to it where these have another.

use burn::module::{Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use crate::kernels::{
    Epilogue, cast, conv3x3_fused, conv3x3_upsampled, depthwise_gate, depthwise_tokens,
    nearest_upsample, silu_gate,
};

use super::linear::{LinearLayers, Weight, linear, uniform};
use super::quantized::{LowRank, QuantizedWeight};
use crate::precision::Bf16Gemm;

/// A 1x1 convolution, stored as checkpoints do (`[out, in, 1, 1]`) and run as a linear layer.
#[derive(Module, Debug)]
pub struct PointwiseConv {
    /// `[out, in, 1, 1]`; where the weight is quantized, dequantized when it is read.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Low-rank terms that are added to the output; empty unless there are unmerged LoRAs.
    pub low_rank: Vec<LowRank>,
    /// What it computes with in place of the weight.
    pub quantized: Option<QuantizedWeight>,
    /// How f32 rows are multiplied by a bf16 weight on the CPU.
    #[module(skip)]
    pub bf16_gemm: Bf16Gemm,
}

impl LinearLayers for PointwiseConv {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.bf16_gemm = gemm;
    }
}

impl PointwiseConv {
    /// A 1x1 convolution from `d_input` to `d_output` channels.
    pub fn new(d_input: usize, d_output: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: uniform([d_output, d_input, 1, 1], d_input, device),
            bias: bias.then(|| uniform([d_output], d_input, device)),
            low_rank: Vec::new(),
            quantized: None,
            bf16_gemm: Bf16Gemm::default(),
        }
    }

    /// Puts a quantized weight in the place of what is there.
    ///
    /// # Panics
    /// If it is of another size.
    pub fn set_quantized(&mut self, weight: QuantizedWeight) {
        let [d_output, d_input] = weight.size();
        let shape = [d_output, d_input, 1, 1];
        assert_eq!(
            self.weight.lazy_shape().to_vec(),
            shape,
            "a weight of another layer"
        );
        self.weight = weight.parameter(shape);
        self.quantized = Some(weight);
    }

    /// Applies the convolution to tokens.
    ///
    /// # Shapes
    /// - input `[batch, tokens, in]`
    /// - output `[batch, tokens, out]`
    pub fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.forward_fused(tokens, Epilogue::None)
    }

    /// [`forward`](Self::forward), then a function of each element.
    pub(crate) fn forward_fused(&self, tokens: Tensor<3>, epilogue: Epilogue) -> Tensor<3> {
        let bias = self.bias.as_ref().map(Param::val);
        let weight = match &self.quantized {
            Some(weight) => Weight::Quantized(weight),
            None => {
                let weight = self.weight.val();
                let [d_output, d_input, _, _] = weight.dims();
                Weight::Dense(weight.reshape([d_output, d_input]), self.bf16_gemm)
            }
        };
        linear(tokens, weight, bias, &self.low_rank, epilogue)
    }

    /// Applies the convolution to an image.
    ///
    /// # Shapes
    /// - input `[batch, in, height, width]`
    /// - output `[batch, out, height, width]`
    pub fn forward_image(&self, x: Tensor<4>) -> Tensor<4> {
        if !self.low_rank.is_empty() || self.quantized.is_some() {
            let [batch, channels, height, width] = x.dims();
            let tokens = x.permute([0, 2, 3, 1]); // [batch, height, width, in]
            let y = self.forward(tokens.reshape([batch, height * width, channels]));
            let [_, _, channels] = y.dims();
            let y = y.reshape([batch, height, width, channels]);
            return y.permute([0, 3, 1, 2]); // [batch, out, height, width]
        }
        let dtype = x.dtype();
        let bias = self.bias.as_ref().map(|bias| cast(bias.val(), dtype));
        conv2d(
            x,
            cast(self.weight.val(), dtype),
            bias,
            ConvOptions::new([1, 1], [0, 0], [1, 1], 1),
        )
    }
}

/// A depthwise convolution with "same" padding: every channel has its own square kernel of odd
/// size.
#[derive(Module, Debug)]
pub struct DepthwiseConv {
    /// `[channels, 1, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// `[channels]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl DepthwiseConv {
    /// A depthwise convolution of `channels` channels.
    ///
    /// # Panics
    /// If `kernel_size` is even: "same" padding is then not symmetric.
    pub fn new(channels: usize, kernel_size: usize, bias: bool, device: &Device) -> Self {
        assert!(
            kernel_size % 2 == 1,
            "depthwise kernel size must be odd, got {kernel_size}"
        );
        let fan_in = kernel_size * kernel_size;
        Self {
            weight: uniform([channels, 1, kernel_size, kernel_size], fan_in, device),
            bias: bias.then(|| uniform([channels], fan_in, device)),
        }
    }

    /// Applies the convolution to the tokens of a `height` x `width` grid.
    ///
    /// # Shapes
    /// - input and output `[batch, height * width, channels]`
    pub fn forward(&self, tokens: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        let dtype = tokens.dtype();
        let y = depthwise_tokens(tokens, cast(self.weight.val(), dtype), grid);
        match &self.bias {
            Some(bias) => y + cast(bias.val(), dtype).unsqueeze::<3>(),
            None => y,
        }
    }

    /// [`forward`](Self::forward), then the first half of the channels times SiLU of the second.
    ///
    /// # Shapes
    /// - input `[batch, height * width, channels]`
    /// - output `[batch, height * width, channels / 2]`
    pub(crate) fn forward_gated(&self, tokens: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        match &self.bias {
            Some(bias) => {
                let dtype = tokens.dtype();
                let (weight, bias) = (cast(self.weight.val(), dtype), cast(bias.val(), dtype));
                depthwise_gate(tokens, weight, bias, grid)
            }
            None => silu_gate(self.forward(tokens, grid)),
        }
    }
}

/// A 3x3 convolution with padding 1.
#[derive(Module, Debug)]
pub struct Conv3x3 {
    /// `[out, in, 3, 3]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Step between output pixels: 1, or 2 to halve the size.
    pub stride: usize,
}

impl Conv3x3 {
    /// A 3x3 convolution from `d_input` to `d_output` channels.
    pub fn new(
        d_input: usize,
        d_output: usize,
        stride: usize,
        bias: bool,
        device: &Device,
    ) -> Self {
        let fan_in = 9 * d_input;
        Self {
            weight: uniform([d_output, d_input, 3, 3], fan_in, device),
            bias: bias.then(|| uniform([d_output], fan_in, device)),
            stride,
        }
    }

    /// Applies the convolution.
    ///
    /// # Shapes
    /// - input `[batch, in, height, width]`
    /// - output `[batch, out, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_fused(x, Epilogue::None)
    }

    /// [`forward`](Self::forward), then a function of each element.
    pub fn forward_fused(&self, x: Tensor<4>, epilogue: Epilogue) -> Tensor<4> {
        let dtype = x.dtype();
        let bias = self.bias.as_ref().map(|bias| cast(bias.val(), dtype));
        conv3x3_fused(
            x,
            cast(self.weight.val(), dtype),
            bias,
            self.stride,
            epilogue,
        )
    }

    /// [`forward`](Self::forward) of an input whose height and width are doubled first, each pixel
    /// becoming a square of 2x2.
    ///
    /// # Shapes
    /// - input `[batch, in, height, width]`
    /// - output `[batch, out, ceil(2 * height / stride), ceil(2 * width / stride)]`
    pub fn forward_upsampled(&self, x: Tensor<4>) -> Tensor<4> {
        if self.stride != 1 {
            return self.forward(nearest_upsample(x));
        }
        let dtype = x.dtype();
        let bias = self.bias.as_ref().map(|bias| cast(bias.val(), dtype));
        conv3x3_upsampled(x, cast(self.weight.val(), dtype), bias)
    }
}
