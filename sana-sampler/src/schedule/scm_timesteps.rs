//! The published timesteps of consistency sampling, by name.

use std::fmt;
use std::str::FromStr;

use super::scm::ScmSchedule;
use crate::SamplerError;

/// Published timesteps of a consistency-sampling run.
///
/// | steps | [`Reference`](Self::Reference) | [`Paper`](Self::Paper) |
/// |---|---|---|
/// | 1 | 1.5708, 0 | pi / 2, 0 |
/// | 2 | 1.5708, 1.3, 0 | 1.5683, 1.3, 0 |
/// | 4 | 1.5708, 1.1781, 0.7854, 0.3927, 0 | 1.5683, 1.3, 1.1, 0.6, 0 |
/// | others | uniform from 1.5708 to 0 | none |
///
/// 1.5683 is `atan(200 / 0.5)`: the largest noise of training, 200, over the data's 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ScmTimesteps {
    /// Those that the reference library takes by default; see [`ScmSchedule::default_for`].
    #[default]
    Reference,
    /// Those that the Sprint paper found best, for 1, 2 and 4 steps; see [`ScmSchedule::paper`].
    Paper,
}

impl ScmTimesteps {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Paper];

    /// `reference` or `paper`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Paper => "paper",
        }
    }

    /// The timesteps of a run of `steps` steps.
    ///
    /// # Errors
    /// `steps` of 0, or [`SamplerError::NoPaperTimesteps`].
    pub fn schedule(self, steps: usize) -> Result<ScmSchedule, SamplerError> {
        match self {
            Self::Reference => ScmSchedule::default_for(steps),
            Self::Paper => ScmSchedule::paper(steps),
        }
    }
}

impl fmt::Display for ScmTimesteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ScmTimesteps {
    type Err = SamplerError;

    /// Of its [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, SamplerError> {
        Self::ALL
            .into_iter()
            .find(|timesteps| timesteps.name() == text)
            .ok_or_else(|| SamplerError::UnknownTimesteps {
                found: text.to_owned(),
                known: Self::ALL.map(Self::name).to_vec(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for timesteps in ScmTimesteps::ALL {
            assert_eq!(timesteps.to_string().parse(), Ok(timesteps));
        }
        let error = "linear".parse::<ScmTimesteps>().unwrap_err();
        assert!(matches!(error, SamplerError::UnknownTimesteps { .. }));
        let message = "no timesteps are named \"linear\", there are reference and paper";
        assert_eq!(error.to_string(), message);
    }

    /// To the four decimals of the table.
    #[test]
    #[expect(
        clippy::approx_constant,
        reason = "the published timesteps are rounded so"
    )]
    fn the_table_is_right() {
        use ScmTimesteps::{Paper, Reference};
        let table: [(ScmTimesteps, usize, &[f64]); 7] = [
            (Reference, 1, &[1.5708, 0.0]),
            (Reference, 2, &[1.5708, 1.3, 0.0]),
            (Reference, 4, &[1.5708, 1.1781, 0.7854, 0.3927, 0.0]),
            (Reference, 3, &[1.5708, 1.0472, 0.5236, 0.0]),
            (Paper, 1, &[1.5708, 0.0]),
            (Paper, 2, &[1.5683, 1.3, 0.0]),
            (Paper, 4, &[1.5683, 1.3, 1.1, 0.6, 0.0]),
        ];
        for (timesteps, steps, expected) in table {
            let schedule = timesteps.schedule(steps).unwrap();
            assert_eq!(schedule.timesteps().len(), expected.len());
            for (ours, expected) in schedule.timesteps().iter().zip(expected) {
                assert!(
                    (ours - expected).abs() < 5e-5,
                    "{timesteps} {steps}: {ours}"
                );
            }
        }
        assert_eq!(
            Paper.schedule(3),
            Err(SamplerError::NoPaperTimesteps { found: 3 })
        );
        for timesteps in ScmTimesteps::ALL {
            assert_eq!(timesteps.schedule(0), Err(SamplerError::ZeroSteps));
        }
    }
}
