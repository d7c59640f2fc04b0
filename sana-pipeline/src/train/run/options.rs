use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::train::error::{TrainError, at_least_one, in_range, not_negative};
use crate::train::optimizer::OptimizerOptions;

/// Learning rate over the run: a linear warm-up, then a half cosine to a last value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Highest learning rate. Default 1e-3.
    pub learning_rate: f64,
    /// Steps of the linear warm-up. Default 100.
    pub warmup: usize,
    /// Last learning rate as a share of the highest. Default 0.05.
    pub last: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            warmup: 100,
            last: 0.05,
        }
    }
}

impl Schedule {
    /// The learning rate of step `step` of `steps`, counted from 0.
    pub fn at(&self, step: usize, steps: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let span = steps.saturating_sub(self.warmup).max(1) as f64;
        let progress = ((step - self.warmup) as f64 / span).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.learning_rate * (self.last + (1.0 - self.last) * cosine)
    }
}

/// Settings that the numbers of a run depend on, by name.
pub type Settings = BTreeMap<String, Value>;

/// Options of a [`Run`](super::Run).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// Steps of the whole run; the schedule ends there. Default 1000.
    pub steps: usize,
    /// Learning rate.
    pub schedule: Schedule,
    /// Optimizer.
    pub optimizer: OptimizerOptions,
    /// Parameters that are not trained: those whose names begin with one of these. `text_encoder.`
    /// freezes the text encoder of a [`Denoiser`](crate::train::Denoiser), `encoder.` leaves the
    /// latents of an autoencoder as they are. Frozen parameters take no memory of the optimizer and
    /// are not in the run's state: the model that the run is opened with brings them. Default none.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// Parts of the batch that run on threads of their own, each with a graph of its own; there are
    /// never more than samples. It must be 1 on a GPU. Default 1.
    pub replicas: usize,
    /// Steps between saves of the state. Default 200.
    pub save_every: usize,
    /// Continues a run whose settings differ from these, and records the changes in its state. The
    /// kind of model, its frozen parameters and the optimizer must be the same all the same.
    /// Default false: such a run is refused.
    #[serde(skip)]
    pub accept_changes: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            steps: 1000,
            schedule: Schedule::default(),
            optimizer: OptimizerOptions::default(),
            frozen: Vec::new(),
            replicas: 1,
            save_every: 200,
            accept_changes: false,
        }
    }
}

impl RunOptions {
    pub(super) fn validate(&self) -> Result<(), TrainError> {
        at_least_one("steps", self.steps)?;
        at_least_one("replicas", self.replicas)?;
        at_least_one("save_every", self.save_every)?;
        let rate = self.schedule.learning_rate;
        in_range(
            "learning_rate",
            "positive",
            rate > 0.0 && rate.is_finite(),
            rate,
        )?;
        let last = self.schedule.last;
        in_range("last", "in [0, 1]", (0.0..=1.0).contains(&last), last)?;
        let OptimizerOptions {
            beta1,
            beta2,
            eps,
            weight_decay,
            ..
        } = self.optimizer;
        for (name, beta) in [("beta1", beta1), ("beta2", beta2)] {
            in_range(name, "in [0, 1)", (0.0..1.0).contains(&beta), beta)?;
        }
        in_range("eps", "positive", eps > 0.0 && eps.is_finite(), eps)?;
        not_negative("weight_decay", weight_decay)?;
        let decay = self.optimizer.ema_decay;
        in_range("ema_decay", "in [0, 1)", (0.0..1.0).contains(&decay), decay)?;
        let clip = self.optimizer.clip_norm;
        in_range("clip_norm", "positive", clip > 0.0, clip)
    }

    /// What the numbers of a run depend on, by name; not the steps, which may be added to, nor what
    /// is checked on its own.
    pub(super) fn settings(&self) -> Settings {
        let (schedule, optimizer) = (&self.schedule, &self.optimizer);
        [
            ("learning_rate", schedule.learning_rate.into()),
            ("warmup", schedule.warmup.into()),
            ("last", schedule.last.into()),
            ("beta1", optimizer.beta1.into()),
            ("beta2", optimizer.beta2.into()),
            ("eps", optimizer.eps.into()),
            ("weight_decay", optimizer.weight_decay.into()),
            // JSON has no infinity.
            ("clip_norm", optimizer.clip_norm.to_string().into()),
            ("ema_decay", optimizer.ema_decay.into()),
            ("replicas", self.replicas.into()),
        ]
        .map(|(name, value): (&str, Value)| (name.to_owned(), value))
        .into()
    }

    pub(in crate::train) fn is_frozen(&self, parameter: &str) -> bool {
        let mut prefixes = self.frozen.iter();
        prefixes.any(|prefix| parameter.starts_with(prefix.as_str()))
    }

    /// Refuses a beginning that no parameter has, and a run with nothing to train.
    pub(super) fn check_frozen(&self, parameters: &[String]) -> Result<(), TrainError> {
        for prefix in &self.frozen {
            let found = parameters.iter().any(|name| name.starts_with(prefix));
            in_range(
                "frozen",
                "the beginning of a parameter's name",
                found,
                prefix,
            )?;
        }
        let trained = parameters.iter().any(|name| !self.is_frozen(name));
        let frozen = self.frozen.join(", ");
        in_range("frozen", "less than every parameter", trained, frozen)
    }
}
