//! The published times of consistency sampling, by name.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ScmSchedule};

/// Published times of a consistency-sampling run.
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
pub enum ScmTimes {
    /// Those that the reference library takes by default; see [`ScmSchedule::default_for`].
    #[default]
    Reference,
    /// Those that the Sprint paper found best, for 1, 2 and 4 steps; see [`ScmSchedule::paper`].
    Paper,
}

impl ScmTimes {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Paper];

    /// `reference` or `paper`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Paper => "paper",
        }
    }

    /// The times of a run of `steps` steps.
    ///
    /// # Errors
    /// `steps` of 0, or [`Error::NoPaperTimes`].
    pub fn schedule(self, steps: usize) -> Result<ScmSchedule, Error> {
        match self {
            Self::Reference => ScmSchedule::default_for(steps),
            Self::Paper => ScmSchedule::paper(steps),
        }
    }
}

impl fmt::Display for ScmTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ScmTimes {
    type Err = Error;

    /// Of its [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|times| times.name() == text)
            .ok_or_else(|| Error::UnknownTimes {
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
        for times in ScmTimes::ALL {
            assert_eq!(times.to_string().parse(), Ok(times));
        }
        let error = "linear".parse::<ScmTimes>().unwrap_err();
        assert!(matches!(error, Error::UnknownTimes { .. }));
        let message = "no times are named \"linear\", there are reference and paper";
        assert_eq!(error.to_string(), message);
    }

    /// To the four decimals of the table.
    #[test]
    #[expect(clippy::approx_constant, reason = "the published times are rounded so")]
    fn the_table_is_right() {
        use ScmTimes::{Paper, Reference};
        let table: [(ScmTimes, usize, &[f64]); 7] = [
            (Reference, 1, &[1.5708, 0.0]),
            (Reference, 2, &[1.5708, 1.3, 0.0]),
            (Reference, 4, &[1.5708, 1.1781, 0.7854, 0.3927, 0.0]),
            (Reference, 3, &[1.5708, 1.0472, 0.5236, 0.0]),
            (Paper, 1, &[1.5708, 0.0]),
            (Paper, 2, &[1.5683, 1.3, 0.0]),
            (Paper, 4, &[1.5683, 1.3, 1.1, 0.6, 0.0]),
        ];
        for (times, steps, expected) in table {
            let schedule = times.schedule(steps).unwrap();
            assert_eq!(schedule.times().len(), expected.len());
            for (ours, expected) in schedule.times().iter().zip(expected) {
                assert!((ours - expected).abs() < 5e-5, "{times} {steps}: {ours}");
            }
        }
        assert_eq!(Paper.schedule(3), Err(Error::NoPaperTimes { found: 3 }));
        for times in ScmTimes::ALL {
            assert_eq!(times.schedule(0), Err(Error::ZeroSteps));
        }
    }
}
