//! Linear layers with the weight layouts of PyTorch checkpoints. They compute in the dtype of their
//! input and cast their weights to it where these have another.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::kernels::{self, Epilogue, silu};
use crate::precision::Bf16Gemm;

use super::quantized::{LowRank, QuantizedWeight};

/// PyTorch's default initialisation: uniform in `+-1 / sqrt(fan_in)`. Lazy: nothing is allocated
/// before the value is read.
pub(super) fn uniform<const D: usize>(
    shape: [usize; D],
    fan_in: usize,
    device: &Device,
) -> Param<Tensor<D>> {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Initializer::Uniform {
        min: -bound,
        max: bound,
    }
    .init(shape, device)
}

/// `y = x W^T + b` over the last axis, with the weight as checkpoints store it, `[out, in]`.
#[derive(Module, Debug)]
pub struct TorchLinear {
    /// `[out, in]`; where the weight is quantized, dequantized when it is read.
    pub weight: Param<Tensor<2>>,
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

impl TorchLinear {
    /// A layer from `d_input` to `d_output` channels. The parameters are lazy: a layer whose
    /// weights are loaded never allocates the random ones.
    pub fn new(d_input: usize, d_output: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: uniform([d_output, d_input], d_input, device),
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
        let size = weight.size();
        assert_eq!(
            self.weight.lazy_shape().to_vec(),
            size,
            "a weight of another layer"
        );
        self.weight = weight.parameter(size);
        self.quantized = Some(weight);
    }

    /// Applies the layer to the last axis.
    ///
    /// # Shapes
    /// - input `[.., in]`
    /// - output `[.., out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        let weight = match &self.quantized {
            Some(weight) => Weight::Quantized(weight),
            None => Weight::Dense(self.weight.val(), self.bf16_gemm),
        };
        linear(x, weight, bias, &self.low_rank, Epilogue::None)
    }
}

/// What a layer multiplies by, `[out, in]`.
// Made for one call, and on no heap.
#[allow(clippy::large_enum_variant)]
pub(super) enum Weight<'a> {
    Dense(Tensor<2>, Bf16Gemm),
    Quantized(&'a QuantizedWeight),
}

impl Weight<'_> {
    fn size(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight, _) => weight.dims(),
            Self::Quantized(weight) => weight.size(),
        }
    }

    /// The term that belongs to the weight itself.
    fn low_rank(&self) -> Option<&LowRank> {
        match self {
            Self::Dense(..) => None,
            Self::Quantized(weight) => weight.low_rank.as_ref(),
        }
    }

    fn apply(self, x: Tensor<2>, bias: Option<Tensor<1>>, epilogue: Epilogue) -> Tensor<2> {
        match self {
            Self::Dense(weight, bf16) => kernels::linear(x, weight, bias, epilogue, bf16),
            Self::Quantized(weight) => kernels::quantized_linear(x, &weight.matrix, bias, epilogue),
        }
    }
}

/// `x W^T + b`, and low-rank terms where there are any, over the last axis, in the dtype of `x`.
/// Flattened to two dimensions first, so that the transposed weight stays a view on every backend.
pub(super) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Weight<'_>,
    bias: Option<Tensor<1>>,
    low_rank: &[LowRank],
    epilogue: Epilogue,
) -> Tensor<D> {
    let mut dims = x.dims();
    let [d_output, d_input] = weight.size();
    let rows = dims[..D - 1].iter().product();
    let x: Tensor<2> = x.reshape([rows, d_input]);
    let terms = weight.low_rank().into_iter().chain(low_rank);
    let terms = terms.map(|term| term.forward(x.clone()));
    let y = match terms.reduce(kernels::add) {
        Some(terms) => {
            let y = kernels::add(weight.apply(x, bias, Epilogue::None), terms); // [rows, out]
            match epilogue {
                Epilogue::None => y,
                Epilogue::Silu => silu(y),
            }
        }
        None => weight.apply(x, bias, epilogue), // [rows, out]
    };
    dims[D - 1] = d_output;
    y.reshape(dims)
}

/// Layers and networks that contain linear layers.
pub trait LinearLayers {
    /// Chooses for all of them how f32 rows are multiplied by bf16 weights on the CPU.
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm);
}

impl LinearLayers for TorchLinear {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        self.bf16_gemm = gemm;
    }
}

impl<T: LinearLayers> LinearLayers for [T] {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        for layer in self {
            layer.set_bf16_gemm(gemm);
        }
    }
}

impl<T: LinearLayers> LinearLayers for Option<T> {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        if let Some(layer) = self {
            layer.set_bf16_gemm(gemm);
        }
    }
}
