//! Norms with f32 arithmetic inside and one cast back to the input's dtype.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::kernels::{rms_norm_channels, rms_norm_residual};

/// Root-mean-square norm over channels with a learnt scale and, where the checkpoint has one, a
/// shift: `y = x / sqrt(mean(x^2) + eps) * weight + bias`.
#[derive(Module, Debug)]
pub struct RmsNormAffine {
    /// `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// `[channels]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNormAffine {
    /// A norm over `channels` channels, starting at scale 1 and shift 0.
    pub fn new(channels: usize, bias: bool, eps: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: bias.then(|| Initializer::Zeros.init([channels], device)),
            eps,
        }
    }

    /// Normalises the last axis.
    ///
    /// # Shapes
    /// - input and output `[.., channels]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward_along(x, D - 1)
    }

    /// Normalises the channels of an image.
    ///
    /// # Shapes
    /// - input and output `[batch, channels, height, width]`
    pub fn forward_image(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_along(x, 1)
    }

    /// Normalises the channels of an image and adds it to another.
    ///
    /// # Shapes
    /// - input, `residual` and output `[batch, channels, height, width]`
    pub fn forward_image_residual(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(Param::val);
        rms_norm_residual(x, self.weight.val(), bias, residual, self.eps, 1)
    }

    fn forward_along<const D: usize>(&self, x: Tensor<D>, axis: usize) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        rms_norm_channels(x, self.weight.val(), bias, self.eps, axis)
    }
}
