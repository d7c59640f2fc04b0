use std::f64::consts::FRAC_PI_2;

use burn::tensor::Tensor;

use crate::{
    SamplerError,
    schedule::{check_decreasing, check_start},
    sigma_data::SigmaData,
    step::{Step, StepAction, state},
};

/// Where the reference starts: pi / 2 rounded to four decimals, a little above it.
#[expect(
    clippy::approx_constant,
    reason = "published checkpoints are run from this rounded value"
)]
const REFERENCE_START: f64 = 1.5708;

/// TrigFlow timesteps of a consistency-sampling run, from noise (pi / 2) to the picture (0).
#[derive(Debug, Clone, PartialEq)]
pub struct ScmSchedule {
    timesteps: Vec<f64>,
}

impl ScmSchedule {
    /// The timesteps that the reference pipeline uses by default: 1.5708, 1.3, 0 for two steps, else
    /// `steps + 1` points uniform from 1.5708 to 0.
    ///
    /// # Errors
    /// `steps` of 0.
    pub fn default_for(steps: usize) -> Result<Self, SamplerError> {
        match steps {
            0 => Err(SamplerError::ZeroSteps),
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

    /// The steps from number `start` on (from 0): what image-to-image runs, on a picture brought to
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

/// Multistep consistency sampling of a TrigFlow model (SCM), as Sana-Sprint samples.
///
/// The network has to be consistency-distilled, a model for one to four steps: its prediction leads
/// from any point of a path to the clean sample at once. A flow model that was not distilled, even
/// through [`trigflow::from_flow`](crate::trigflow::from_flow), gives blurred averages in a few steps; it is for
/// [`dpm_solver`](crate::dpm_solver()) and [`flow_euler`](crate::flow_euler).
///
/// Each step predicts the clean sample from timestep `s` and noises it anew to the next timestep `t`:
///
/// ```text
/// denoised = cos(s) x - sin(s) F(x, s)
/// x <- cos(t) denoised + sin(t) sigma_data noise
/// ```
///
/// sCM, arXiv 2410.11081; Sana-Sprint, arXiv 2503.09641.
///
/// `initial` is unit normal noise times `sigma_data`. `predict` gets the sample and the TrigFlow
/// timestep and returns `F`, in units of `sigma_data`; [`trigflow::from_flow`](crate::trigflow::from_flow)
/// makes it of a flow network. `noise` gives the unit normal noise of step `i` (from 0) and is not
/// asked at the last step, whose next timestep is 0. The arithmetic and the result are f32.
///
/// The result is the last denoised sample, in units of `sigma_data`: latents for the autoencoder
/// are the result divided by `sigma_data`.
///
/// # Shapes
/// - `initial`, the sample given to `predict`, `F`, the noise, the result: any one shape
///
/// # Errors
/// Whatever `predict`, `noise` or `observe` returns, at once.
///
/// # Panics
/// If `F`, the noise or a sample given by `observe` has another shape than `initial`.
pub fn scm<const D: usize, E, R>(
    schedule: &ScmSchedule,
    sigma_data: SigmaData,
    initial: Tensor<D>,
    mut predict: impl FnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
    mut noise: impl FnMut(usize) -> Result<Tensor<D>, E>,
    mut observe: impl FnMut(Step<D>) -> R,
) -> Result<Tensor<D>, E>
where
    R: Into<Result<StepAction<D>, E>>,
{
    let shape = initial.dims();
    let mut latents = state("the initial sample", initial, shape);
    for (index, pair) in schedule.timesteps().windows(2).enumerate() {
        let (timestep, next) = (pair[0], pair[1]);
        let output = state(
            "the model output",
            predict(latents.clone(), timestep)?,
            shape,
        );
        let denoised = latents.mul_scalar(timestep.cos()) - output.mul_scalar(timestep.sin());
        latents = if next > 0.0 {
            let noise = state("the noise", noise(index)?, shape);
            denoised.clone().mul_scalar(next.cos())
                + noise.mul_scalar(next.sin() * sigma_data.value())
        } else {
            denoised.clone()
        };
        let action = observe(Step {
            index,
            steps: schedule.steps(),
            timestep,
            latents: latents.clone(),
            denoised: denoised.clone(),
        });
        match action.into()? {
            StepAction::Continue => {}
            StepAction::Stop => return Ok(denoised),
            StepAction::StopWith(sample) => {
                return Ok(state("the observer's sample", sample, shape));
            }
            StepAction::ContinueFrom(sample)
            | StepAction::ContinueWith {
                latents: sample, ..
            } => latents = state("the observer's sample", sample, shape),
        }
    }
    Ok(latents)
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
