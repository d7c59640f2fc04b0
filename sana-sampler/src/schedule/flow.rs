use super::checks::{check_decreasing, check_shift, check_start, check_steps};
use crate::SamplerError;

/// The network's timestep is `TIMESTEPS` times sigma.
pub const TIMESTEPS: f64 = 1000.0;

/// The smallest and, mirrored, the largest noise level that the reference's grids start from.
const SIGMA_MIN: f64 = 1.0 / TIMESTEPS;

/// Moves a noise level towards the noisy end: `shift sigma / (1 + (shift - 1) sigma)`.
///
/// `sigma` in `[0, 1]`, `shift > 0`; 0 and 1 stay where they are, and a shift of 1 changes nothing.
/// Images of more pixels need a larger shift to lose as much of their content (Sana uses 3, and
/// 6 for 4K; Esser et al., arXiv 2403.03206).
pub fn shift_sigma(sigma: f64, shift: f64) -> f64 {
    // Rounding can lift shift(1) above 1 by one unit in the last place.
    (shift * sigma / (1.0 + (shift - 1.0) * sigma)).min(1.0)
}

/// How the network's timesteps follow from the noise levels.
///
/// A network that embeds the timestep, as Sana does, was trained and is sampled with both. One that
/// takes `timestep / 1000` for sigma in an equation of its own needs [`Exact`](Self::Exact):
/// flooring moves its sigma by up to 1/1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timesteps {
    /// `floor(1000 sigma)`, as the reference's Flow-DPM-Solver++ calls the network.
    Floored,
    /// `1000 sigma`, as the reference's flow Euler calls it.
    Exact,
}

/// Noise levels of a flow-matching run, from noisy to clean, and the timesteps the network sees.
///
/// The noise level sigma in `[0, 1]` is the fraction of noise: `x = (1 - sigma) x0 + sigma noise`.
/// A run of `steps` steps has `steps + 1` of them, strictly decreasing, and one timestep in
/// `[0, 1000]` for each step. [`dpm_solver`](Self::dpm_solver) floors the timesteps for parity with
/// the reference, which a network that computes with `timestep / 1000` as its sigma must not have:
/// `.with_timesteps(Timesteps::Exact)` makes them exact.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowSchedule {
    sigmas: Vec<f64>,
    timesteps: Vec<f64>,
    grid_steps: usize,
}

impl FlowSchedule {
    /// The grid of Flow-DPM-Solver++: sigmas uniform in `[0, 0.999]`, then shifted, so that the
    /// largest is `shift(0.999)` and the last 0; timesteps [floored](Timesteps::Floored), so no
    /// longer exactly 1000 sigma: [`with_timesteps`](Self::with_timesteps) changes that.
    ///
    /// # Errors
    /// `steps` of 0 or of more than 100,000, a `shift` that is not positive and finite, or one so large that neighbouring
    /// sigmas coincide.
    pub fn dpm_solver(steps: usize, shift: f64) -> Result<Self, SamplerError> {
        check_grid(steps, shift)?;
        // In the order of the reference's arithmetic, so that floor(1000 sigma) falls on the same
        // side where 1000 sigma is next to an integer.
        let increment = (SIGMA_MIN - 1.0) / steps as f64;
        let signal = |k: usize| {
            if k == steps {
                SIGMA_MIN
            } else {
                k as f64 * increment + 1.0
            }
        };
        let sigmas = (1..=steps)
            .rev()
            .map(|k| shift_sigma(1.0 - signal(k), shift))
            .chain([0.0])
            .collect();
        Ok(Self::from_sigmas(sigmas)?.with_timesteps(Timesteps::Floored))
    }

    /// The grid of flow Euler: `steps` points uniform from `shift(1)` to `shift(0.001)`, shifted
    /// once more, and 0; timesteps [exact](Timesteps::Exact).
    ///
    /// # Errors
    /// As [`FlowSchedule::dpm_solver`].
    pub fn euler(steps: usize, shift: f64) -> Result<Self, SamplerError> {
        check_grid(steps, shift)?;
        let (start, end) = (shift_sigma(1.0, shift), shift_sigma(SIGMA_MIN, shift));
        let gaps = steps.max(2) - 1;
        let increment = (end - start) / gaps as f64;
        let sigmas = (0..steps)
            .map(|k| shift_sigma(start + k as f64 * increment, shift))
            .chain([0.0])
            .collect();
        Self::from_sigmas(sigmas)
    }

    /// A grid of one's own, with [exact](Timesteps::Exact) timesteps.
    ///
    /// # Errors
    /// Fewer than two values, a value outside `[0, 1]`, or values that do not decrease strictly.
    pub fn from_sigmas(sigmas: Vec<f64>) -> Result<Self, SamplerError> {
        check_decreasing("sigmas", &sigmas, 1.0)?;
        let schedule = Self {
            grid_steps: sigmas.len() - 1,
            timesteps: Vec::new(),
            sigmas,
        };
        Ok(schedule.with_timesteps(Timesteps::Exact))
    }

    /// The same noise levels with timesteps made in the given way.
    pub fn with_timesteps(mut self, timesteps: Timesteps) -> Self {
        self.timesteps = self.sigmas[..self.steps()]
            .iter()
            .map(|sigma| match timesteps {
                Timesteps::Floored => (sigma * TIMESTEPS).floor(),
                Timesteps::Exact => sigma * TIMESTEPS,
            })
            .collect();
        self
    }

    /// The steps from number `start` on (from 0): what image-to-image runs, on an image brought to
    /// the noise level `sigmas()[0]` of the result, and what resumes a stopped run.
    ///
    /// # Errors
    /// A `start` that leaves no step.
    pub fn from_index(&self, start: usize) -> Result<Self, SamplerError> {
        check_start(start, self.steps())?;
        Ok(Self {
            sigmas: self.sigmas[start..].to_vec(),
            timesteps: self.timesteps[start..].to_vec(),
            grid_steps: self.grid_steps,
        })
    }

    /// Number of steps, one less than there are [`sigmas`](Self::sigmas).
    pub fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// Number of steps of the whole grid that this schedule is the end of; differs from
    /// [`steps`](Self::steps) after [`from_index`](Self::from_index).
    pub fn grid_steps(&self) -> usize {
        self.grid_steps
    }

    /// The noise levels, `steps + 1` of them.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// The timesteps that the network is called with, `steps` of them.
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }
}

fn check_grid(steps: usize, shift: f64) -> Result<(), SamplerError> {
    check_steps(steps)?;
    check_shift(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_keeps_the_ends_and_a_shift_of_one_changes_nothing() {
        for shift in [0.1, 1.0, 3.0, 6.0] {
            assert_eq!(shift_sigma(0.0, shift), 0.0);
            assert!((shift_sigma(1.0, shift) - 1.0).abs() < 1e-15);
            assert!(shift_sigma(1.0, shift) <= 1.0);
        }
        assert_eq!(shift_sigma(0.37, 1.0), 0.37);
        assert_eq!(shift_sigma(0.5, 3.0), 0.75);
    }

    #[test]
    fn grids_start_and_end_as_the_reference() {
        let dpm = FlowSchedule::dpm_solver(20, 3.0).unwrap();
        assert_eq!(dpm.sigmas()[0], shift_sigma(0.999, 3.0));
        assert_eq!(dpm.timesteps()[0], 999.0);
        let euler = FlowSchedule::euler(20, 3.0).unwrap();
        assert_eq!(euler.sigmas()[0], 1.0);
        let last = shift_sigma(shift_sigma(0.001, 3.0), 3.0);
        assert!((euler.sigmas()[19] - last).abs() < 1e-15);
        for schedule in [dpm, euler] {
            assert_eq!(schedule.steps(), 20);
            assert_eq!(schedule.sigmas().len(), 21);
            assert_eq!(schedule.timesteps().len(), 20);
            assert_eq!(schedule.sigmas()[20], 0.0);
        }
    }

    /// Where 1000 sigma is an integer but for rounding, the floor is that of the reference, whose
    /// f64 arithmetic gives 443.99.. and 332.99.. for the sixth and seventh of these.
    #[test]
    fn floors_fall_as_in_the_reference() {
        let schedule = FlowSchedule::dpm_solver(9, 1.0).unwrap();
        let reference = [999., 888., 777., 666., 555., 443., 332., 221., 110.];
        assert_eq!(schedule.timesteps(), reference);
        let schedule = FlowSchedule::dpm_solver(27, 1.0).unwrap();
        let reference = [
            999., 962., 924., 887., 851., 814., 776., 740., 703., 665., 629., 592., 554., 518.,
            481., 443., 407., 370., 332., 296., 259., 221., 185., 148., 110., 73., 37.,
        ];
        assert_eq!(schedule.timesteps(), reference);
    }

    #[test]
    fn every_grid_of_up_to_a_thousand_steps_decreases() {
        for steps in (1..=50).chain([100, 333, 1000]) {
            for shift in [0.2, 1.0, 3.0, 6.0, 12.0] {
                FlowSchedule::dpm_solver(steps, shift).unwrap();
                FlowSchedule::euler(steps, shift).unwrap();
            }
        }
    }

    #[test]
    fn a_tail_keeps_values_and_remembers_its_grid() {
        let whole = FlowSchedule::dpm_solver(10, 3.0).unwrap();
        let tail = whole.from_index(7).unwrap();
        assert_eq!(tail.steps(), 3);
        assert_eq!(tail.grid_steps(), 10);
        assert_eq!(tail.sigmas(), &whole.sigmas()[7..]);
        assert_eq!(tail.timesteps(), &whole.timesteps()[7..]);
        assert_eq!(whole.from_index(0).unwrap(), whole);
        assert_eq!(
            whole.from_index(10),
            Err(SamplerError::StartOutOfRange {
                start: 10,
                steps: 10
            })
        );
    }

    #[test]
    fn refuses_no_steps_and_bad_shifts() {
        for make in [FlowSchedule::dpm_solver, FlowSchedule::euler] {
            assert_eq!(make(0, 3.0), Err(SamplerError::ZeroSteps));
            assert_eq!(make(100_000, 3.0).map(|made| made.steps()), Ok(100_000));
            for found in [100_001, usize::MAX] {
                let maximum = 100_000;
                let error = SamplerError::TooManySteps { maximum, found };
                assert_eq!(make(found, 3.0), Err(error));
            }
            for found in [0.0, -1.0, f64::INFINITY] {
                assert_eq!(make(4, found), Err(SamplerError::InvalidShift { found }));
            }
            assert!(matches!(
                make(4, f64::NAN),
                Err(SamplerError::InvalidShift { found }) if found.is_nan()
            ));
            assert!(matches!(
                make(4, 1e300),
                Err(SamplerError::ScheduleNotDecreasing { name: "sigmas", .. })
            ));
        }
    }

    #[test]
    fn refuses_bad_sigmas() {
        assert_eq!(
            FlowSchedule::from_sigmas(vec![1.0]),
            Err(SamplerError::ScheduleTooShort {
                name: "sigmas",
                found: 1
            })
        );
        assert_eq!(
            FlowSchedule::from_sigmas(vec![1.5, 0.0]),
            Err(SamplerError::ScheduleOutOfRange {
                name: "sigmas",
                index: 0,
                maximum: 1.0,
                found: 1.5
            })
        );
        assert!(matches!(
            FlowSchedule::from_sigmas(vec![1.0, f64::NAN, 0.0]),
            Err(SamplerError::ScheduleOutOfRange { index: 1, .. })
        ));
        assert_eq!(
            FlowSchedule::from_sigmas(vec![0.9, 0.5, 0.5]),
            Err(SamplerError::ScheduleNotDecreasing {
                name: "sigmas",
                index: 2,
                previous: 0.5,
                found: 0.5
            })
        );
    }
}
