//! Gemma's RMS norm.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::kernels::rms_norm_channels;

/// `y = x / sqrt(mean(x^2) + eps) * (1 + w)` over the last axis, in f32, cast back once.
///
/// The weight is stored relative to 1, so a fresh norm has `w = 0`.
#[derive(Module, Debug)]
pub struct GemmaRmsNorm {
    /// `w`, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    pub eps: f64,
}

impl GemmaRmsNorm {
    /// A norm over `channels` channels with `w = 0`.
    pub fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([channels], device),
            eps,
        }
    }

    /// Normalises the last axis.
    ///
    /// # Shapes
    /// - input and output `[batch, tokens, channels]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let scale = self.weight.val().cast(DType::F32) + 1.0;
        rms_norm_channels(x, scale, None, self.eps, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sana_linear_attn::parity::{assert_parity, device};

    #[test]
    fn known_values() {
        let device = device();
        let mut norm = GemmaRmsNorm::new(2, 0.5, &device);
        norm.weight = Param::from_tensor(Tensor::from_data([0.0, -0.5], &device));
        let x = Tensor::<3>::from_data([[[1.0, 2.0]], [[0.0, 0.0]]], &device);
        // mean square 2.5, plus eps 3, root 1.7320508
        let expected =
            Tensor::<3>::from_data([[[0.577_350_3, 0.577_350_3]], [[0.0, 0.0]]], &device);
        assert_parity("norm", norm.forward(x), expected);
    }

    #[test]
    fn large_values_stay_finite() {
        let device = device();
        let norm = GemmaRmsNorm::new(3, 1e-6, &device);
        let x = Tensor::<3>::from_data([[[1e15, -1e15, 1e15]]], &device);
        let expected = Tensor::<3>::from_data([[[1.0, -1.0, 1.0]]], &device);
        assert_parity("large", norm.forward(x), expected);
    }
}
