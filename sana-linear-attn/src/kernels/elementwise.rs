use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use super::on_flex;

/// `x * sigmoid(x)`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if on_flex(&x) {
        return super::ops::silu(x);
    }
    burn::tensor::activation::silu(x)
}

/// The gate of a gated linear unit: with `x = [value | gate]` along the last axis,
/// `value * silu(gate)`.
///
/// # Shapes
/// - `x` `[batch, tokens, 2 * channels]`
/// - result `[batch, tokens, channels]`
pub fn silu_gate(x: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if on_flex(&x) {
        return super::ops::silu_gate(x);
    }
    silu_gate_plain(x)
}

/// [`silu_gate`] in plain tensor operations.
pub fn silu_gate_plain(x: Tensor<3>) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let value = x.clone().narrow(2, 0, half);
    let gate = x.narrow(2, half, half);
    value * burn::tensor::activation::silu(gate)
}
