//! Mean and covariance of features in f64, in one pass.

use nalgebra::{DMatrix, DVector};

use super::error::MetricsError;

/// Length of a feature, at most. Inception-v3's is 2048.
pub const LARGEST_FEATURES: usize = 8192;
/// Rows that are added to the sums at a time: enough for a matmul, few enough to hold.
const ROWS: usize = 64;
/// How far from symmetric a covariance may be, as a share of its largest value: what f32 leaves.
const ASYMMETRY: f64 = 1e-5;

/// Mean and covariance of the features of a set of images.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureStatistics {
    pub(super) mean: DVector<f64>,
    pub(super) covariance: DMatrix<f64>,
    count: Option<u64>,
}

impl FeatureStatistics {
    /// Of a mean `[features]` and a covariance `[features, features]` in row-major order.
    ///
    /// # Errors
    /// [`MetricsError::Statistics`] when the lengths do not fit each other or are beyond
    /// [`LARGEST_FEATURES`], a value is not finite, or the covariance is not symmetric.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>) -> Result<Self, MetricsError> {
        let refused = |reason: String| Err(MetricsError::Statistics { reason });
        let features = mean.len();
        if !(1..=LARGEST_FEATURES).contains(&features) || covariance.len() != features * features {
            return refused(format!(
                "a mean of {features} and a covariance of {} values; 1 to {LARGEST_FEATURES} \
                 features, and the square of that, are expected",
                covariance.len()
            ));
        }
        if !mean
            .iter()
            .chain(&covariance)
            .all(|value| value.is_finite())
        {
            return refused("a value is not finite".to_owned());
        }
        let covariance = DMatrix::from_row_slice(features, features, &covariance);
        let transposed = covariance.transpose();
        let asymmetry = (&covariance - &transposed).amax();
        if asymmetry > ASYMMETRY * covariance.amax() {
            return refused(format!(
                "the covariance is not symmetric: two values that should be equal differ by \
                 {asymmetry:.3e}"
            ));
        }
        Ok(Self {
            mean: DVector::from_vec(mean),
            covariance: (covariance + transposed) * 0.5,
            count: None,
        })
    }

    /// The same with the number of images that they are of.
    pub fn with_count(mut self, images: u64) -> Self {
        self.count = Some(images);
        self
    }

    /// Length of the features.
    pub fn features(&self) -> usize {
        self.mean.len()
    }

    /// Images that they are of, where it is known.
    pub fn count(&self) -> Option<u64> {
        self.count
    }

    /// The mean, `[features]`.
    pub fn mean(&self) -> &[f64] {
        self.mean.as_slice()
    }

    /// The covariance, `[features, features]`; it is symmetric.
    pub fn covariance(&self) -> &[f64] {
        self.covariance.as_slice()
    }
}

/// Sums of features from which [`FeatureStatistics`] are made. Their memory does not depend on the
/// number of images.
///
/// The mean and the squares around it are updated in batches (Chan, Golub and LeVeque 1983), so
/// nothing cancels where the mean is large.
#[derive(Debug, Clone)]
pub struct FeatureAccumulator {
    count: u64,
    mean: DVector<f64>,
    /// Sum of the outer products of the differences from the mean.
    scatter: DMatrix<f64>,
    /// Rows not yet in the sums, one after the other.
    pending: Vec<f64>,
}

impl FeatureAccumulator {
    /// Sums of no features, each of a length from 1 to [`LARGEST_FEATURES`].
    ///
    /// # Errors
    /// [`MetricsError::Statistics`] for another length.
    pub fn new(features: usize) -> Result<Self, MetricsError> {
        if !(1..=LARGEST_FEATURES).contains(&features) {
            return Err(MetricsError::Statistics {
                reason: format!("features of length {features}, not of 1 to {LARGEST_FEATURES}"),
            });
        }
        Ok(Self {
            count: 0,
            mean: DVector::zeros(features),
            scatter: DMatrix::zeros(features, features),
            pending: Vec::with_capacity(ROWS * features),
        })
    }

    /// Images added.
    pub fn count(&self) -> u64 {
        self.count + (self.pending.len() / self.mean.len()) as u64
    }

    /// Adds the features of one image.
    ///
    /// # Errors
    /// [`MetricsError::Lengths`] for another length, [`MetricsError::Statistics`] when a value is
    /// not finite; nothing is added then.
    pub fn push(&mut self, features: &[f32]) -> Result<(), MetricsError> {
        if features.len() != self.mean.len() {
            return Err(MetricsError::Lengths {
                expected: self.mean.len(),
                found: features.len(),
            });
        }
        if !features.iter().all(|value| value.is_finite()) {
            return Err(MetricsError::Statistics {
                reason: format!("a feature of image {} is not finite", self.count() + 1),
            });
        }
        self.pending
            .extend(features.iter().map(|&value| f64::from(value)));
        if self.pending.len() >= ROWS * self.mean.len() {
            self.flush();
        }
        Ok(())
    }

    /// Adds what another has summed, such as that of another shard.
    ///
    /// # Errors
    /// [`MetricsError::Lengths`] when its features are of another length.
    pub fn merge(&mut self, mut other: Self) -> Result<(), MetricsError> {
        if other.mean.len() != self.mean.len() {
            return Err(MetricsError::Lengths {
                expected: self.mean.len(),
                found: other.mean.len(),
            });
        }
        self.flush();
        other.flush();
        self.add(other.count, &other.mean, other.scatter);
        Ok(())
    }

    /// Mean and covariance, the latter over one less than the number of images.
    ///
    /// # Errors
    /// [`MetricsError::TooFew`] for fewer than two images.
    pub fn statistics(mut self) -> Result<FeatureStatistics, MetricsError> {
        self.flush();
        if self.count < 2 {
            return Err(MetricsError::TooFew { found: self.count });
        }
        Ok(FeatureStatistics {
            mean: self.mean,
            covariance: self.scatter / (self.count - 1) as f64,
            count: Some(self.count),
        })
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let features = self.mean.len();
        // One column an image: [features, images].
        let mut rows =
            DMatrix::from_column_slice(features, self.pending.len() / features, &self.pending);
        self.pending.clear();
        let mean = rows.column_mean();
        for mut column in rows.column_iter_mut() {
            column -= &mean;
        }
        let scatter = &rows * rows.transpose();
        self.add(rows.ncols() as u64, &mean, scatter);
    }

    fn add(&mut self, count: u64, mean: &DVector<f64>, scatter: DMatrix<f64>) {
        if count == 0 {
            return;
        }
        let (before, added) = (self.count as f64, count as f64);
        let all = before + added;
        let difference = mean - &self.mean;
        self.scatter += scatter;
        self.scatter
            .ger(before * added / all, &difference, &difference, 1.0);
        self.mean.axpy(added / all, &difference, 1.0);
        self.count += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(image: usize, index: usize) -> f32 {
        1000.0 + ((image * 7 + index * 13 + image * index) % 29) as f32 / 29.0
    }

    fn summed(images: std::ops::Range<usize>, features: usize) -> FeatureAccumulator {
        let mut sums = FeatureAccumulator::new(features).unwrap();
        for image in images {
            let row: Vec<f32> = (0..features).map(|index| feature(image, index)).collect();
            sums.push(&row).unwrap();
        }
        sums
    }

    /// Against the definition in two passes, with a mean that is large next to the deviations.
    #[test]
    fn mean_and_covariance_are_those_of_the_definition() {
        let (images, features) = (150, 5);
        let found = summed(0..images, features).statistics().unwrap();
        assert_eq!(found.count(), Some(images as u64));
        let value = |image, index| f64::from(feature(image, index));
        let mean: Vec<f64> = (0..features)
            .map(|index| (0..images).map(|image| value(image, index)).sum::<f64>() / images as f64)
            .collect();
        for (row, row_mean) in mean.iter().enumerate() {
            assert!((found.mean()[row] - row_mean).abs() < 1e-10);
            for (column, column_mean) in mean.iter().enumerate() {
                let product =
                    |image| (value(image, row) - row_mean) * (value(image, column) - column_mean);
                let expected = (0..images).map(product).sum::<f64>() / (images - 1) as f64;
                let found = found.covariance()[row * features + column];
                assert!((found - expected).abs() < 1e-11, "{found} {expected}");
            }
        }
    }

    #[test]
    fn shards_are_merged() {
        let whole = summed(0..200, 4).statistics().unwrap();
        let mut parts = summed(0..33, 4);
        parts.merge(summed(33..170, 4)).unwrap();
        parts.merge(summed(0..0, 4)).unwrap();
        parts.merge(summed(170..200, 4)).unwrap();
        assert_eq!(parts.count(), 200);
        let parts = parts.statistics().unwrap();
        assert!((&whole.mean - &parts.mean).amax() < 1e-10);
        assert!((&whole.covariance - &parts.covariance).amax() < 1e-12);
    }

    #[test]
    fn what_has_no_covariance() {
        assert!(matches!(
            summed(0..1, 3).statistics(),
            Err(MetricsError::TooFew { found: 1 })
        ));
        let mut sums = summed(0..2, 3);
        assert!(matches!(
            sums.push(&[0.0; 4]),
            Err(MetricsError::Lengths {
                expected: 3,
                found: 4
            })
        ));
        let error = sums.push(&[0.0, f32::NAN, 0.0]).unwrap_err();
        assert!(error.to_string().contains("image 3"), "{error}");
        assert_eq!(sums.count(), 2);
        assert!(sums.merge(summed(0..2, 4)).is_err());
        for features in [0, LARGEST_FEATURES + 1] {
            assert!(FeatureAccumulator::new(features).is_err());
        }
    }

    #[test]
    fn numbers_that_are_no_statistics() {
        let cases = [
            (vec![], vec![], "1 to 8192"),
            (vec![0.0; 2], vec![1.0; 3], "covariance of 3"),
            (vec![0.0; 2], vec![1.0, f64::NAN, 0.0, 1.0], "finite"),
            (vec![f64::INFINITY], vec![1.0], "finite"),
            (vec![0.0; 2], vec![1.0, 0.5, 0.2, 1.0], "symmetric"),
        ];
        for (mean, covariance, expected) in cases {
            let error = FeatureStatistics::new(mean, covariance).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
