//! Weight matrices of 8-bit and 4-bit integers with f32 scales.
//!
//! | form | a weight `w` of the integer `q` | bits for each weight |
//! |---|---|---|
//! | [`Int8Rows`] | `q * scale`, a scale for each row | 8 |
//! | [`Uint4Groups`] | `q * scale + zero_point`, both for each group of neighbours in a row | 4 + 64 / group |
//!
//! [`quantized_linear`](crate::kernels::quantized_linear) multiplies by them.

mod form;
mod int8;
mod rounding;
mod uint4;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};

#[cfg(feature = "cubecl-backend")]
pub(crate) use self::form::is_whole_words;
pub use self::form::{Quantization, Quantize, signal_to_noise};
pub use self::int8::Int8Rows;
#[cfg(feature = "flex")]
pub(crate) use self::rounding::{largest_magnitude, nearest, scale_of};
pub use self::uint4::{GROUP, Uint4Groups};

/// A quantized weight `[out, in]`.
///
/// It is not a parameter: it is not trained, and not seen by visitors of parameters. It moves between
/// devices with its layer.
// Its tensors are many times as large as their handles.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum QuantizedMatrix {
    /// 8 bits, a scale for each row.
    Int8Rows(Int8Rows),
    /// 4 bits, scale and zero point for each group.
    Uint4Groups(Uint4Groups),
}

impl QuantizedMatrix {
    /// The nearest [`Int8Rows`] of a weight `[out, in]` of any float dtype, on its device.
    pub fn int8(weight: Tensor<2>) -> Self {
        Self::Int8Rows(Int8Rows::quantize(weight))
    }

    /// The nearest [`Uint4Groups`] of a weight `[out, in]` of any float dtype, in groups of [`GROUP`],
    /// on its device.
    ///
    /// # Panics
    /// If `in` is odd.
    pub fn uint4(weight: Tensor<2>) -> Self {
        Self::Uint4Groups(Uint4Groups::quantize(weight, GROUP))
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Int8Rows(matrix) => matrix.dims(),
            Self::Uint4Groups(matrix) => matrix.dims(),
        }
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        match self {
            Self::Int8Rows(matrix) => matrix.values.device(),
            Self::Uint4Groups(matrix) => matrix.packed.device(),
        }
    }

    /// Bytes of all its tensors.
    pub fn bytes(&self) -> usize {
        let [rows, depth] = self.dims();
        match self {
            Self::Int8Rows(_) => Int8Rows::bytes(rows, depth),
            Self::Uint4Groups(matrix) => Uint4Groups::bytes(rows, depth, matrix.group),
        }
    }

    /// The weights as floats, `[out, in]`: computed in f32 and rounded once.
    pub fn dequantize(&self, dtype: DType) -> Tensor<2> {
        match self {
            Self::Int8Rows(matrix) => matrix.dequantize(dtype),
            Self::Uint4Groups(matrix) => matrix.dequantize(dtype),
        }
    }
}

#[cfg(test)]
mod tests;
