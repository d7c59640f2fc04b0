//! What grids and their parts are refused for.

use crate::SamplerError;

/// Steps of a schedule, at most: a hundred for each timestep that a network was trained at.
const MAX_STEPS: usize = 100_000;

pub(crate) fn check_shift(shift: f64) -> Result<(), SamplerError> {
    if shift > 0.0 && shift.is_finite() {
        Ok(())
    } else {
        Err(SamplerError::InvalidShift { found: shift })
    }
}

pub(crate) fn check_steps(steps: usize) -> Result<(), SamplerError> {
    match steps {
        0 => Err(SamplerError::ZeroSteps),
        1..=MAX_STEPS => Ok(()),
        found => Err(SamplerError::TooManySteps {
            maximum: MAX_STEPS,
            found,
        }),
    }
}

pub(crate) fn check_start(start: usize, steps: usize) -> Result<(), SamplerError> {
    if start < steps {
        Ok(())
    } else {
        Err(SamplerError::StartOutOfRange { start, steps })
    }
}

pub(crate) fn check_decreasing(
    name: &'static str,
    values: &[f64],
    maximum: f64,
) -> Result<(), SamplerError> {
    if values.len() < 2 {
        return Err(SamplerError::ScheduleTooShort {
            name,
            found: values.len(),
        });
    }
    for (index, &found) in values.iter().enumerate() {
        if !(0.0..=maximum).contains(&found) {
            return Err(SamplerError::ScheduleOutOfRange {
                name,
                index,
                maximum,
                found,
            });
        }
    }
    for (index, pair) in values.windows(2).enumerate() {
        if pair[1] >= pair[0] {
            return Err(SamplerError::ScheduleNotDecreasing {
                name,
                index: index + 1,
                previous: pair[0],
                found: pair[1],
            });
        }
    }
    Ok(())
}
