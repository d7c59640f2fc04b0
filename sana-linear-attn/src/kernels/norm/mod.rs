pub(super) mod modulate;
#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::Tensor;

#[cfg(feature = "cubecl-backend")]
use super::cube;
use super::elementwise::add;
#[cfg(feature = "flex")]
use super::flex;
use super::plain;
#[cfg(feature = "flex")]
use crate::kernels::elementwise::cast::cast;

/// RMS norm along one axis with scale and optional shift:
/// `x / sqrt(mean(x^2) + eps) * weight + bias`, in f32, cast back once.
///
/// # Shapes
/// - `x` and result: any, `channels` along `axis`
/// - `weight`, `bias` `[channels]`
pub fn rms_norm_channels<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if flex::backend::supports::rms_norm(&x, &weight, bias.as_ref(), axis) {
        let weight = cast(weight, DType::F32);
        let bias = bias.map(|bias| cast(bias, DType::F32));
        if let Some(bias) = &bias
            && flex::backend::supports::untracked(&x)
            && flex::backend::supports::untracked(&weight)
            && flex::backend::supports::untracked(bias)
        {
            return flex::backend::inference::rms_norm(x, weight, bias.clone(), None, eps, axis);
        }
        let y = flex::backend::differentiable::rms_norm(x, weight, eps, axis);
        return match bias {
            Some(bias) => {
                let mut broadcast = [1; D];
                broadcast[axis] = bias.dims()[0];
                y + bias.reshape(broadcast)
            }
            None => y,
        };
    }
    #[cfg(feature = "cubecl-backend")]
    if cube::backend::supports::rms_norm(&x, &weight, bias.as_ref(), axis) {
        return cube::backend::inference::rms_norm(x, weight, bias, eps, axis);
    }
    plain::rms_norm_channels(x, weight, bias, eps, axis)
}

/// [`rms_norm_channels`] with scale and shift, added to `residual`.
///
/// # Shapes
/// - `x`, `residual` and result: any, `channels` along `axis`
/// - `weight`, `bias` `[channels]`
pub fn rms_norm_residual<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    residual: Tensor<D>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(bias) = &bias
        && flex::backend::supports::rms_norm_residual(&x, &weight, bias, &residual, axis)
    {
        let [weight, bias] = [weight.clone(), bias.clone()].map(|x| cast(x, DType::F32));
        if flex::backend::supports::untracked(&weight) && flex::backend::supports::untracked(&bias)
        {
            return flex::backend::inference::rms_norm(x, weight, bias, Some(residual), eps, axis);
        }
    }
    #[cfg(feature = "cubecl-backend")]
    if let Some(bias) = &bias
        && cube::backend::supports::rms_norm_residual(&x, &weight, bias, &residual, axis)
    {
        return cube::backend::inference::rms_norm_residual(
            x,
            weight,
            bias.clone(),
            residual,
            eps,
            axis,
        );
    }
    add(rms_norm_channels(x, weight, bias, eps, axis), residual)
}
