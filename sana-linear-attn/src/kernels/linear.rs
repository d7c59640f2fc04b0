use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use super::on_flex_untracked;
use super::silu;

/// What is applied to each element of a layer's output before it leaves the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Epilogue {
    /// Nothing.
    #[default]
    None,
    /// `x * sigmoid(x)`.
    Silu,
}

/// `x W^T + b`, then a function of each element.
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
    #[cfg(feature = "flex")]
    {
        let kernel = on_flex_untracked(&x) && on_flex_untracked(&weight);
        if kernel && bias.as_ref().is_none_or(on_flex_untracked) {
            return super::inference::linear(x, weight, bias, epilogue == Epilogue::Silu);
        }
    }
    linear_plain(x, weight, bias, epilogue)
}

/// [`linear`] in plain tensor operations.
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
