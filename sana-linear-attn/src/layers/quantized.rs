//! What a linear layer has in place of its weight, or next to it: 8 or 4 bits, and low-rank terms.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Tensor};

use crate::kernels::cast;
use crate::quantization::QuantizedMatrix;

/// A low-rank term of a layer: `(x down^T) up^T`, added to its output. An unmerged LoRA, with its
/// scale in `up`.
///
/// It is not a parameter: it is not saved, not expected in a checkpoint, not counted and not trained,
/// and it moves between devices with its layer.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[rank, in]`, in a dtype of its own.
    pub down: Tensor<2>,
    /// `[out, rank]`, in the same dtype.
    pub up: Tensor<2>,
}

impl LowRank {
    /// # Shapes
    /// - input `[rows, in]`
    /// - output `[rows, out]`
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [down, up] = [&self.down, &self.up].map(|factor| cast(factor.clone(), x.dtype()));
        let inner = x.matmul(down.transpose()); // [rows, rank]
        inner.matmul(up.transpose())
    }
}

/// A quantized weight, `[out, in]`, and what is added to it: `W = dequantize(matrix) + up down`.
///
/// It is not a parameter: it is not saved, counted or trained, and moves between devices with its layer.
#[derive(Module, Debug)]
pub struct QuantizedWeight {
    /// The values with their scales.
    pub matrix: QuantizedMatrix,
    /// The part of the weight that was taken out before the rest was quantized. Unlike an unmerged
    /// LoRA, it belongs to the weight.
    pub low_rank: Option<LowRank>,
}

impl QuantizedWeight {
    /// `[out, in]`.
    pub fn size(&self) -> [usize; 2] {
        self.matrix.dims()
    }

    /// The weight that it stands for, `[out, in]`.
    pub fn dense(&self, dtype: DType) -> Tensor<2> {
        let Some(LowRank { down, up }) = &self.low_rank else {
            return self.matrix.dequantize(dtype);
        };
        let [down, up] = [down, up].map(|factor| factor.clone().cast(DType::F32));
        (self.matrix.dequantize(DType::F32) + up.matmul(down)).cast(dtype)
    }

    /// A parameter of this shape that is dequantized, in f32, when its value is asked for: what
    /// looks at the weights of a network reads the right ones, and computing never does.
    pub(super) fn parameter<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        let weight = self.clone();
        let device = self.matrix.device();
        Param::uninitialized(
            ParamId::new(),
            move |device, _| {
                let dense = weight.dense(DType::F32).reshape(shape);
                dense.to_device(device)
            },
            device,
            false,
            shape.into(),
        )
    }
}
