use burn::tensor::{Tensor, read_sync};

use super::step::{Step, StepAction, state};
use crate::FlowSchedule;

/// Flow Euler: one straight step along the velocity from each noise level to the next.
///
/// ```text
/// x <- x + (sigma_next - sigma) v,    denoised = x - sigma v
/// ```
///
/// First order in the step; the Sana paper uses 28 to 50 of its steps where
/// [`dpm_solver`](crate::dpm_solver()) needs 14 to 20. Steps are usually those of
/// [`FlowSchedule::euler`].
///
/// `predict` gets the sample and the timestep and returns the velocity `noise - x0`; `observe` sees
/// each [`Step`]. The solver's arithmetic and its result are f32, whatever dtype `initial` and the
/// velocity have.
///
/// # Shapes
/// - `initial`, the sample given to `predict`, its velocity, the result: any one shape
///
/// # Errors
/// Whatever `predict` or `observe` returns, at once.
///
/// # Panics
/// If the velocity or a sample given by `observe` has another shape than `initial`.
pub fn flow_euler<const D: usize, E, R>(
    schedule: &FlowSchedule,
    initial: Tensor<D>,
    mut predict: impl FnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
    mut observe: impl FnMut(Step<D>) -> R,
) -> Result<Tensor<D>, E>
where
    R: Into<Result<StepAction<D>, E>>,
{
    let predict = async |latents, timestep| predict(latents, timestep);
    let observe = async |step| observe(step);
    read_sync(flow_euler_async(schedule, initial, predict, observe))
}

/// [`flow_euler`] whose `predict` and `observe` may wait for a device without blocking the thread,
/// as a browser demands.
///
/// # Errors
/// As [`flow_euler`].
///
/// # Panics
/// As [`flow_euler`].
pub async fn flow_euler_async<const D: usize, E, R>(
    schedule: &FlowSchedule,
    initial: Tensor<D>,
    mut predict: impl AsyncFnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
    mut observe: impl AsyncFnMut(Step<D>) -> R,
) -> Result<Tensor<D>, E>
where
    R: Into<Result<StepAction<D>, E>>,
{
    let shape = initial.dims();
    let mut latents = state("the initial sample", initial, shape);
    for (index, &timestep) in schedule.timesteps().iter().enumerate() {
        let (sigma, next) = (schedule.sigmas()[index], schedule.sigmas()[index + 1]);
        let velocity = predict(latents.clone(), timestep).await?;
        let velocity = state("the velocity", velocity, shape);
        let denoised = latents.clone() - velocity.clone().mul_scalar(sigma);
        latents = latents + velocity.mul_scalar(next - sigma);
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
