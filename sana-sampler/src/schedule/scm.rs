use std::f64::consts::FRAC_PI_2;

use super::checks::{check_decreasing, check_start, check_steps};
use crate::SamplerError;

/// Where the reference starts: pi / 2 rounded to four decimals, a little above it.
#[expect(
    clippy::approx_constant,
    reason = "published checkpoints are run from this rounded value"
)]
const REFERENCE_START: f64 = 1.5708;

/// TrigFlow timesteps of a consistency-sampling run, from noise (pi / 2) to the image (0).
#[derive(Debug, Clone, PartialEq)]
pub struct ScmSchedule {
    timesteps: Vec<f64>,
}

impl ScmSchedule {
    /// The timesteps that the reference pipeline uses by default: 1.5708, 1.3, 0 for two steps, else
    /// `steps + 1` points uniform from 1.5708 to 0.
    ///
    /// # Errors
    /// `steps` of 0 or of more than 100,000.
    pub fn default_for(steps: usize) -> Result<Self, SamplerError> {
        check_steps(steps)?;
        match steps {
            2 => Self::from_timesteps(vec![REFERENCE_START, 1.3, 0.0]),
            _ => Self::from_timesteps(
                (0..=steps)
                    .map(|k| REFERENCE_START * (steps - k) as f64 / steps as f64)
                    .collect(),
            ),
        }
    }

    /// The timesteps that the Sprint paper found best (arXiv 2503.09641, table 7), for 1, 2 and 4 steps.
    ///
    /// # Errors
    /// Another number of steps.
    pub fn paper(steps: usize) -> Result<Self, SamplerError> {
        // where the ratio of noise to data is 200: 1.5683
        let start = (200.0f64 / 0.5).atan();
        match steps {
            0 => Err(SamplerError::ZeroSteps),
            1 => Self::from_timesteps(vec![FRAC_PI_2, 0.0]),
            2 => Self::from_timesteps(vec![start, 1.3, 0.0]),
            4 => Self::from_timesteps(vec![start, 1.3, 1.1, 0.6, 0.0]),
            found => Err(SamplerError::NoPaperTimesteps { found }),
        }
    }

    /// Timesteps of one's own, in `[0, 1.5708]`, strictly decreasing and ending at 0.
    ///
    /// # Errors
    /// Timesteps that are not so, or fewer than two.
    pub fn from_timesteps(timesteps: Vec<f64>) -> Result<Self, SamplerError> {
        check_decreasing("timesteps", &timesteps, REFERENCE_START)?;
        match timesteps.last() {
            Some(&found) if found != 0.0 => Err(SamplerError::ScheduleEnd { found }),
            _ => Ok(Self { timesteps }),
        }
    }

    /// The steps from number `start` on (from 0): what image-to-image runs, on an image brought to
    /// the timestep `timesteps()[0]` of the result by [`noised`](crate::trigflow::noised).
    ///
    /// # Errors
    /// A `start` that leaves no step.
    pub fn from_index(&self, start: usize) -> Result<Self, SamplerError> {
        check_start(start, self.steps())?;
        Ok(Self {
            timesteps: self.timesteps[start..].to_vec(),
        })
    }

    /// Number of steps, one less than there are [`timesteps`](Self::timesteps).
    pub fn steps(&self) -> usize {
        self.timesteps.len() - 1
    }

    /// The timesteps, `steps + 1` of them, the last 0.
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_times() {
        let timesteps = |steps| {
            ScmSchedule::default_for(steps)
                .unwrap()
                .timesteps()
                .to_vec()
        };
        assert_eq!(timesteps(1), [REFERENCE_START, 0.0]);
        assert_eq!(timesteps(2), [REFERENCE_START, 1.3, 0.0]);
        assert_eq!(timesteps(4)[2], REFERENCE_START / 2.0);
        for steps in 1..=20 {
            assert_eq!(timesteps(steps).len(), steps + 1);
            assert_eq!(timesteps(steps)[0], REFERENCE_START);
        }
    }

    #[test]
    fn paper_times() {
        let timesteps = |steps| ScmSchedule::paper(steps).unwrap().timesteps().to_vec();
        assert_eq!(timesteps(1), [FRAC_PI_2, 0.0]);
        assert!((timesteps(2)[0] - 1.5683).abs() < 1e-4);
        assert_eq!(timesteps(2)[1..], [1.3, 0.0]);
        assert_eq!(timesteps(4)[1..], [1.3, 1.1, 0.6, 0.0]);
        assert_eq!(
            ScmSchedule::paper(3),
            Err(SamplerError::NoPaperTimesteps { found: 3 })
        );
    }

    #[test]
    fn a_tail_keeps_the_times() {
        let whole = ScmSchedule::default_for(4).unwrap();
        assert_eq!(
            whole.from_index(3).unwrap().timesteps(),
            &whole.timesteps()[3..]
        );
        assert_eq!(
            whole.from_index(4),
            Err(SamplerError::StartOutOfRange { start: 4, steps: 4 })
        );
    }

    #[test]
    fn refuses_bad_times() {
        assert_eq!(ScmSchedule::default_for(0), Err(SamplerError::ZeroSteps));
        let error = ScmSchedule::default_for(usize::MAX).unwrap_err();
        assert!(
            error.to_string().contains("at most 100000 steps"),
            "{error}"
        );
        assert_eq!(ScmSchedule::paper(0), Err(SamplerError::ZeroSteps));
        assert_eq!(
            ScmSchedule::from_timesteps(vec![]),
            Err(SamplerError::ScheduleTooShort {
                name: "timesteps",
                found: 0
            })
        );
        assert_eq!(
            ScmSchedule::from_timesteps(vec![1.6, 0.0]),
            Err(SamplerError::ScheduleOutOfRange {
                name: "timesteps",
                index: 0,
                maximum: REFERENCE_START,
                found: 1.6
            })
        );
        assert_eq!(
            ScmSchedule::from_timesteps(vec![1.0, 1.3, 0.0]),
            Err(SamplerError::ScheduleNotDecreasing {
                name: "timesteps",
                index: 1,
                previous: 1.0,
                found: 1.3
            })
        );
        assert_eq!(
            ScmSchedule::from_timesteps(vec![1.5, 0.5]),
            Err(SamplerError::ScheduleEnd { found: 0.5 })
        );
    }
}
