//! A linear layer of either kind, for what works on all of a network's.

use burn::tensor::{DType, Device, Tensor};

use crate::kernels::cast;
use crate::quantization::Quantization;

use super::conv::PointwiseConv;
use super::linear::TorchLinear;
use super::quantized::QuantizedWeight;

/// A layer that multiplies by a matrix.
#[derive(Debug)]
pub enum AnyLinear<'a> {
    /// One over the last axis.
    Linear(&'a mut TorchLinear),
    /// A 1x1 convolution.
    Pointwise(&'a mut PointwiseConv),
}

impl AnyLinear<'_> {
    /// `[out, in]`; nothing is allocated.
    pub fn size(&self) -> [usize; 2] {
        let shape = match self {
            Self::Linear(layer) => layer.weight.lazy_shape().to_vec(),
            Self::Pointwise(layer) => layer.weight.lazy_shape().to_vec(),
        };
        [shape[0], shape[1]]
    }

    /// Where the weight is.
    pub fn device(&self) -> Device {
        match self {
            Self::Linear(layer) => layer.weight.lazy_device(),
            Self::Pointwise(layer) => layer.weight.lazy_device(),
        }
    }

    /// The weight `[out, in]` in f32.
    pub fn matrix(&self) -> Tensor<2> {
        let weight = match self {
            Self::Linear(layer) => layer.weight.val(),
            Self::Pointwise(layer) => layer.weight.val().reshape(self.size()),
        };
        cast(weight, DType::F32).detach()
    }

    /// The quantized weight, if it is one.
    pub fn quantized(&self) -> Option<&QuantizedWeight> {
        match self {
            Self::Linear(layer) => layer.quantized.as_ref(),
            Self::Pointwise(layer) => layer.quantized.as_ref(),
        }
    }

    /// Quantizes the weight that is there.
    pub fn quantize(&mut self, form: Quantization) {
        let weight = self.matrix();
        let matrix = form.on(weight.dims()[1], &weight.device()).quantize(weight);
        self.set_quantized(QuantizedWeight {
            matrix,
            low_rank: None,
        });
    }

    /// Puts a quantized weight in the place of what is there.
    ///
    /// # Panics
    /// If it is of another size.
    pub fn set_quantized(&mut self, weight: QuantizedWeight) {
        match self {
            Self::Linear(layer) => layer.set_quantized(weight),
            Self::Pointwise(layer) => layer.set_quantized(weight),
        }
    }
}
