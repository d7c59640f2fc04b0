use burn::tensor::{DType, Tensor};

#[cfg(feature = "cubecl-backend")]
use super::cube;
#[cfg(feature = "flex")]
use super::{on_flex, on_flex_untracked, shapes};

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
    if on_flex(&x) && shapes::affine(&x, &weight, bias.as_ref(), axis) {
        let weight = super::cast(weight, DType::F32);
        let bias = bias.map(|bias| super::cast(bias, DType::F32));
        if let Some(bias) = &bias
            && on_flex_untracked(&x)
            && on_flex_untracked(&weight)
            && on_flex_untracked(bias)
        {
            return super::inference::rms_norm(x, weight, bias.clone(), None, eps, axis);
        }
        let y = super::ops::rms_norm(x, weight, eps, axis);
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
    if cube::supports::rms_norm(&x, &weight, bias.as_ref(), axis) {
        return cube::rms_norm(x, weight, bias, eps, axis);
    }
    rms_norm_channels_plain(x, weight, bias, eps, axis)
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
        && on_flex_untracked(&x)
        && on_flex_untracked(&residual)
        && x.dims() == residual.dims()
        && shapes::affine(&x, &weight, Some(bias), axis)
    {
        let [weight, bias] = [weight.clone(), bias.clone()].map(|x| super::cast(x, DType::F32));
        if on_flex_untracked(&weight) && on_flex_untracked(&bias) {
            return super::inference::rms_norm(x, weight, bias, Some(residual), eps, axis);
        }
    }
    #[cfg(feature = "cubecl-backend")]
    if let Some(bias) = &bias
        && cube::supports::rms_norm_residual(&x, &weight, bias, &residual, axis)
    {
        return cube::rms_norm_residual(x, weight, bias.clone(), residual, eps, axis);
    }
    super::add(rms_norm_channels(x, weight, bias, eps, axis), residual)
}

/// [`rms_norm_channels`] in plain tensor operations.
pub fn rms_norm_channels_plain<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Option<Tensor<1>>,
    eps: f64,
    axis: usize,
) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mut broadcast = [1; D];
    broadcast[axis] = x.dims()[axis];
    let mean_square = x.clone().square().mean_dim(axis);
    let scale = weight.cast(DType::F32).reshape(broadcast);
    let y = x / (mean_square + eps).sqrt() * scale;
    let y = match bias {
        Some(bias) => y + bias.cast(DType::F32).reshape(broadcast),
        None => y,
    };
    y.cast(dtype)
}
