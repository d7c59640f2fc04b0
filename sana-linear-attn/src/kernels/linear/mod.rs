pub(super) mod epilogue;
pub(super) mod quantized_linear;
use burn::tensor::Tensor;

use super::elementwise::silu;
#[cfg(feature = "flex")]
use super::flex;
use super::plain;
use crate::kernels::elementwise::cast::cast;
use crate::kernels::linear::epilogue::Epilogue;
use crate::precision::Bf16Gemm;

/// `x W^T + b`, then a function of each element, in the dtype of `x`.
///
/// A weight or bias of another dtype is cast to it. But f32 rows are multiplied by a bf16 weight in
/// bf16, with f32 sums, where `bf16` is [`Bf16Gemm::Native`] and the processor can: `x` is rounded
/// to bf16 then, and the weight is read as it is.
///
/// # Shapes
/// - `x` `[rows, in]`
/// - `weight` `[out, in]`, `bias` `[out]`
/// - result `[rows, out]`
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    epilogue: Epilogue,
    bf16: Bf16Gemm,
) -> Tensor<2> {
    let bias = bias.map(|bias| cast(bias, x.dtype()));
    #[cfg(feature = "flex")]
    if bf16 == Bf16Gemm::Native && flex::backend::supports::bf16_linear(&x, &weight, bias.as_ref())
    {
        return flex::backend::inference::linear(x, weight, bias, epilogue == Epilogue::Silu);
    }
    #[cfg(not(feature = "flex"))]
    let _ = bf16;
    let weight = cast(weight, x.dtype());
    #[cfg(feature = "flex")]
    if flex::backend::supports::linear(&x, &weight, bias.as_ref()) {
        return flex::backend::inference::linear(x, weight, bias, epilogue == Epilogue::Silu);
    }
    let y = plain::linear(x, weight, bias, Epilogue::None);
    match epilogue {
        Epilogue::None => y,
        Epilogue::Silu => silu(y),
    }
}

/// A grouped 1x1 convolution of tokens without bias: group `g` of `size` channels is
/// `x_g W_g^T`.
///
/// # Shapes
/// - `x` and result `[batch, tokens, channels]`
/// - `weight` `[channels, size]`, the groups' `[size, size]` below each other
pub fn grouped_linear(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::grouped_linear(&x, &weight) {
        return flex::backend::inference::grouped_linear(x, weight);
    }
    plain::grouped_linear(x, weight)
}
