use burn::tensor::{DType, Tensor};

#[cfg(feature = "cubecl-backend")]
use super::cube;
#[cfg(feature = "flex")]
use super::{on_flex_untracked, shapes};

/// Layer norm without learnt scale or shift over the last axis:
/// `(x - mean) / sqrt(var + eps)`, the variance biased, in f32, cast back once.
///
/// # Shapes
/// - `x` and result `[.., channels]`
pub fn layer_norm<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().square().mean_dim(D - 1);
    (centred / (variance + eps).sqrt()).cast(dtype)
}

/// `layer_norm(x) * (1 + scale) + shift`.
///
/// # Shapes
/// - `x` and result `[batch, tokens, channels]`
/// - `scale`, `shift` `[batch, 1, channels]`
pub fn norm_modulate(x: Tensor<3>, scale: Tensor<3>, shift: Tensor<3>, eps: f64) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if [&x, &scale, &shift].into_iter().all(on_flex_untracked)
        && shapes::of_items(&x, &scale)
        && shapes::of_items(&x, &shift)
    {
        return super::inference::norm_modulate(x, scale, shift, eps);
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::supports::norm_modulate(&x, &scale, &shift) {
        return cube::norm_modulate(x, scale, shift, eps);
    }
    norm_modulate_plain(x, scale, shift, eps)
}

/// [`norm_modulate`] in plain tensor operations.
pub fn norm_modulate_plain(
    x: Tensor<3>,
    scale: Tensor<3>,
    shift: Tensor<3>,
    eps: f64,
) -> Tensor<3> {
    layer_norm(x, eps) * (scale + 1.0) + shift
}

/// `x + gate * y`.
///
/// # Shapes
/// - `x`, `y` and result `[batch, tokens, channels]`
/// - `gate` `[batch, 1, channels]`
pub fn gated_residual(x: Tensor<3>, gate: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if [&x, &gate, &y].into_iter().all(on_flex_untracked)
        && x.dims() == y.dims()
        && shapes::of_items(&x, &gate)
    {
        return super::inference::gated_residual(x, gate, y);
    }
    gated_residual_plain(x, gate, y)
}

/// [`gated_residual`] in plain tensor operations.
pub fn gated_residual_plain(x: Tensor<3>, gate: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    x + gate * y
}
