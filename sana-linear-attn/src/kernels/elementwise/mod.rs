pub(super) mod cast;
use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use super::flex;
use super::plain;

/// `x * sigmoid(x)`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::elementwise(&x) {
        return flex::backend::differentiable::silu(x);
    }
    burn::tensor::activation::silu(x)
}

/// `x + y` of equal shapes, on the CPU by all cores.
pub fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::same_shape(&x, &y) {
        return flex::backend::inference::add(x, y);
    }
    x + y
}

/// The gate of a gated linear unit: with `x = [value | gate]` along the last axis,
/// `value * silu(gate)`.
///
/// # Shapes
/// - `x` `[batch, tokens, 2 * channels]`
/// - result `[batch, tokens, channels]`
pub fn silu_gate(x: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::silu_gate(&x) {
        return flex::backend::differentiable::silu_gate(x);
    }
    plain::silu_gate(x)
}

/// The gate of Gemma's feed-forward: `gelu(gate) * up` with the tanh form of GELU,
///
/// ```text
/// gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
/// ```
///
/// in f32, cast back once before the product.
///
/// # Shapes
/// - `gate`, `up` and result `[batch, tokens, channels]`
pub fn gelu_gate(gate: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::same_shape(&gate, &up) {
        return flex::backend::inference::gelu_gate(gate, up);
    }
    plain::gelu_gate(gate, up)
}
