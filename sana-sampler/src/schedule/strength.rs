//! How much of a schedule image-to-image runs.

use crate::{FlowSchedule, SamplerError, ScmSchedule};

/// The first step to run of `steps`, so that `floor(steps * strength)` of them run.
fn first_step(steps: usize, strength: f64) -> Result<usize, SamplerError> {
    if !(strength > 0.0 && strength <= 1.0) {
        return Err(SamplerError::InvalidStrength { found: strength });
    }
    // Truncated in f64, as the reference does: 100 * 0.29 runs 28 steps.
    let run = ((steps as f64 * strength) as usize).min(steps);
    match run {
        0 => Err(SamplerError::StrengthTooSmall { strength, steps }),
        run => Ok(steps - run),
    }
}

impl FlowSchedule {
    /// The last `floor(steps * strength)` steps: what image-to-image of this strength runs, on a
    /// image brought to the noise level `sigmas()[0]` of the result by
    /// [`interpolate`](crate::flow::interpolate). 1 is the whole schedule.
    ///
    /// It [remembers](Self::grid_steps) the length of the whole, which is what decides whether
    /// [`dpm_solver`](crate::dpm_solver()) ends with lower orders. diffusers counts so too: with
    /// `set_begin_index` its scheduler keeps all of its timesteps. And it is right: the last steps of
    /// a fine grid are as short as the grid, however few of them run. The first step that runs is
    /// first-order in any case, since no prediction precedes it.
    ///
    /// # Errors
    /// [`SamplerError::InvalidStrength`] outside of `(0, 1]`, [`SamplerError::StrengthTooSmall`] where no step
    /// would run.
    pub fn for_strength(&self, strength: f64) -> Result<Self, SamplerError> {
        self.from_index(first_step(self.steps(), strength)?)
    }
}

impl ScmSchedule {
    /// The last `floor(steps * strength)` steps: what image-to-image of this strength runs, on a
    /// image brought to the timestep `timesteps()[0]` of the result by
    /// [`noised`](crate::trigflow::noised). 1 is the whole schedule.
    ///
    /// # Errors
    /// As [`FlowSchedule::for_strength`].
    pub fn for_strength(&self, strength: f64) -> Result<Self, SamplerError> {
        self.from_index(first_step(self.steps(), strength)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `min(int(steps * strength), steps)` of the reference, in Python's arithmetic.
    #[test]
    fn the_steps_that_run_are_the_reference_s() {
        for (steps, strength, run) in [
            (4, 0.5, 2),
            (2, 0.6, 1),
            (20, 0.6, 12),
            (20, 0.05, 1),
            (20, 0.999, 19),
            (20, 1.0, 20),
            (1, 1.0, 1),
            (10, 0.7, 7),
            (100, 0.29, 28),
        ] {
            let flow = FlowSchedule::dpm_solver(steps, 3.0).unwrap();
            let rest = flow.for_strength(strength).unwrap();
            assert_eq!(rest.steps(), run, "{steps} at {strength}");
            assert_eq!(rest.sigmas(), &flow.sigmas()[steps - run..]);
            assert_eq!(rest.grid_steps(), steps);
            let scm = ScmSchedule::default_for(steps).unwrap();
            let rest = scm.for_strength(strength).unwrap();
            assert_eq!(rest.timesteps(), &scm.timesteps()[steps - run..]);
        }
    }

    #[test]
    fn refuses_strengths_out_of_range_or_without_a_step() {
        let flow = FlowSchedule::euler(20, 3.0).unwrap();
        let scm = ScmSchedule::default_for(4).unwrap();
        for found in [0.0, -0.5, 1.01, f64::INFINITY] {
            let expected = SamplerError::InvalidStrength { found };
            assert_eq!(flow.for_strength(found), Err(expected.clone()));
            assert_eq!(scm.for_strength(found), Err(expected));
        }
        assert!(matches!(
            flow.for_strength(f64::NAN),
            Err(SamplerError::InvalidStrength { found }) if found.is_nan()
        ));
        for (strength, steps) in [(0.049, 20), (1e-300, 20)] {
            assert_eq!(
                flow.for_strength(strength),
                Err(SamplerError::StrengthTooSmall { strength, steps })
            );
        }
        let error = scm.for_strength(0.24).unwrap_err().to_string();
        assert_eq!(
            error,
            "a strength of 0.24 runs none of 4 steps: steps times strength must be at least 1, so \
             take more of one or the other"
        );
    }
}
