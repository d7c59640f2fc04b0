//! The training side of flow matching: noised samples, their target, and the noise levels to draw.
//!
//! Sana, arXiv 2410.10629, flow-based training; the logit-normal noise levels are those of Esser et al., arXiv
//! 2403.03206.

use burn::tensor::{DType, Tensor, TensorData};
use rand::Rng;

use crate::{
    SamplerError, noise,
    schedule::{checks::check_shift, shift_sigma},
};

/// The sample at the noise level of each image: `x = (1 - sigma) x0 + sigma noise`.
///
/// Computed in f32, given back in the dtype of `x0`. Image-to-image starts the same way, with the
/// first sigma of its schedule for every image.
///
/// # Shapes
/// - `x0`, `noise`, the result: `[batch, ..]`
/// - `sigmas`: one in `[0, 1]` for each sample of the batch
///
/// # Errors
/// [`SamplerError::ShapeMismatch`], [`SamplerError::SigmaCount`] or [`SamplerError::SigmaOutOfRange`].
pub fn interpolate<const D: usize>(
    x0: Tensor<D>,
    noise: Tensor<D>,
    sigmas: &[f64],
) -> Result<Tensor<D>, SamplerError> {
    check_shape("the noise", &x0, &noise)?;
    let batch = x0.dims()[0];
    if sigmas.len() != batch {
        return Err(SamplerError::SigmaCount {
            batch,
            found: sigmas.len(),
        });
    }
    if let Some(index) = sigmas.iter().position(|s| !(0.0..=1.0).contains(s)) {
        return Err(SamplerError::SigmaOutOfRange {
            index,
            found: sigmas[index],
        });
    }
    let dtype = x0.dtype();
    let mut shape = [1; D];
    shape[0] = batch;
    let factor = |of: fn(f64) -> f64| {
        let values: Vec<f32> = sigmas.iter().map(|&sigma| of(sigma) as f32).collect();
        Tensor::<D>::from_data(TensorData::new(values, shape), (&x0.device(), DType::F32))
    };
    let (signal, level) = (factor(|sigma| 1.0 - sigma), factor(|sigma| sigma));
    Ok((x0.cast(DType::F32) * signal + noise.cast(DType::F32) * level).cast(dtype))
}

/// The velocity of the path from the clean sample to the noise, what the network learns:
/// `noise - x0`.
///
/// # Shapes
/// - `x0`, `noise`, the result: any one shape
///
/// # Errors
/// [`SamplerError::ShapeMismatch`] if the two differ in shape.
pub fn velocity_target<const D: usize>(
    x0: Tensor<D>,
    noise: Tensor<D>,
) -> Result<Tensor<D>, SamplerError> {
    check_shape("the noise", &x0, &noise)?;
    Ok(noise - x0)
}

/// The flow-matching loss: the mean over all elements of `(velocity - target)^2`, in f32.
///
/// # Shapes
/// - `velocity`, `target`: any one shape
/// - the result: `[1]`
///
/// # Errors
/// [`SamplerError::ShapeMismatch`] if the two differ in shape.
pub fn loss<const D: usize>(
    velocity: Tensor<D>,
    target: Tensor<D>,
) -> Result<Tensor<1>, SamplerError> {
    check_shape("the target", &velocity, &target)?;
    let difference = velocity.cast(DType::F32) - target.cast(DType::F32);
    Ok(difference.square().mean())
}

/// The distribution of noise levels in training: a logit-normal one, then the flow shift.
///
/// ```text
/// sigma = shift(1 / (1 + exp(-(mean + std n)))),    n ~ N(0, 1)
/// ```
///
/// Sana trains with mean 0, standard deviation 1 and the shift that it samples with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitNormal {
    mean: f64,
    std: f64,
    shift: f64,
}

impl LogitNormal {
    /// A logit of this mean and standard deviation, without a shift.
    ///
    /// # Errors
    /// A mean that is not finite, or a standard deviation that is not positive and finite.
    pub fn new(mean: f64, std: f64) -> Result<Self, SamplerError> {
        if mean.is_finite() && std > 0.0 && std.is_finite() {
            Ok(Self {
                mean,
                std,
                shift: 1.0,
            })
        } else {
            Err(SamplerError::InvalidLogitNormal { mean, std })
        }
    }

    /// The same distribution followed by [`shift_sigma`].
    ///
    /// # Errors
    /// A shift that is not positive and finite.
    pub fn with_shift(self, shift: f64) -> Result<Self, SamplerError> {
        check_shift(shift)?;
        Ok(Self { shift, ..self })
    }

    /// The noise level that a unit normal number maps to, in `[0, 1]`.
    pub fn sigma(&self, normal: f64) -> f64 {
        let logit = self.mean + self.std * normal;
        shift_sigma(1.0 / (1.0 + (-logit).exp()), self.shift)
    }

    /// Draws `count` noise levels. A generator made of the seed and the training step
    /// ([`noise::generator`]) makes a run resumable without a state to save.
    pub fn sample<R: Rng>(&self, generator: &mut R, count: usize) -> Vec<f64> {
        noise::normals(generator)
            .take(count)
            .map(|normal| self.sigma(normal))
            .collect()
    }
}

pub(crate) fn check_shape<const D: usize>(
    name: &'static str,
    like: &Tensor<D>,
    tensor: &Tensor<D>,
) -> Result<(), SamplerError> {
    if tensor.dims() == like.dims() {
        Ok(())
    } else {
        Err(SamplerError::ShapeMismatch {
            name,
            expected: like.dims().to_vec(),
            found: tensor.dims().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn batch(values: [[f32; 2]; 3]) -> Tensor<2> {
        Tensor::from_floats(values, &Device::flex())
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn interpolates_each_sample_at_its_own_level() {
        let x0 = batch([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]);
        let noise = batch([[-3.0, 4.0], [-3.0, 4.0], [-3.0, 4.0]]);
        let x = interpolate(x0, noise, &[0.0, 0.25, 1.0]).unwrap();
        assert_eq!(numbers(x), [1.0, 2.0, 0.0, 2.5, -3.0, 4.0]);
    }

    /// The velocity leads back from any point of the path to its clean end.
    #[test]
    fn the_target_is_the_velocity_of_the_path() {
        let x0 = batch([[0.5, -1.0], [0.25, 3.0], [2.0, 0.0]]);
        let noise = batch([[1.5, 1.0], [-0.75, 0.5], [-2.0, 1.0]]);
        let x = interpolate(x0.clone(), noise.clone(), &[0.5; 3]).unwrap();
        let velocity = velocity_target(x0.clone(), noise).unwrap();
        assert_eq!(numbers(x - velocity * 0.5), numbers(x0));
    }

    #[test]
    fn interpolation_keeps_the_dtype_of_the_data() {
        let x0 = batch([[1.0; 2]; 3]).cast(DType::F16);
        let noise = batch([[-1.0; 2]; 3]);
        let x = interpolate(x0, noise, &[0.5; 3]).unwrap();
        assert_eq!(x.dtype(), DType::F16);
        assert_eq!(numbers(x.cast(DType::F32)), [0.0; 6]);
    }

    #[test]
    fn the_loss_is_the_mean_square() {
        let velocity = batch([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        let target = batch([[1.0, 1.0], [1.0, 4.0], [5.0, 3.0]]);
        let loss = loss(velocity, target).unwrap();
        assert_eq!(numbers(loss), [14.0 / 6.0]);
    }

    #[test]
    fn the_gradient_of_the_loss() {
        let device = Device::flex().autodiff();
        let velocity = Tensor::<1>::from_floats([1.0, 4.0], &device).require_grad();
        let target = Tensor::<1>::from_floats([2.0, 1.0], &device);
        let gradients = loss(velocity.clone(), target).unwrap().backward();
        assert_eq!(numbers(velocity.grad(&gradients).unwrap()), [-1.0, 3.0]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let x0 = batch([[0.0; 2]; 3]);
        let short = Tensor::<2>::zeros([1, 2], &Device::flex());
        let mismatch = |name| SamplerError::ShapeMismatch {
            name,
            expected: vec![3, 2],
            found: vec![1, 2],
        };
        let error = interpolate(x0.clone(), short.clone(), &[0.5; 3]).unwrap_err();
        assert_eq!(error, mismatch("the noise"));
        let error = velocity_target(x0.clone(), short.clone()).unwrap_err();
        assert_eq!(error, mismatch("the noise"));
        let error = loss(x0.clone(), short).unwrap_err();
        assert_eq!(error, mismatch("the target"));
        let error = interpolate(x0.clone(), x0.clone(), &[0.5]).unwrap_err();
        assert_eq!(error, SamplerError::SigmaCount { batch: 3, found: 1 });
        for found in [-0.1, 1.1] {
            let error = interpolate(x0.clone(), x0.clone(), &[0.5, found, 0.5]).unwrap_err();
            assert_eq!(error, SamplerError::SigmaOutOfRange { index: 1, found });
        }
        assert!(matches!(
            interpolate(x0.clone(), x0, &[0.5, 0.5, f64::NAN]),
            Err(SamplerError::SigmaOutOfRange { index: 2, .. })
        ));
    }

    #[test]
    fn logit_normal_levels() {
        let plain = LogitNormal::new(0.0, 1.0).unwrap();
        assert_eq!(plain.sigma(0.0), 0.5);
        assert_eq!(plain.sigma(f64::INFINITY), 1.0);
        assert_eq!(plain.sigma(f64::NEG_INFINITY), 0.0);
        let shifted = plain.with_shift(3.0).unwrap();
        assert_eq!(shifted.sigma(0.0), 0.75);
        let moved = LogitNormal::new(-0.6, 2.0).unwrap();
        assert!((moved.sigma(0.8) - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-15);
    }

    /// The logit of the drawn levels has the mean and standard deviation asked for. The bounds are
    /// five standard errors of 20,000 draws.
    #[test]
    fn logit_normal_moments() {
        let (mean, std, count) = (0.4, 1.3, 20_000);
        let distribution = LogitNormal::new(mean, std).unwrap();
        let mut generator = noise::generator(7, 0, noise::Stream::Other(0));
        let logits: Vec<f64> = distribution
            .sample(&mut generator, count)
            .into_iter()
            .map(|sigma| (sigma / (1.0 - sigma)).ln())
            .collect();
        let measured = logits.iter().sum::<f64>() / count as f64;
        let variance = logits.iter().map(|l| (l - measured).powi(2)).sum::<f64>() / count as f64;
        let error = std / (count as f64).sqrt();
        assert!((measured - mean).abs() < 5.0 * error, "{measured}");
        assert!((variance.sqrt() - std).abs() < 5.0 * error / 2f64.sqrt());
    }

    #[test]
    fn refuses_bad_distributions() {
        for (mean, std) in [(0.0, 0.0), (0.0, -1.0), (f64::INFINITY, 1.0)] {
            assert_eq!(
                LogitNormal::new(mean, std),
                Err(SamplerError::InvalidLogitNormal { mean, std })
            );
        }
        for (mean, std) in [(f64::NAN, 1.0), (0.0, f64::NAN)] {
            assert!(LogitNormal::new(mean, std).is_err());
        }
        assert_eq!(
            LogitNormal::new(0.0, 1.0).unwrap().with_shift(0.0),
            Err(SamplerError::InvalidShift { found: 0.0 })
        );
    }
}
