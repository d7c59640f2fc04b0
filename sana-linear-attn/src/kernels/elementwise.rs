use burn::tensor::{DType, Tensor};

#[cfg(feature = "flex")]
use super::{on_flex, on_flex_untracked};

/// `x * sigmoid(x)`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if on_flex(&x) {
        return super::ops::silu(x);
    }
    burn::tensor::activation::silu(x)
}

/// `x + y` of equal shapes, on the CPU by all cores.
pub fn add<const D: usize>(x: Tensor<D>, y: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if x.dims() == y.dims() && on_flex_untracked(&x) && on_flex_untracked(&y) {
        return super::inference::add(x, y);
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
    if on_flex(&x) && x.dims()[2].is_multiple_of(2) {
        return super::ops::silu_gate(x);
    }
    silu_gate_plain(x)
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
    if gate.dims() == up.dims() && on_flex_untracked(&gate) && on_flex_untracked(&up) {
        return super::inference::gelu_gate(gate, up);
    }
    gelu_gate_plain(gate, up)
}

/// [`gelu_gate`] in plain tensor operations. The cube is a product: shader `pow` is undefined for
/// negative bases.
pub fn gelu_gate_plain(gate: Tensor<3>, up: Tensor<3>) -> Tensor<3> {
    const SQRT_2_OVER_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let dtype = gate.dtype();
    let x = gate.cast(DType::F32);
    let inner = (x.clone().square() * (0.044715 * SQRT_2_OVER_PI) + SQRT_2_OVER_PI) * x.clone();
    ((inner.tanh() + 1.0) * x * 0.5).cast(dtype) * up
}

/// [`silu_gate`] in plain tensor operations.
pub fn silu_gate_plain(x: Tensor<3>) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let value = x.clone().narrow(2, 0, half);
    let gate = x.narrow(2, half, half);
    value * burn::tensor::activation::silu(gate)
}
