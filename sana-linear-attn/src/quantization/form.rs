//! The forms that weights are quantized to.

use std::fmt;

use burn::tensor::{DType, Device, Tensor};
use serde::Serialize;

use super::{GROUP, Int8Rows, QuantizedMatrix, Uint4Groups};
use crate::precision::is_cpu;

/// What the weight of a layer becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// 8 bits, a scale for each row.
    Int8,
    /// 4 bits, scale and zero point for each group of 64 weights of a row, or, where 64 does not divide it, for
    /// equal, slightly larger groups or the whole row: see [`group`](Self::group).
    Uint4,
}

impl Quantization {
    /// The name of the form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Uint4 => "uint4",
        }
    }

    /// Weights of a group for rows of `inputs` weights, as SDNQ divides them for a group size of 64:
    /// equal groups, of the size next to 64 from above, or the whole row.
    pub fn group(inputs: usize) -> usize {
        let groups = (1..=inputs / GROUP).rev();
        let mut fitting = groups.filter(|groups| inputs.is_multiple_of(*groups));
        inputs / fitting.next().unwrap_or(1)
    }

    /// The form that rows of `inputs` weights get: 8 bits where groups would be of an odd number.
    pub fn of_rows(self, inputs: usize) -> Self {
        match self {
            Self::Uint4 if Self::group(inputs).is_multiple_of(2) && inputs > 0 => Self::Uint4,
            _ => Self::Int8,
        }
    }

    /// The form that rows of `inputs` weights get on a device. GPUs read 4 bits in groups of whole 32-bit
    /// words: other groups, such as those of 70 of 5600 inputs, become 8 bits there.
    pub fn on(self, inputs: usize, device: &Device) -> Self {
        match self.of_rows(inputs) {
            Self::Uint4 if !is_cpu(device) && !is_whole_words(Self::group(inputs)) => Self::Int8,
            form => form,
        }
    }

    /// Bytes of a weight `[out, in]`, scales included.
    pub fn bytes(self, [rows, inputs]: [usize; 2]) -> usize {
        match self.of_rows(inputs) {
            Self::Int8 => Int8Rows::bytes(rows, inputs),
            Self::Uint4 => Uint4Groups::bytes(rows, inputs, Self::group(inputs)),
        }
    }

    /// The nearest matrix to a weight `[out, in]`.
    pub fn quantize(self, weight: Tensor<2>) -> QuantizedMatrix {
        let [_, inputs] = weight.dims();
        match self.of_rows(inputs) {
            Self::Int8 => QuantizedMatrix::int8(weight),
            Self::Uint4 => {
                let group = Self::group(inputs);
                QuantizedMatrix::Uint4Groups(Uint4Groups::quantize(weight, group))
            }
        }
    }
}

/// Whether a group of so many weights of 4 bits is whole 32-bit words.
pub(crate) fn is_whole_words(group: usize) -> bool {
    group.is_multiple_of(8)
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the linear layers of a network are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantize {
    /// The form.
    pub to: Quantization,
    /// Keeps the last layers of the feed-forwards as they are. They suffer most.
    pub dense_down: bool,
}

impl From<Quantization> for Quantize {
    fn from(to: Quantization) -> Self {
        Self {
            to,
            dense_down: false,
        }
    }
}

/// Signal to noise of what a weight became, in decibels: `10 log10(sum w^2 / sum (w - w')^2)`, infinite
/// without an error.
///
/// # Shapes
/// - both `[out, in]`
pub fn signal_to_noise(weight: Tensor<2>, quantized: Tensor<2>) -> f64 {
    let [weight, quantized] = [weight, quantized].map(|tensor| tensor.cast(DType::F32));
    let power = |tensor: Tensor<2>| {
        let rows = (tensor.clone() * tensor).sum_dim(1).into_data();
        rows.iter::<f64>().sum::<f64>()
    };
    let noise = power(weight.clone() - quantized);
    if noise == 0.0 {
        return f64::INFINITY;
    }
    10.0 * (power(weight) / noise).log10()
}

#[cfg(test)]
mod form_tests {
    use super::*;

    /// Those of the released models, and what does not divide.
    #[test]
    fn groups_are_equal() {
        for (inputs, group) in [
            (64, 64),
            (128, 64),
            (1152, 64),
            (2240, 64),
            (2304, 64),
            (2880, 64),
            (9216, 64),
            (5600, 70),
            (96, 96),
            (40, 40),
            (130, 65),
            (127, 127),
        ] {
            assert_eq!(Quantization::group(inputs), group, "{inputs}");
        }
        assert_eq!(Quantization::Uint4.of_rows(5600), Quantization::Uint4);
        assert_eq!(Quantization::Uint4.of_rows(130), Quantization::Int8);
        assert_eq!(Quantization::Int8.of_rows(64), Quantization::Int8);
        assert_eq!(Quantization::Uint4.bytes([2, 128]), 2 * (64 + 2 * 8));
        assert_eq!(Quantization::Int8.bytes([2, 128]), 2 * 128 + 8);
    }
}
