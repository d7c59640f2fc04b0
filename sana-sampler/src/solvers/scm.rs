use burn::tensor::{Tensor, read_sync};

use super::step::{Step, StepAction, state};
use crate::{ScmSchedule, SigmaData};

/// Multistep consistency sampling of a TrigFlow model (SCM), as Sana-Sprint samples.
///
/// The network has to be consistency-distilled, a model for one to four steps: its prediction leads
/// from any point of a path to the clean sample at once. A flow model that was not distilled, even
/// through [`trigflow::from_flow`](crate::trigflow::from_flow), gives blurred averages in a few steps; it is for
/// [`dpm_solver`](crate::dpm_solver()) and [`flow_euler`](crate::flow_euler).
///
/// Each step predicts the clean sample from timestep `s` and noises it again, to the next timestep `t`:
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
    noise: impl FnMut(usize) -> Result<Tensor<D>, E>,
    mut observe: impl FnMut(Step<D>) -> R,
) -> Result<Tensor<D>, E>
where
    R: Into<Result<StepAction<D>, E>>,
{
    let predict = async |latents, timestep| predict(latents, timestep);
    let observe = async |step| observe(step);
    read_sync(scm_async(
        schedule, sigma_data, initial, predict, noise, observe,
    ))
}

/// [`scm`](crate::scm()) whose `predict` and `observe` may wait for a device without blocking the
/// thread, as a browser demands.
///
/// # Errors
/// As [`scm`](crate::scm()).
///
/// # Panics
/// As [`scm`](crate::scm()).
pub async fn scm_async<const D: usize, E, R>(
    schedule: &ScmSchedule,
    sigma_data: SigmaData,
    initial: Tensor<D>,
    mut predict: impl AsyncFnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
    mut noise: impl FnMut(usize) -> Result<Tensor<D>, E>,
    mut observe: impl AsyncFnMut(Step<D>) -> R,
) -> Result<Tensor<D>, E>
where
    R: Into<Result<StepAction<D>, E>>,
{
    let shape = initial.dims();
    let mut latents = state("the initial sample", initial, shape);
    for (index, pair) in schedule.timesteps().windows(2).enumerate() {
        let (timestep, next) = (pair[0], pair[1]);
        let output = predict(latents.clone(), timestep).await?;
        let output = state("the model output", output, shape);
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
        match action.await.into()? {
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
