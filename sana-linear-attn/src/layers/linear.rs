//! Linear layers with the weight layouts of PyTorch checkpoints. They compute in the dtype of their
//! input and cast their weights to it where these have another.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use crate::kernels::{self, Epilogue, cast, silu};
use crate::precision::Bf16Gemm;

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

/// A low-rank term of a layer: `(x down^T) up^T`, added to its output. An unmerged LoRA, with its
/// scale in `up`.
///
/// It is not a parameter: it is not saved, not expected in a checkpoint, not counted and not trained,
/// and it moves between devices with its layer.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[rank, in]`, in the weight's dtype.
    pub down: Tensor<2>,
    /// `[out, rank]`, in the weight's dtype.
    pub up: Tensor<2>,
}

impl LowRank {
    /// # Shapes
    /// - input `[rows, in]`
    /// - output `[rows, out]`
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [down, up] = [&self.down, &self.up].map(|factor| cast(factor.clone(), x.dtype()));
        let inner = x.matmul(down.transpose()); // [rows, rank]
        inner.matmul(up.transpose())
    }
}

/// `y = x W^T + b` over the last axis, with the weight as checkpoints store it, `[out, in]`.
#[derive(Module, Debug)]
pub struct TorchLinear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Low-rank terms that are added to the output; empty unless there are unmerged LoRAs.
    pub low_rank: Vec<LowRank>,
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
            bf16_gemm: Bf16Gemm::default(),
        }
    }

    /// Applies the layer to the last axis.
    ///
    /// # Shapes
    /// - input `[.., in]`
    /// - output `[.., out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        let weight = self.weight.val();
        let low_rank = &self.low_rank;
        linear(x, weight, bias, low_rank, Epilogue::None, self.bf16_gemm)
    }
}

/// `x W^T + b`, and low-rank terms where there are any, over the last axis, in the dtype of `x`.
/// Flattened to two dimensions first, so that the transposed weight stays a view on every backend.
pub(super) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    low_rank: &[LowRank],
    epilogue: Epilogue,
    bf16: Bf16Gemm,
) -> Tensor<D> {
    let mut dims = x.dims();
    let [d_output, d_input] = weight.dims();
    let rows = dims[..D - 1].iter().product();
    let x: Tensor<2> = x.reshape([rows, d_input]);
    let terms = low_rank.iter().map(|term| term.forward(x.clone()));
    let y = match terms.reduce(|sum, term| sum + term) {
        Some(terms) => {
            let y = kernels::linear(x, weight, bias, Epilogue::None, bf16) + terms; // [rows, out]
            match epilogue {
                Epilogue::None => y,
                Epilogue::Silu => silu(y),
            }
        }
        None => kernels::linear(x, weight, bias, epilogue, bf16), // [rows, out]
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
