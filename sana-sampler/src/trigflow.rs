//! TrigFlow around a flow-matching network (Sana-Sprint, arXiv 2503.09641).
//!
//! TrigFlow puts the sample on a circle, `x = cos(t) x0 + sin(t) sigma_data noise` with `t` in
//! `[0, pi / 2]`; flow matching on a line, `(1 - s) x0 / sigma_data + s noise`. The two are the same
//! point up to scale at `s = sin(t) / (sin(t) + cos(t))`, so a network trained for one serves the
//! other without retraining.

use burn::tensor::{DType, Tensor, read_sync};

use crate::{SamplerError, SigmaData, solvers::step::state};

/// The factors of the change between TrigFlow and flow matching at one timestep.
///
/// ```text
/// s = sin(t) / (sin(t) + cos(t)),    n = sqrt(s^2 + (1 - s)^2)
/// input  = x n / sigma_data
/// output = sigma_data ((1 - 2 s) input + (1 - 2 s + 2 s^2) v) / n
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrigFlow {
    flow_timestep: f64,
    input_scale: f64,
    output_input: f64,
    output_velocity: f64,
}

impl TrigFlow {
    /// The factors at the TrigFlow timestep `t` in `[0, pi / 2]`.
    pub fn at(t: f64, sigma_data: SigmaData) -> Self {
        let (sin, cos) = t.sin_cos();
        let s = sin / (sin + cos);
        let squared = s * s + (1.0 - s) * (1.0 - s);
        let norm = squared.sqrt();
        Self {
            flow_timestep: s,
            input_scale: norm / sigma_data.value(),
            output_input: sigma_data.value() * (1.0 - 2.0 * s) / norm,
            output_velocity: sigma_data.value() * squared / norm,
        }
    }

    /// The flow-matching timestep `s` in `[0, 1]`. Sana-Sprint's time embedding gets it as it is, not
    /// times 1000.
    pub fn flow_timestep(&self) -> f64 {
        self.flow_timestep
    }

    /// The network's input from the TrigFlow sample.
    pub fn input<const D: usize>(&self, latents: Tensor<D>) -> Tensor<D> {
        latents.mul_scalar(self.input_scale)
    }

    /// The TrigFlow output `F` from the network's input and the velocity it predicted.
    pub fn output<const D: usize>(&self, input: Tensor<D>, velocity: Tensor<D>) -> Tensor<D> {
        input.mul_scalar(self.output_input) + velocity.mul_scalar(self.output_velocity)
    }
}

/// Makes the `predict` of [`scm`](crate::scm()) from a flow-matching network.
///
/// `network` gets the flow-matching sample and the flow timestep in `[0, 1]`, and returns the velocity
/// `noise - x0 / sigma_data`. The conversion is done in f32.
///
/// # Panics
/// The closure panics if the velocity has another shape than the sample.
pub fn from_flow<const D: usize, E>(
    sigma_data: SigmaData,
    mut network: impl FnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
) -> impl FnMut(Tensor<D>, f64) -> Result<Tensor<D>, E> {
    let mut predict = from_flow_async(sigma_data, async move |x, s| network(x, s));
    move |latents, t| read_sync(predict(latents, t))
}

/// [`from_flow`] for [`scm_async`](crate::scm_async).
///
/// # Panics
/// As [`from_flow`].
pub fn from_flow_async<const D: usize, E>(
    sigma_data: SigmaData,
    mut network: impl AsyncFnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
) -> impl AsyncFnMut(Tensor<D>, f64) -> Result<Tensor<D>, E> {
    async move |latents: Tensor<D>, t: f64| {
        let shape = latents.dims();
        let trigflow = TrigFlow::at(t, sigma_data);
        let input = trigflow.input(latents.cast(DType::F32));
        let velocity = network(input.clone(), trigflow.flow_timestep()).await?;
        Ok(trigflow.output(input, state("the velocity", velocity, shape)))
    }
}

/// Brings clean latents to the TrigFlow timestep `t`, in f32: `sigma_data (cos(t) x0 + sin(t) noise)`.
///
/// `x0` are the autoencoder's scaled latents and `noise` is unit normal, both without the factor
/// `sigma_data`; the result is an initial sample for [`scm`](crate::scm()).
///
/// # Shapes
/// - `x0`, `noise`, the result: any one shape
///
/// # Errors
/// [`SamplerError::ShapeMismatch`] if the two differ in shape.
pub fn noised<const D: usize>(
    x0: Tensor<D>,
    noise: Tensor<D>,
    t: f64,
    sigma_data: SigmaData,
) -> Result<Tensor<D>, SamplerError> {
    crate::flow::check_shape("the noise", &x0, &noise)?;
    let (sin, cos) = t.sin_cos();
    Ok(x0.cast(DType::F32).mul_scalar(cos * sigma_data.value())
        + noise.cast(DType::F32).mul_scalar(sin * sigma_data.value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On scalars: the circle's point scales to the line's, and the line's velocity gives the
    /// circle's, `F = cos(t) sigma_data noise - sin(t) x0`.
    #[test]
    fn the_exact_velocity_gives_the_exact_output() {
        let sigma_data = SigmaData::new(0.7).unwrap();
        let (x0, noise) = (0.37, -1.9);
        for t in [0.0, 0.2, 0.8, 1.3, 1.57] {
            let factors = TrigFlow::at(t, sigma_data);
            let (sin, cos) = f64::sin_cos(t);
            let circle = cos * x0 + sin * 0.7 * noise;
            let s = factors.flow_timestep();
            let line = (1.0 - s) * x0 / 0.7 + s * noise;
            assert!((circle * factors.input_scale - line).abs() < 1e-14);
            let velocity = noise - x0 / 0.7;
            let output = factors.output_input * line + factors.output_velocity * velocity;
            assert!((output - (cos * 0.7 * noise - sin * x0)).abs() < 1e-14);
        }
    }
}
