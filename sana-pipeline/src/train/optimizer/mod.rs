//! AdamW, Muon and CAME on the flat parameters of a module.

mod came;
mod kind;
mod muon;
mod parameters;
mod quantized;
mod state;
mod workers;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use self::muon::orthogonalize;
use self::parameters::take;
use super::error::TrainError;

pub use kind::OptimizerKind;

pub(super) use came::EXP_AVG_SQ;
pub(super) use parameters::{Parameters, is_trained};
pub(super) use quantized::{DATA, MIN, SCALE};
pub(super) use state::{Moments, ParameterState};
pub(super) use workers::Workers;

/// Options of the optimizer. The defaults are those of each field.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimizerOptions {
    /// The optimizer. Default AdamW.
    #[serde(default, alias = "matrices")]
    pub kind: OptimizerKind,
    /// Decay of the first moment. Default 0.9.
    pub beta1: f64,
    /// Decay of the second moment. Default 0.999.
    pub beta2: f64,
    /// Added to the root of the second moment by AdamW. Default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate. Default 0.01; the authors train with CAME
    /// and 0.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; larger ones are scaled down, none when it is
    /// infinite. Default 1.
    pub clip_norm: f64,
    /// Decay of the moving average of the parameters. Default 0.999.
    pub ema_decay: f64,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::AdamW,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            ema_decay: 0.999,
        }
    }
}

/// Decay of Muon's momentum.
const MUON_MOMENTUM: f64 = 0.95;
/// Muon's update has this root mean square for a learning rate of one, about that of AdamW, so that
/// both share a rate (arXiv 2502.16982, section 2.2).
const MUON_RMS: f64 = 0.2;

/// AdamW (arXiv 1711.05101), Muon or [CAME](came::CameState), with a global gradient clip and a
/// moving average of the parameters.
///
/// ```text
/// AdamW  m = b1 m + (1 - b1) g          v = b2 v + (1 - b2) g^2
///        u = m / (1 - b1^n) / (sqrt(v / (1 - b2^n)) + eps)
/// Muon   m = 0.95 m + g                 u = 0.2 sqrt(max(rows, columns)) orthogonal(g + 0.95 m)
///
/// p = p (1 - lr wd) - lr u
/// ema = ema + (1 - d) (p - ema),  d = min(decay, (1 + n) / (10 + n))
/// ```
///
/// burn's own optimizers key their state by parameter ids, which change from process to process;
/// this one keeps it in the module's order, so that a run resumes with nothing lost.
#[derive(Debug, Clone)]
pub(super) struct Optimizer {
    /// Its options.
    pub options: OptimizerOptions,
    /// Steps taken.
    pub steps: usize,
    /// State of each parameter, in the module's order.
    pub states: Vec<ParameterState>,
}

impl Optimizer {
    /// An optimizer for these parameters.
    pub fn new(options: OptimizerOptions, parameters: &Parameters) -> Self {
        let states = (0..parameters.values.len())
            .map(|index| ParameterState::new(options.kind, parameters, index));
        Self {
            options,
            steps: 0,
            states: states.collect(),
        }
    }

    /// [`step_with_norm`](Self::step_with_norm) with the norm of these gradients, which it returns.
    ///
    /// # Errors
    /// As [`step_with_norm`](Self::step_with_norm).
    #[cfg(test)]
    pub fn step(
        &mut self,
        values: &mut [Tensor<1>],
        gradients: Vec<Option<Tensor<1>>>,
        learning_rate: f64,
        workers: &Workers,
    ) -> Result<f32, TrainError> {
        let (_, norm) = losses_and_norm(Vec::new(), &gradients);
        self.step_with_norm(values, gradients, norm, learning_rate, workers)?;
        Ok(norm)
    }

    /// One step; parameters without a gradient stay. `norm` is that of all gradients together, before
    /// the clip. The parameters are shared among the workers, with the same result for any number of
    /// them.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if the norm is not finite; nothing is changed then.
    pub fn step_with_norm(
        &mut self,
        values: &mut [Tensor<1>],
        gradients: Vec<Option<Tensor<1>>>,
        norm: f32,
        learning_rate: f64,
        workers: &Workers,
    ) -> Result<(), TrainError> {
        if !norm.is_finite() {
            return Err(TrainError::Diverged {
                step: self.steps,
                quantity: "the norm of the gradients".to_owned(),
                value: norm,
            });
        }
        self.steps += 1;
        let n = self.steps as i32;
        let ema_decay = self.options.ema_decay;
        let step = Step {
            options: &self.options,
            clip: (self.options.clip_norm / f64::from(norm)).min(1.0),
            learning_rate,
            first_bias: 1.0 - self.options.beta1.powi(n),
            second_bias: 1.0 - self.options.beta2.powi(n),
            keep: ema_decay.min((1.0 + f64::from(n)) / (10.0 + f64::from(n))),
        };
        let states = self.states.iter_mut();
        let items = states.zip(values).zip(gradients).collect();
        workers.share(items, |((state, value), gradient)| {
            step.update(state, value, gradient);
        });
        Ok(())
    }
}

/// The values of losses, `[1]` each, and the norm of all gradients together. Both are read from the
/// device at once: a step waits for it this one time, whatever the number of parameters.
pub(super) fn losses_and_norm(
    losses: Vec<Tensor<1>>,
    gradients: &[Option<Tensor<1>>],
) -> (Vec<f32>, f32) {
    let parts = losses.len();
    let squares = gradients.iter().flatten().map(|g| g.clone().square().sum());
    let all: Vec<_> = losses.into_iter().chain(squares).collect();
    if all.is_empty() {
        return (Vec::new(), 0.0);
    }
    let mut values: Vec<f32> = Tensor::cat(all, 0).into_data().iter::<f32>().collect();
    let squares = values.split_off(parts);
    (values, squares.iter().sum::<f32>().sqrt())
}

/// What all parameters share in a step.
struct Step<'a> {
    options: &'a OptimizerOptions,
    clip: f64,
    learning_rate: f64,
    first_bias: f64,
    second_bias: f64,
    keep: f64,
}

impl Step<'_> {
    fn update(
        &self,
        state: &mut ParameterState,
        value: &mut Tensor<1>,
        gradient: Option<Tensor<1>>,
    ) {
        if let Some(gradient) = gradient {
            let gradient = gradient * self.clip;
            let update = match &mut state.moments {
                Moments::AdamW {
                    exp_avg,
                    exp_avg_sq,
                } => self.adamw(exp_avg, exp_avg_sq, gradient),
                Moments::Muon { exp_avg, matrix } => self.muon(exp_avg, gradient, *matrix),
                Moments::Came(state) => {
                    let betas = [self.options.beta1, self.options.beta2];
                    state.update(gradient, betas) * self.learning_rate
                }
            };
            let decay = 1.0 - self.learning_rate * self.options.weight_decay;
            *value = take(value) * decay - update;
        }
        // In this form the average of what does not change does not change, to the last bit.
        let average = take(&mut state.average);
        let ahead = (value.clone() - average.clone()) * (1.0 - self.keep);
        state.average = average + ahead;
    }

    fn adamw(
        &self,
        exp_avg: &mut Tensor<1>,
        exp_avg_sq: &mut Tensor<1>,
        gradient: Tensor<1>,
    ) -> Tensor<1> {
        let OptimizerOptions {
            beta1, beta2, eps, ..
        } = *self.options;
        *exp_avg = take(exp_avg) * beta1 + gradient.clone() * (1.0 - beta1);
        *exp_avg_sq = take(exp_avg_sq) * beta2 + gradient.square() * (1.0 - beta2);
        let root = (exp_avg_sq.clone() * (1.0 / self.second_bias)).sqrt() + eps;
        exp_avg.clone() * (self.learning_rate / self.first_bias) / root
    }

    fn muon(&self, exp_avg: &mut Tensor<1>, gradient: Tensor<1>, matrix: [usize; 2]) -> Tensor<1> {
        *exp_avg = take(exp_avg) * MUON_MOMENTUM + gradient.clone();
        let ahead = gradient + exp_avg.clone() * MUON_MOMENTUM;
        let [rows, columns] = matrix;
        let rms = MUON_RMS * (rows.max(columns) as f64).sqrt();
        let direction = orthogonalize(ahead.reshape(matrix));
        direction.reshape([rows * columns]) * (self.learning_rate * rms)
    }
}
