use burn::tensor::Tensor;

use super::epilogue::Epilogue;
use super::linear::linear;
use crate::precision::Bf16Gemm;
use crate::quantization::QuantizedMatrix;

/// `x W^T + b` with a quantized weight, then a function of each element, in the dtype of `x`.
///
/// A bias of another dtype is cast to that of `x`.
///
/// # Shapes
/// - `x` `[rows, in]`
/// - `weight` `[out, in]`, `bias` `[out]`
/// - result `[rows, out]`
pub fn quantized_linear(
    x: Tensor<2>,
    weight: &QuantizedMatrix,
    bias: Option<Tensor<1>>,
    epilogue: Epilogue,
) -> Tensor<2> {
    let weight = weight.dequantize(x.dtype());
    linear(x, weight, bias, epilogue, Bf16Gemm::Widened)
}
