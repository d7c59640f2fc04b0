use burn::tensor::Tensor;

#[cfg(feature = "cubecl-backend")]
use crate::kernels::cube;
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
/// On GPUs the weight is dequantized to the dtype of `x` inside the matmul, tile by tile, with scales that are
/// rounded to that dtype. That needs rows of whole 32-bit words, for 4 bits groups of whole words. Elsewhere,
/// and where `x` tracks gradients, the whole weight is dequantized and multiplied as floats.
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
    #[cfg(feature = "cubecl-backend")]
    if cube::backend::supports::quantized_linear(&x, weight) {
        let y = cube::backend::inference::quantized_linear(x, weight);
        return plain::finish(y, bias, epilogue);
    }
    plain::quantized_linear(x, weight, bias, epilogue)
}

/// A weight in a form that [`quantized_linear`] has a kernel for on its device: on GPUs 4 bits in groups that are
/// not whole 32-bit words, as those of 70 of 5600 inputs, are [rounded to
/// 8](crate::quantization::Uint4Groups::to_int8).
pub(crate) fn for_its_device(weight: QuantizedMatrix) -> QuantizedMatrix {
    #[cfg(feature = "cubecl-backend")]
    if let QuantizedMatrix::Uint4Groups(groups) = &weight
        && cube::backend::supports::is_gpu(&weight.device())
        && !cube::backend::supports::quantized_weight(&weight)
    {
        return QuantizedMatrix::Int8Rows(groups.to_int8());
    }
    weight
}
