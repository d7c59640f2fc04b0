use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use super::on_flex_untracked;
use super::{cast, silu};

/// What is applied to each element of a layer's output before it leaves the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Epilogue {
    /// Nothing.
    #[default]
    None,
    /// `x * sigmoid(x)`.
    Silu,
}

/// `x W^T + b`, then a function of each element, in the dtype of `x`.
///
/// A weight or bias of another dtype is cast to it. But f32 rows times a bf16 weight are a product of
/// bf16 with f32 sums where [`bf16_products`](crate::precision::bf16_products) says so: `x` is
/// rounded to bf16 then, and the weight is read as it is.
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
) -> Tensor<2> {
    let bias = bias.map(|bias| cast(bias, x.dtype()));
    #[cfg(feature = "flex")]
    let takes = on_flex_untracked(&x)
        && bias.as_ref().is_none_or(on_flex_untracked)
        && super::shapes::linear(&x, &weight, bias.as_ref());
    #[cfg(feature = "flex")]
    if takes && is_multiplied_as_stored(&weight) {
        return super::inference::linear(x, weight, bias, epilogue == Epilogue::Silu);
    }
    let weight = cast(weight, x.dtype());
    #[cfg(feature = "flex")]
    if takes && on_flex_untracked(&weight) {
        return super::inference::linear(x, weight, bias, epilogue == Epilogue::Silu);
    }
    linear_plain(x, weight, bias, epilogue)
}

/// A grouped 1x1 convolution of tokens without bias: group `g` of `size` channels is
/// `x_g W_g^T`.
///
/// # Shapes
/// - `x` and result `[batch, tokens, channels]`
/// - `weight` `[channels, size]`, the groups' `[size, size]` below each other
pub fn grouped_linear(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if on_flex_untracked(&x)
        && on_flex_untracked(&weight)
        && super::shapes::grouped_linear(&x, &weight)
    {
        return super::inference::grouped_linear(x, weight);
    }
    grouped_linear_plain(x, weight)
}

/// [`grouped_linear`] in plain tensor operations: a batched product, since burn's GPU backends
/// have only a slow direct kernel for grouped convolutions.
pub fn grouped_linear_plain(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let [batch, tokens, channels] = x.dims();
    let [_, size] = weight.dims();
    let groups = channels / size;
    let weight = weight.reshape([groups, size, size]).swap_dims(1, 2); // [groups, in, out]
    let x = x.reshape([batch * tokens, groups, size]).swap_dims(0, 1); // [groups, batch * tokens, in]
    x.matmul(weight)
        .swap_dims(0, 1)
        .reshape([batch, tokens, channels])
}

/// Whether the CPU kernel multiplies f32 rows with a weight in bf16.
#[cfg(feature = "flex")]
fn is_multiplied_as_stored(weight: &Tensor<2>) -> bool {
    weight.dtype() == burn::tensor::DType::BF16
        && !weight.is_autodiff()
        && crate::precision::bf16_products()
        && super::inference::takes_bf16(weight.dims()[1])
}

/// [`linear`] in plain tensor operations, all of one dtype.
pub fn linear_plain(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    epilogue: Epilogue,
) -> Tensor<2> {
    let y = x.matmul(weight.transpose()); // [rows, out]
    let y = match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    };
    match epilogue {
        Epilogue::None => y,
        Epilogue::Silu => silu(y),
    }
}
