use burn::tensor::Tensor;

use crate::kernels::elementwise::cast::cast;
#[cfg(feature = "flex")]
use crate::kernels::flex;
use crate::kernels::linear::epilogue::Epilogue;
use crate::kernels::plain;
use crate::quantization::QuantizedMatrix;

/// `x W^T + b` with a quantized weight, then a function of each element, in the dtype of `x`. A bias
/// of another dtype is cast to that of `x`.
///
/// On the CPU rows of f32 are quantized too, each to 8 bits with a scale of its own, and multiplied in
/// integers; a weight of 4 bits is [rounded to 8](crate::quantization::Uint4Groups::to_int8) for that.
/// Elsewhere, and where `x` tracks gradients, the weight is dequantized and multiplied as floats.
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
    let bias = bias.map(|bias| cast(bias, x.dtype()));
    #[cfg(feature = "flex")]
    if flex::backend::supports::quantized_linear(&x, weight, bias.as_ref()) {
        return flex::backend::inference::quantized_linear(
            x,
            weight,
            bias,
            epilogue == Epilogue::Silu,
        );
    }
    plain::quantized_linear(x, weight, bias, epilogue)
}
