mod projected;

use burn::tensor::{DType, Tensor};

pub use projected::{AdaptiveProjection, ProjectedGuidance};

use crate::SamplerError;

/// Classifier-free guidance (Ho and Salimans, arXiv 2207.12598), in f32:
/// `unconditional + scale (conditional - unconditional)`.
///
/// A scale of 1 is the conditional prediction, 0 the unconditional one.
///
/// # Shapes
/// - `unconditional`, `conditional`, the result: any one shape
///
/// # Panics
/// If the two differ in shape.
pub fn classifier_free<const D: usize>(
    unconditional: Tensor<D>,
    conditional: Tensor<D>,
    scale: f64,
) -> Tensor<D> {
    assert_eq!(
        unconditional.dims(),
        conditional.dims(),
        "the two predictions must agree in shape"
    );
    let unconditional = unconditional.cast(DType::F32);
    let difference = conditional.cast(DType::F32) - unconditional.clone();
    unconditional + difference.mul_scalar(scale)
}

/// Perturbed attention guidance (Ahn et al., arXiv 2403.17377), in f32:
/// `guided + scale (conditional - perturbed)`, where `perturbed` is the conditional prediction of
/// the network with some self-attention replaced by the identity.
///
/// With classifier-free guidance `guided` is its result, so that the whole is
/// `u + g (c - u) + s (c - p)`; without it `guided` is the conditional prediction: `c + s (c - p)`.
///
/// # Shapes
/// - `guided`, `conditional`, `perturbed`, the result: any one shape
///
/// # Panics
/// If they differ in shape.
pub fn perturbed_attention_guidance<const D: usize>(
    guided: Tensor<D>,
    conditional: Tensor<D>,
    perturbed: Tensor<D>,
    scale: f64,
) -> Tensor<D> {
    assert_eq!(
        [guided.dims(), perturbed.dims()],
        [conditional.dims(); 2],
        "the three predictions must agree in shape"
    );
    let difference = conditional.cast(DType::F32) - perturbed.cast(DType::F32);
    guided.cast(DType::F32) + difference.mul_scalar(scale)
}

/// The noise levels at which guidance is applied (Kynkäänniemi et al., arXiv 2404.07724).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuidanceInterval {
    start: f64,
    end: f64,
}

impl GuidanceInterval {
    /// Every noise level.
    pub const FULL: Self = Self {
        start: 0.0,
        end: 1.0,
    };

    /// The noise levels sigma with `start <= sigma <= end`.
    ///
    /// # Errors
    /// Unless `0 <= start <= end <= 1`.
    pub fn new(start: f64, end: f64) -> Result<Self, SamplerError> {
        if 0.0 <= start && start <= end && end <= 1.0 {
            Ok(Self { start, end })
        } else {
            Err(SamplerError::InvalidInterval { start, end })
        }
    }

    /// The lower end, on the side of the image.
    pub fn start(&self) -> f64 {
        self.start
    }

    /// The upper end, on the side of the noise.
    pub fn end(&self) -> f64 {
        self.end
    }

    /// Whether the noise level `sigma` in `[0, 1]` lies in the interval, ends included. In a
    /// solver's `predict`, sigma is the timestep over 1000, but for rounding; a schedule has it
    /// exactly.
    pub fn contains(&self, sigma: f64) -> bool {
        (self.start..=self.end).contains(&sigma)
    }
}

impl Default for GuidanceInterval {
    fn default() -> Self {
        Self::FULL
    }
}

/// Guidance scales that have been checked, and where they are applied.
///
/// ```
/// use sana_sampler::{Guidance, GuidanceInterval};
///
/// let guidance = Guidance::new(4.5)?.with_interval(GuidanceInterval::new(0.2, 0.9)?);
/// assert!(guidance.applies(0.5));
/// assert!(!guidance.applies(0.95));
/// # Ok::<(), sana_sampler::SamplerError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    scale: f64,
    perturbed_scale: f64,
    interval: GuidanceInterval,
}

impl Guidance {
    /// Guidance of the given scale at every noise level. Sana's default is 4.5; scales up to 1
    /// mean no guidance.
    ///
    /// # Errors
    /// A scale that is negative or not finite.
    pub fn new(scale: f64) -> Result<Self, SamplerError> {
        if scale >= 0.0 && scale.is_finite() {
            Ok(Self {
                scale,
                perturbed_scale: 0.0,
                interval: GuidanceInterval::FULL,
            })
        } else {
            Err(SamplerError::InvalidGuidance { found: scale })
        }
    }

    /// The same with [perturbed attention guidance](perturbed_attention_guidance) of the given
    /// scale; 0 is off. Sana's repository has 2 with a guidance scale of 5, diffusers defaults
    /// to 3.
    ///
    /// # Errors
    /// A scale that is negative or not finite.
    pub fn with_perturbed_attention(self, scale: f64) -> Result<Self, SamplerError> {
        if scale >= 0.0 && scale.is_finite() {
            Ok(Self {
                perturbed_scale: scale,
                ..self
            })
        } else {
            Err(SamplerError::InvalidPerturbedScale { found: scale })
        }
    }

    /// The same scales, applied only in `interval`.
    pub fn with_interval(self, interval: GuidanceInterval) -> Self {
        Self { interval, ..self }
    }

    /// The scale.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The scale of perturbed attention guidance; 0 is off.
    pub fn perturbed_scale(&self) -> f64 {
        self.perturbed_scale
    }

    /// The noise levels at which it is applied.
    pub fn interval(&self) -> GuidanceInterval {
        self.interval
    }

    /// Whether any noise level needs the unconditional prediction: a scale above 1.
    pub fn is_active(&self) -> bool {
        self.scale > 1.0
    }

    /// Whether the noise level `sigma` in `[0, 1]` needs the unconditional prediction; where it
    /// does not, the conditional prediction is used alone.
    pub fn applies(&self, sigma: f64) -> bool {
        self.is_active() && self.interval.contains(sigma)
    }

    /// Whether the noise level `sigma` in `[0, 1]` needs the prediction with perturbed attention:
    /// a scale above 0, in the interval.
    pub fn perturbs(&self, sigma: f64) -> bool {
        self.perturbed_scale > 0.0 && self.interval.contains(sigma)
    }

    /// [`classifier_free`] with this scale.
    ///
    /// # Panics
    /// If the two differ in shape.
    pub fn combine<const D: usize>(
        &self,
        unconditional: Tensor<D>,
        conditional: Tensor<D>,
    ) -> Tensor<D> {
        classifier_free(unconditional, conditional, self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn extrapolates_from_the_unconditional_prediction() {
        let device = Device::flex();
        let row = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device);
        let (unconditional, conditional) = ([1.0, -2.0, 0.5], [2.0, -2.0, 0.0]);
        let at = |scale| {
            Guidance::new(scale)
                .unwrap()
                .combine(row(unconditional), row(conditional))
                .into_data()
                .try_to_vec::<f32>()
                .unwrap()
        };
        assert_eq!(at(0.0), unconditional);
        assert_eq!(at(1.0), conditional);
        assert_eq!(at(4.0), [5.0, -2.0, -1.5]);
    }

    /// `u + g (c - u) + s (c - p)`, and `c + s (c - p)`, by hand.
    #[test]
    fn moves_away_from_the_perturbed_prediction() {
        let device = Device::flex();
        let row = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device);
        let (u, c, p) = ([1.0, -2.0, 0.5], [2.0, -2.0, 0.0], [1.5, -1.0, 0.0]);
        let with = |guided, scale| {
            perturbed_attention_guidance(guided, row(c), row(p), scale)
                .into_data()
                .try_to_vec::<f32>()
                .unwrap()
        };
        let guided = || classifier_free(row(u), row(c), 4.0);
        assert_eq!(with(guided(), 2.0), [6.0, -4.0, -1.5]);
        assert_eq!(with(row(c), 2.0), [3.0, -4.0, 0.0]);
        assert_eq!(with(guided(), 0.0), [5.0, -2.0, -1.5]);
    }

    #[test]
    fn combines_half_precision_in_f32() {
        let device = Device::flex();
        let half = Tensor::<1>::from_floats([1.0, 3.0], &device).cast(DType::F16);
        let result = classifier_free(half.clone(), half, 4.5);
        assert_eq!(result.dtype(), DType::F32);
        assert_eq!(result.into_data().try_to_vec::<f32>().unwrap(), [1.0, 3.0]);

        let half = Tensor::<1>::from_floats([1.0, 3.0], &device).cast(DType::F16);
        let result = perturbed_attention_guidance(half.clone(), half.clone(), half, 2.0);
        assert_eq!(result.dtype(), DType::F32);
        assert_eq!(result.into_data().try_to_vec::<f32>().unwrap(), [1.0, 3.0]);
    }

    #[test]
    #[should_panic(expected = "must agree in shape")]
    fn does_not_broadcast() {
        let device = Device::flex();
        classifier_free(
            Tensor::<2>::zeros([1, 3], &device),
            Tensor::<2>::zeros([2, 3], &device),
            2.0,
        );
    }

    #[test]
    fn applies_within_the_interval_and_above_scale_one() {
        let interval = GuidanceInterval::new(0.25, 0.75).unwrap();
        let guidance = Guidance::new(4.5).unwrap();
        for sigma in [0.0, 0.25, 0.5, 0.75, 1.0] {
            assert!(guidance.applies(sigma));
            assert!(!Guidance::new(1.0).unwrap().applies(sigma));
            let inside = (0.25..=0.75).contains(&sigma);
            assert_eq!(guidance.with_interval(interval).applies(sigma), inside);
        }
        assert!(!Guidance::new(1.0).unwrap().is_active());

        // Perturbed attention needs no classifier-free guidance, and has the same interval.
        let perturbed = Guidance::new(1.0).unwrap().with_perturbed_attention(2.0);
        let perturbed = perturbed.unwrap();
        assert_eq!(perturbed.perturbed_scale(), 2.0);
        for sigma in [0.0, 0.25, 0.5, 0.75, 1.0] {
            assert!(perturbed.perturbs(sigma) && !perturbed.applies(sigma));
            assert!(!guidance.perturbs(sigma));
            let inside = (0.25..=0.75).contains(&sigma);
            assert_eq!(perturbed.with_interval(interval).perturbs(sigma), inside);
        }
    }

    #[test]
    fn refuses_bad_scales_and_intervals() {
        for found in [-1.0, f64::INFINITY] {
            assert_eq!(
                Guidance::new(found),
                Err(SamplerError::InvalidGuidance { found })
            );
        }
        assert!(matches!(
            Guidance::new(f64::NAN),
            Err(SamplerError::InvalidGuidance { found }) if found.is_nan()
        ));
        let guidance = Guidance::new(4.5).unwrap();
        for found in [-1.0, f64::INFINITY] {
            assert_eq!(
                guidance.with_perturbed_attention(found),
                Err(SamplerError::InvalidPerturbedScale { found })
            );
        }
        assert!(guidance.with_perturbed_attention(f64::NAN).is_err());
        for (start, end) in [(-0.1, 1.0), (0.0, 1.1), (0.6, 0.4)] {
            assert_eq!(
                GuidanceInterval::new(start, end),
                Err(SamplerError::InvalidInterval { start, end })
            );
        }
        for (start, end) in [(f64::NAN, 1.0), (0.0, f64::NAN)] {
            assert!(matches!(
                GuidanceInterval::new(start, end),
                Err(SamplerError::InvalidInterval { .. })
            ));
        }
    }
}
