use burn::tensor::{Tensor, read_sync};

use super::step::{Step, StepAction, state};
use crate::{FlowSchedule, SamplerError};

/// Grids of fewer steps than this end with lower orders, see [`DpmSolverOptions::lower_order_final`].
const FEW_STEPS: usize = 15;

/// How many predictions a step of [`dpm_solver`](crate::dpm_solver()) looks back on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Order {
    /// One: DDIM, which on a flow is the Euler step.
    First = 1,
    /// Two, in the midpoint form (DPM-Solver++ 2M); what Sana ships with.
    #[default]
    Second = 2,
    /// Three (DPM-Solver++ 3M); see [`ThirdOrderTerm`].
    Third = 3,
}

impl TryFrom<usize> for Order {
    type Error = SamplerError;

    fn try_from(order: usize) -> Result<Self, SamplerError> {
        match order {
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            3 => Ok(Self::Third),
            found => Err(SamplerError::InvalidOrder { found }),
        }
    }
}

/// The weight of the second difference in the third-order update.
///
/// With the divided differences of the denoised prediction over half the log signal-to-noise ratio
/// lambda, the second-derivative term of the exact integral is
/// `alpha (1 - 2 (exp(-h) - 1 + h) / h^2)` times half the second derivative times `h^2`. The
/// published multistep code has half of that weight, which leaves an error of third order in every
/// step and thus a solver of second order; the tests measure both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThirdOrderTerm {
    /// Half the weight, as the reference implementations compute it. For parity with them.
    #[default]
    Reference,
    /// The full weight, which makes the update third-order accurate.
    Exact,
}

/// Options of [`dpm_solver`](crate::dpm_solver()); the default is what Sana ships with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DpmSolverOptions {
    /// The order reached once enough predictions are there; the first step is always first-order,
    /// the second at most second-order.
    pub order: Order,
    /// Whether a grid of fewer than 15 steps ends with a second-order and a first-order step, for
    /// stability. The step to sigma 0 is first-order in any case: it is the denoised prediction.
    pub lower_order_final: bool,
    /// Only used at [`Order::Third`].
    pub third_order_term: ThirdOrderTerm,
}

impl Default for DpmSolverOptions {
    fn default() -> Self {
        Self {
            order: Order::default(),
            lower_order_final: true,
            third_order_term: ThirdOrderTerm::default(),
        }
    }
}

/// Flow-DPM-Solver++: multistep DPM-Solver++ on the flow-matching path.
///
/// With `alpha = 1 - sigma`, `lambda = ln(alpha / sigma)`, `h` the step in lambda and the denoised
/// prediction `D = x - sigma v`, a step from sigma to sigma' is
///
/// ```text
/// x' = (sigma' / sigma) x + alpha' (1 - exp(-h)) D                      first order
///                         + alpha' (1 - exp(-h)) h D' / 2               second order, midpoint
/// ```
///
/// with the derivative `D'` by lambda taken from the last predictions (the third order adds the
/// second derivative). On the flow path `alpha' (1 - exp(-h)) = 1 - sigma' / sigma`, so the step to
/// sigma 0 is finite. Sana, arXiv 2410.10629, flow-based inference; DPM-Solver++, arXiv
/// 2211.01095, algorithm 2 (2M). Steps are usually those of [`FlowSchedule::dpm_solver`].
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
pub fn dpm_solver<const D: usize, E, R>(
    schedule: &FlowSchedule,
    options: &DpmSolverOptions,
    initial: Tensor<D>,
    mut predict: impl FnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
    mut observe: impl FnMut(Step<D>) -> R,
) -> Result<Tensor<D>, E>
where
    R: Into<Result<StepAction<D>, E>>,
{
    let predict = async |latents, timestep| predict(latents, timestep);
    let observe = async |step| observe(step);
    read_sync(dpm_solver_async(
        schedule, options, initial, predict, observe,
    ))
}

/// [`dpm_solver`](crate::dpm_solver()) whose `predict` and `observe` may wait for a device without
/// blocking the thread, as a browser demands.
///
/// # Errors
/// As [`dpm_solver`](crate::dpm_solver()).
///
/// # Panics
/// As [`dpm_solver`](crate::dpm_solver()).
pub async fn dpm_solver_async<const D: usize, E, R>(
    schedule: &FlowSchedule,
    options: &DpmSolverOptions,
    initial: Tensor<D>,
    mut predict: impl AsyncFnMut(Tensor<D>, f64) -> Result<Tensor<D>, E>,
    mut observe: impl AsyncFnMut(Step<D>) -> R,
) -> Result<Tensor<D>, E>
where
    R: Into<Result<StepAction<D>, E>>,
{
    let shape = initial.dims();
    let mut latents = state("the initial sample", initial, shape);
    let mut history: Vec<Tensor<D>> = Vec::with_capacity(4);
    for (index, &timestep) in schedule.timesteps().iter().enumerate() {
        let sigma = schedule.sigmas()[index];
        let velocity = predict(latents.clone(), timestep).await?;
        let velocity = state("the velocity", velocity, shape);
        let denoised = latents.clone() - velocity.mul_scalar(sigma);
        history.insert(0, denoised.clone());
        history.truncate(options.order as usize);

        let order = order_at(index, history.len(), schedule, options);
        let weights = Weights::at(index, order, schedule.sigmas(), options.third_order_term);
        latents = weights.apply(latents, &history);
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
            StepAction::ContinueFrom(sample) => {
                latents = state("the observer's sample", sample, shape);
            }
            StepAction::ContinueWith {
                latents: sample,
                denoised,
            } => {
                latents = state("the observer's sample", sample, shape);
                history[0] = state("the observer's denoised sample", denoised, shape);
            }
        }
    }
    Ok(latents)
}

/// The order of one step: limited by the predictions at hand and near the end of the run.
fn order_at(
    index: usize,
    predictions: usize,
    schedule: &FlowSchedule,
    options: &DpmSolverOptions,
) -> Order {
    let remaining = schedule.steps() - index;
    let lowered = options.lower_order_final && schedule.grid_steps() < FEW_STEPS;
    let reaches_zero = schedule.sigmas()[index + 1] == 0.0;
    let by_history = match predictions {
        1 => Order::First,
        2 => Order::Second,
        _ => Order::Third,
    };
    let by_end = match remaining {
        _ if reaches_zero => Order::First,
        1 if lowered => Order::First,
        2 if lowered => Order::Second,
        _ => Order::Third,
    };
    options.order.min(by_history).min(by_end)
}

/// One step as a linear combination: of the sample, and of the denoised predictions, newest first.
#[derive(Debug, Clone, Copy)]
struct Weights {
    sample: f64,
    denoised: [f64; 3],
    predictions: usize,
}

impl Weights {
    fn at(index: usize, order: Order, sigmas: &[f64], term: ThirdOrderTerm) -> Self {
        let (sigma, next) = (sigmas[index], sigmas[index + 1]);
        let ratio = next / sigma;
        let mut denoised = [1.0 - ratio, 0.0, 0.0];
        let lambda = |back: usize| log_ratio(sigmas[index - back]);
        match order {
            Order::First => {}
            Order::Second => {
                let h = log_ratio(next) - lambda(0);
                let h_0 = lambda(0) - lambda(1);
                // D1 = h D' = (h / h_0) (m0 - m1)
                let slope = 0.5 * (1.0 - ratio) * h / h_0;
                denoised[0] += slope;
                denoised[1] -= slope;
            }
            Order::Third => {
                let h = log_ratio(next) - lambda(0);
                let h_0 = lambda(0) - lambda(1);
                let h_1 = lambda(1) - lambda(2);
                let decay = (-h).exp_m1();
                let phi_2 = (1.0 - next) * (decay / h + 1.0);
                let phi_3 = (1.0 - next)
                    * (0.5 - (decay + h) / (h * h))
                    * match term {
                        ThirdOrderTerm::Reference => 1.0,
                        ThirdOrderTerm::Exact => 2.0,
                    };
                // With the first differences d0 = (h / h_0) (m0 - m1), d1 = (h / h_1) (m1 - m2):
                // D1 = d0 + (h_0 / (h_0 + h_1)) (d0 - d1),  D2 = (h / (h_0 + h_1)) (d0 - d1)
                let bend = (phi_2 * h_0 + phi_3 * h) / (h_0 + h_1);
                let newer = (phi_2 + bend) * h / h_0;
                let older = -bend * h / h_1;
                denoised[0] += newer;
                denoised[1] += older - newer;
                denoised[2] -= older;
            }
        }
        Self {
            sample: ratio,
            denoised,
            predictions: order as usize,
        }
    }

    fn apply<const D: usize>(self, latents: Tensor<D>, history: &[Tensor<D>]) -> Tensor<D> {
        history[..self.predictions]
            .iter()
            .zip(self.denoised)
            .fold(latents.mul_scalar(self.sample), |sum, (m, weight)| {
                sum + m.clone().mul_scalar(weight)
            })
    }
}

/// lambda, half the logarithm of the signal-to-noise ratio; minus infinity at sigma 1.
fn log_ratio(sigma: f64) -> f64 {
    ((1.0 - sigma) / sigma).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(schedule: &FlowSchedule, options: &DpmSolverOptions) -> Vec<usize> {
        (0..schedule.steps())
            .map(|i| {
                let predictions = (i + 1).min(options.order as usize);
                order_at(i, predictions, schedule, options) as usize
            })
            .collect()
    }

    #[test]
    fn orders_rise_at_the_start_and_fall_at_the_end() {
        let third = DpmSolverOptions {
            order: Order::Third,
            ..Default::default()
        };
        let grid = |steps| FlowSchedule::dpm_solver(steps, 3.0).unwrap();
        assert_eq!(orders(&grid(1), &third), [1]);
        assert_eq!(orders(&grid(2), &third), [1, 1]);
        assert_eq!(orders(&grid(5), &third), [1, 2, 3, 2, 1]);
        let mut expected = [3; 15];
        (expected[0], expected[1], expected[14]) = (1, 2, 1);
        assert_eq!(orders(&grid(15), &third), expected);
        let kept = DpmSolverOptions {
            lower_order_final: false,
            ..third
        };
        assert_eq!(orders(&grid(5), &kept), [1, 2, 3, 3, 1]);
        // the end of a long grid is as fine as the grid: not lowered
        let tail = grid(20).from_index(15).unwrap();
        assert_eq!(orders(&tail, &third), [1, 2, 3, 3, 1]);
        // nothing forces the last step down where it does not reach zero
        let open = FlowSchedule::from_sigmas(vec![0.9, 0.7, 0.5, 0.3]).unwrap();
        assert_eq!(orders(&open, &kept), [1, 2, 3]);
        assert_eq!(orders(&open, &third), [1, 2, 1]);
        assert_eq!(orders(&grid(4), &DpmSolverOptions::default()), [1, 2, 2, 1]);
    }

    #[test]
    fn a_constant_prediction_has_equal_weights_at_every_order() {
        let sigmas = [1.0, 0.8, 0.7, 0.45, 0.2];
        for (index, order) in [(3, Order::Third), (2, Order::Third), (1, Order::Second)] {
            for term in [ThirdOrderTerm::Reference, ThirdOrderTerm::Exact] {
                let weights = Weights::at(index, order, &sigmas, term);
                let sum: f64 = weights.denoised.iter().sum();
                assert!(weights.denoised.iter().all(|w| w.is_finite()));
                assert!((sum + weights.sample - 1.0).abs() < 1e-14);
            }
        }
    }

    /// The exact integral of the variation-of-constants formula for a prediction that is a
    /// polynomial in lambda, against Simpson's rule on a fine grid.
    #[test]
    fn weights_integrate_polynomials_in_lambda() {
        let sigmas = [0.9, 0.8, 0.6, 0.35];
        let (start, end) = (log_ratio(sigmas[2]), log_ratio(sigmas[3]));
        let quadratic = |lambda: f64| 0.3 + 0.7 * lambda - 0.4 * lambda * lambda;
        let linear = |lambda: f64| 0.3 + 0.7 * lambda;
        let exact = |prediction: &dyn Fn(f64) -> f64| {
            let intervals = 2000;
            let width = (end - start) / intervals as f64;
            let sum: f64 = (0..=intervals)
                .map(|k| {
                    let lambda = start + k as f64 * width;
                    let simpson = match k {
                        0 => 1.0,
                        k if k == intervals => 1.0,
                        k if k % 2 == 1 => 4.0,
                        _ => 2.0,
                    };
                    simpson * lambda.exp() * prediction(lambda)
                })
                .sum();
            sigmas[3] * sum * width / 3.0
        };
        let ours = |term, prediction: &dyn Fn(f64) -> f64| -> f64 {
            let weights = Weights::at(2, Order::Third, &sigmas, term);
            (0..3)
                .map(|back| weights.denoised[back] * prediction(log_ratio(sigmas[2 - back])))
                .sum()
        };
        for term in [ThirdOrderTerm::Reference, ThirdOrderTerm::Exact] {
            assert!((ours(term, &linear) - exact(&linear)).abs() < 1e-12);
        }
        assert!((ours(ThirdOrderTerm::Exact, &quadratic) - exact(&quadratic)).abs() < 1e-12);
        assert!((ours(ThirdOrderTerm::Reference, &quadratic) - exact(&quadratic)).abs() > 1e-3);
    }

    #[test]
    fn refuses_unknown_orders() {
        assert_eq!(Order::try_from(2), Ok(Order::Second));
        for found in [0, 4] {
            assert_eq!(
                Order::try_from(found),
                Err(SamplerError::InvalidOrder { found })
            );
        }
    }
}
