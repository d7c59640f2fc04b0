use crate::SamplerError;

/// Standard deviation of the data that a TrigFlow model was trained for; 0.5 for Sana-Sprint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SigmaData(f64);

impl SigmaData {
    /// # Errors
    /// A value that is not positive and finite.
    pub fn new(sigma_data: f64) -> Result<Self, SamplerError> {
        if sigma_data > 0.0 && sigma_data.is_finite() {
            Ok(Self(sigma_data))
        } else {
            Err(SamplerError::InvalidSigmaData { found: sigma_data })
        }
    }

    /// The standard deviation.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl Default for SigmaData {
    fn default() -> Self {
        Self(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_bad_sigma_data() {
        assert_eq!(SigmaData::new(0.5), Ok(SigmaData::default()));
        for found in [0.0, -0.5, f64::INFINITY] {
            assert_eq!(
                SigmaData::new(found),
                Err(SamplerError::InvalidSigmaData { found })
            );
        }
        assert!(matches!(
            SigmaData::new(f64::NAN),
            Err(SamplerError::InvalidSigmaData { found }) if found.is_nan()
        ));
    }
}
