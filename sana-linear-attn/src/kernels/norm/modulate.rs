use burn::tensor::Tensor;

#[cfg(feature = "cubecl-backend")]
use crate::kernels::cube;
#[cfg(feature = "flex")]
use crate::kernels::flex;
use crate::kernels::plain;

/// `layer_norm(x) * (1 + scale) + shift`.
///
/// # Shapes
/// - `x` and result `[batch, tokens, channels]`
/// - `scale`, `shift` `[batch, 1, channels]`
pub fn norm_modulate(x: Tensor<3>, scale: Tensor<3>, shift: Tensor<3>, eps: f64) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::norm_modulate(&x, &scale, &shift) {
        return flex::backend::inference::norm_modulate(x, scale, shift, eps);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::backend::supports::norm_modulate(&x, &scale, &shift) {
        return cube::backend::inference::norm_modulate(x, scale, shift, eps);
    }
    plain::norm_modulate(x, scale, shift, eps)
}

/// `x + gate * y`.
///
/// # Shapes
/// - `x`, `y` and result `[batch, tokens, channels]`
/// - `gate` `[batch, 1, channels]`
pub fn gated_residual(x: Tensor<3>, gate: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::gated_residual(&x, &gate, &y) {
        return flex::backend::inference::gated_residual(x, gate, y);
    }
    plain::gated_residual(x, gate, y)
}
