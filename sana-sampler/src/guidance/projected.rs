use burn::tensor::{DType, Tensor};

use crate::SamplerError;

/// Keeps quotients finite where a prediction or a difference is 0.
const SMALLEST_SQUARE: f64 = 1e-24;

/// Options of adaptive projected guidance; see [`ProjectedGuidance`].
///
/// ```
/// use sana_sampler::AdaptiveProjection;
///
/// let paper = AdaptiveProjection::default();
/// assert_eq!((paper.eta(), paper.norm(), paper.momentum()), (0.0, 15.0, -0.5));
/// // classifier-free guidance
/// let plain = AdaptiveProjection::new(1.0, f64::INFINITY, 0.0)?;
/// # let _ = plain;
/// # Ok::<(), sana_sampler::SamplerError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveProjection {
    eta: f64,
    norm: f64,
    momentum: f64,
}

impl AdaptiveProjection {
    /// - `eta` at least 0: the weight of the part parallel to the conditional prediction. 0 leaves
    ///   it out, 1 keeps it as it is.
    /// - `norm` above 0: the largest norm that the difference of the predictions may have;
    ///   infinity is no limit. It grows as the square root of the number of latents.
    /// - `momentum` between -1 and 1: the weight of the earlier steps' differences; negative values
    ///   push away from them.
    ///
    /// # Errors
    /// [`SamplerError::InvalidProjection`] for values out of these ranges.
    pub fn new(eta: f64, norm: f64, momentum: f64) -> Result<Self, SamplerError> {
        let refused =
            |name, range, found| Err(SamplerError::InvalidProjection { name, range, found });
        if !(eta >= 0.0 && eta.is_finite()) {
            return refused("eta", "finite and at least 0", eta);
        }
        if norm.is_nan() || norm <= 0.0 {
            return refused("norm", "above 0", norm);
        }
        if !(-1.0 < momentum && momentum < 1.0) {
            return refused("momentum", "between -1 and 1", momentum);
        }
        Ok(Self {
            eta,
            norm,
            momentum,
        })
    }

    /// The weight of the parallel part.
    pub fn eta(&self) -> f64 {
        self.eta
    }

    /// The largest norm of the difference.
    pub fn norm(&self) -> f64 {
        self.norm
    }

    /// The weight of the earlier steps.
    pub fn momentum(&self) -> f64 {
        self.momentum
    }
}

impl Default for AdaptiveProjection {
    /// Eta 0, norm 15, momentum -0.5: the paper's values for SDXL (its table 10), whose latents of
    /// an image of 1024 pixels are twice as many as those of a 32x autoencoder with 32 channels.
    fn default() -> Self {
        Self {
            eta: 0.0,
            norm: 15.0,
            momentum: -0.5,
        }
    }
}

/// Adaptive projected guidance (Sadat et al., arXiv 2410.02416) of one sampling run: classifier-free
/// guidance without the part that makes images oversaturated at large scales. With the
/// predictions `u` and `c` of the image, in f32, and norms and products over each image:
///
/// ```text
/// d = c - u + momentum d_before            the difference, with a running sum of earlier ones
/// d = d min(1, norm / |d|)                 no longer than the threshold
/// d_par = (<d, c> / <c, c>) c              its part along c, which mostly changes the contrast
/// guided = c + (scale - 1) (d - d_par + eta d_par)
/// ```
///
/// With eta 1, no threshold and no momentum this is [`classifier_free`](crate::classifier_free).
///
/// It works on the prediction of the clean image, as the paper has it, and not on the velocity,
/// as the code of Sana's repository does. A velocity is noise minus image, so at large noise
/// levels the part along it is mostly the part along the noise, and neither the threshold nor the
/// momentum would mean the same from one noise level to the next.
/// [`combine_velocities`](Self::combine_velocities) converts.
///
/// It holds the running sum, so every run has its own.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use sana_sampler::{AdaptiveProjection, ProjectedGuidance};
///
/// let row = |values: [f32; 2]| Tensor::<2>::from_floats([values], &Device::flex());
/// let mut guidance = ProjectedGuidance::<2>::new(5.0, AdaptiveProjection::default());
/// // The difference [1, 1] has the part [1, 0] along c: what is left is [0, 1], four times.
/// let guided = guidance.combine(row([1.0, -1.0]), row([2.0, 0.0]));
/// assert_eq!(guided.into_data().try_to_vec::<f32>().unwrap(), [2.0, 4.0]);
/// ```
#[derive(Debug, Clone)]
pub struct ProjectedGuidance<const D: usize> {
    scale: f64,
    options: AdaptiveProjection,
    running: Option<Tensor<D>>,
}

impl<const D: usize> ProjectedGuidance<D> {
    /// The start of a run with a guidance scale, such as [`Guidance::scale`](crate::Guidance::scale).
    pub fn new(scale: f64, options: AdaptiveProjection) -> Self {
        Self {
            scale,
            options,
            running: None,
        }
    }

    /// The guided prediction of one step, of predictions of the clean image.
    ///
    /// # Shapes
    /// - `unconditional`, `conditional`, the result: any one shape, the first axis of which is the
    ///   batch
    ///
    /// # Panics
    /// If they differ in shape, or from those of the step before.
    pub fn combine(&mut self, unconditional: Tensor<D>, conditional: Tensor<D>) -> Tensor<D> {
        assert_eq!(
            unconditional.dims(),
            conditional.dims(),
            "the two predictions must agree in shape"
        );
        let AdaptiveProjection {
            eta,
            norm,
            momentum,
        } = self.options;
        let conditional = conditional.cast(DType::F32);
        let difference = conditional.clone() - unconditional.cast(DType::F32);
        let difference = match self.running.take() {
            Some(running) => difference + running.mul_scalar(momentum),
            None => difference,
        };
        if momentum != 0.0 {
            self.running = Some(difference.clone());
        }
        let difference = shortened(difference, norm);
        let parallel = projected(difference.clone(), conditional.clone());
        let update = difference - parallel.mul_scalar(1.0 - eta);
        conditional + update.mul_scalar(self.scale - 1.0)
    }

    /// The guided velocity of one step of a flow: [`combine`](Self::combine) on
    /// `sample - sigma velocity`, and back.
    ///
    /// # Shapes
    /// - `sample`, `unconditional`, `conditional`, the result: any one shape, the first axis of
    ///   which is the batch
    ///
    /// # Panics
    /// If they differ in shape, or from those of the step before; if `sigma` is not above 0.
    pub fn combine_velocities(
        &mut self,
        sample: Tensor<D>,
        sigma: f64,
        unconditional: Tensor<D>,
        conditional: Tensor<D>,
    ) -> Tensor<D> {
        assert!(sigma > 0.0, "there is no velocity at sigma {sigma}");
        let sample = sample.cast(DType::F32);
        let denoised =
            |velocity: Tensor<D>| sample.clone() - velocity.cast(DType::F32).mul_scalar(sigma);
        let guided = self.combine(denoised(unconditional), denoised(conditional));
        (sample - guided).div_scalar(sigma)
    }
}

/// Each item of the batch scaled down to a norm of at most `limit`.
fn shortened<const D: usize>(difference: Tensor<D>, limit: f64) -> Tensor<D> {
    if limit.is_infinite() {
        return difference;
    }
    let square = item_sum(difference.clone().square());
    let norm = square.clamp_min(SMALLEST_SQUARE).sqrt();
    difference * norm.recip().mul_scalar(limit).clamp_max(1.0)
}

/// The part of each item of the batch along the same item of `direction`.
fn projected<const D: usize>(difference: Tensor<D>, direction: Tensor<D>) -> Tensor<D> {
    let product = item_sum(difference * direction.clone());
    let square = item_sum(direction.clone().square()).clamp_min(SMALLEST_SQUARE);
    direction * (product / square)
}

/// The sum over all axes but the first, which stay with a length of 1.
fn item_sum<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    (1..D).fold(tensor, |sum, axis| sum.sum_dim(axis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier_free;
    use burn::tensor::{Device, TensorData};

    const NONE: f64 = f64::INFINITY;

    fn batch<const N: usize>(rows: [[f32; 2]; N]) -> Tensor<2> {
        let values = rows.as_flattened().to_vec();
        Tensor::from_data(TensorData::new(values, [N, 2]), &Device::flex())
    }

    fn guidance(scale: f64, eta: f64, norm: f64, momentum: f64) -> ProjectedGuidance<2> {
        let options = AdaptiveProjection::new(eta, norm, momentum).unwrap();
        ProjectedGuidance::new(scale, options)
    }

    #[track_caller]
    fn assert_rows<const D: usize>(found: Tensor<D>, expected: &[f32]) {
        let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
        assert_eq!(found.len(), expected.len());
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * (1.0 + b.abs());
        assert!(found.iter().zip(expected).all(close), "{found:?}");
    }

    #[test]
    fn without_its_parts_it_is_classifier_free_guidance() {
        let (u, c) = ([[1.0, -2.0], [0.5, 3.0]], [[2.0, -2.5], [-1.0, 0.25]]);
        for scale in [0.0, 1.0, 4.5, 15.0] {
            let mut plain = guidance(scale, 1.0, NONE, 0.0);
            for _ in 0..2 {
                let expected = classifier_free(batch(u), batch(c), scale);
                let expected: Vec<f32> = expected.into_data().try_to_vec().unwrap();
                assert_rows(plain.combine(batch(u), batch(c)), &expected);

                let sample = batch([[0.3, 0.1], [-2.0, 1.0]]);
                let ours = plain.combine_velocities(sample, 0.25, batch(u), batch(c));
                assert_rows(ours, &expected);
            }
        }
    }

    /// d = [1, 2] and [3, 0]; along c = [2, 0] and [0, 5] that is [1, 0] and 0.
    #[test]
    fn the_part_along_the_prediction_has_weight_eta() {
        let (u, c) = ([[1.0, -2.0], [-3.0, 5.0]], [[2.0, 0.0], [0.0, 5.0]]);
        let with = |eta| guidance(4.0, eta, NONE, 0.0).combine(batch(u), batch(c));
        assert_rows(with(0.0), &[2.0, 6.0, 9.0, 5.0]);
        assert_rows(with(0.5), &[3.5, 6.0, 9.0, 5.0]);
        assert_rows(with(1.0), &[5.0, 6.0, 9.0, 5.0]);
        // Nothing is along a prediction of 0.
        let nothing =
            guidance(4.0, 0.0, NONE, 0.0).combine(batch([[-1.0, 2.0]]), batch([[0.0; 2]]));
        assert_rows(nothing, &[3.0, -6.0]);
    }

    /// d = [3, 4] of norm 5 and [0.3, 0.4] of norm 0.5: each image has its own.
    #[test]
    fn long_differences_are_shortened() {
        let (u, c) = ([[-2.0, -4.0], [0.7, -0.4]], [[1.0, 0.0], [1.0, 0.0]]);
        let with = |norm| guidance(3.0, 1.0, norm, 0.0).combine(batch(u), batch(c));
        assert_rows(with(1.0), &[1.0 + 1.2, 1.6, 1.6, 0.8]);
        assert_rows(with(5.0), &[7.0, 8.0, 1.6, 0.8]);
        assert_rows(with(NONE), &[7.0, 8.0, 1.6, 0.8]);
        // No difference has no direction to be shortened along.
        let same = guidance(3.0, 0.0, 1.0, 0.0).combine(batch(c), batch(c));
        assert_rows(same, &[1.0, 0.0, 1.0, 0.0]);
    }

    /// d = [0, 2] at every step, so the running sum is 2, 1, 1.5, 1.25 with momentum -0.5. The
    /// threshold does not enter it, and another run starts from zero.
    #[test]
    fn the_momentum_sums_up_earlier_differences() {
        let (u, c) = ([[1.0, -2.0]], [[1.0, 0.0]]);
        for _ in 0..2 {
            let mut run = guidance(3.0, 1.0, NONE, -0.5);
            let mut short = guidance(3.0, 1.0, 1.2, -0.5);
            for sum in [2.0f32, 1.0, 1.5, 1.25] {
                assert_rows(run.combine(batch(u), batch(c)), &[1.0, 2.0 * sum]);
                let limited = 2.0 * sum.min(1.2);
                assert_rows(short.combine(batch(u), batch(c)), &[1.0, limited]);
            }
        }
    }

    /// At sigma 0.5 with x = [2, 1]: the images x - sigma v are [1, 2] and [2, 0], whose
    /// difference [1, -2] has [0, -2] across the second; with scale 3 the image is [2, -4], and
    /// its velocity [0, 10].
    #[test]
    fn velocities_are_guided_as_images() {
        let (u, c) = ([[2.0, -2.0]], [[0.0, 2.0]]);
        let mut run = guidance(3.0, 0.0, NONE, 0.0);
        let guided = run.combine_velocities(batch([[2.0, 1.0]]), 0.5, batch(u), batch(c));
        assert_rows(guided, &[0.0, 10.0]);
    }

    #[test]
    fn norms_and_products_go_over_all_axes_of_an_image() {
        let device = Device::flex();
        let images = |values: Vec<f32>| {
            Tensor::<4>::from_data(TensorData::new(values, [2, 1, 1, 2]), &device)
        };
        let (u, c) = (vec![1.0, -2.0, -3.0, 5.0], vec![2.0, 0.0, 0.0, 5.0]);
        let options = AdaptiveProjection::new(0.0, NONE, 0.0).unwrap();
        let mut run = ProjectedGuidance::new(4.0, options);
        let guided = run.combine(images(u).cast(DType::F16), images(c).cast(DType::F16));
        assert_eq!(guided.dtype(), DType::F32);
        assert_eq!(guided.dims(), [2, 1, 1, 2]);
        assert_rows(guided, &[2.0, 6.0, 9.0, 5.0]);
    }

    #[test]
    #[should_panic(expected = "must agree in shape")]
    fn does_not_broadcast() {
        let mut run = guidance(4.0, 0.0, NONE, 0.0);
        run.combine(batch([[1.0, 2.0]]), batch([[1.0, 2.0], [3.0, 4.0]]));
    }

    #[test]
    fn refuses_values_out_of_range() {
        let cases = [
            ("eta", [-0.1, NONE, f64::NAN]),
            ("norm", [0.0, -1.0, f64::NAN]),
            ("momentum", [-1.0, 1.0, f64::NAN]),
        ];
        for (wrong, values) in cases {
            for value in values {
                let or = |name: &str, usual: f64| if name == wrong { value } else { usual };
                let options =
                    AdaptiveProjection::new(or("eta", 0.0), or("norm", 15.0), or("momentum", 0.0));
                let error = options.unwrap_err();
                assert!(matches!(
                    error,
                    SamplerError::InvalidProjection { name, found, .. }
                        if name == wrong && found.to_bits() == value.to_bits()
                ));
                assert!(error.to_string().contains(wrong), "{error}");
            }
        }
        let default = AdaptiveProjection::default();
        let AdaptiveProjection {
            eta,
            norm,
            momentum,
        } = default;
        assert_eq!(AdaptiveProjection::new(eta, norm, momentum), Ok(default));
    }
}
