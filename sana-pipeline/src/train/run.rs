use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::Weights;
use sana_linear_attn::weights::write_tensors;
use serde::{Deserialize, Serialize};

use super::curve::draw_curve;
use super::error::{TrainError, at_least_one, in_range};
use super::optimizer::{Optimizer, OptimizerOptions};
use super::parameters::{Parameters, gradients};
use super::workers::Workers;
use crate::files;

/// What a step trains on: a loss for a share of the batch.
pub trait Task: Sync {
    /// The module that is trained.
    type Model: Module;

    /// Number of samples of a step.
    fn batch(&self) -> usize;

    /// Refuses options that are out of range, before the first step.
    ///
    /// # Errors
    /// [`TrainError::Option`].
    fn validate(&self) -> Result<(), TrainError>;

    /// The mean loss over [`share`] `part` of `parts` of the batch of step `step`, as a tensor
    /// `[1]` on the model's graph. Everything random derives from the step and the sample's index.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn loss(
        &self,
        model: &Self::Model,
        step: usize,
        part: usize,
        parts: usize,
    ) -> Result<Tensor<1>, TrainError>;
}

/// The indices of part `part` of `parts` of a batch: contiguous, and as even as can be.
pub fn share(batch: usize, part: usize, parts: usize) -> Range<usize> {
    batch * part / parts..batch * (part + 1) / parts
}

/// Learning rate over the run: a linear warm-up, then a half cosine to a last value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps of the linear warm-up.
    pub warmup: usize,
    /// Last learning rate as a share of the highest.
    pub last: f64,
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

/// Options of a [`Run`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// Steps of the whole run; the schedule ends there.
    pub steps: usize,
    /// Learning rate.
    pub schedule: Schedule,
    /// Optimiser.
    pub optimizer: OptimizerOptions,
    /// Parts of the batch that run on threads of their own, each with a graph of its own; there are
    /// never more than samples. 1 on a GPU.
    pub replicas: usize,
    /// Steps between saves of the state.
    pub save_every: usize,
}

impl RunOptions {
    fn validate(&self) -> Result<(), TrainError> {
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
        let decay = self.optimizer.ema_decay;
        in_range("ema_decay", "in [0, 1)", (0.0..1.0).contains(&decay), decay)?;
        let clip = self.optimizer.clip_norm;
        in_range("clip_norm", "positive", clip > 0.0, clip)
    }
}

/// What a step reports.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps taken.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Loss of the step.
    pub loss: f32,
    /// Norm of all gradients together, before the clip.
    pub gradient_norm: f32,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Wall time of the step.
    pub seconds: f64,
}

/// What one part of a batch gives, weighted by its share of the batch.
struct Part {
    loss: f32,
    gradients: Vec<Option<Tensor<1>>>,
}

/// A training run in a folder of its own.
#[derive(Debug)]
pub struct Run<M: Module> {
    folder: PathBuf,
    options: RunOptions,
    template: M,
    parameters: Parameters,
    optimizer: Optimizer,
    workers: Workers,
}

const STATE: &str = "state.safetensors";
const STATE_META: &str = "state.json";
const LOG: &str = "log.csv";
const CURVE: &str = "loss.png";

#[derive(Serialize, Deserialize)]
struct StateMeta {
    step: usize,
    options: RunOptions,
}

/// Whether tensors of the device may be used by several threads at a time. On burn's GPU backends
/// with kernel fusion, what one thread queued was seen to be missing in another: values came back
/// as 0.
fn is_cpu(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return *device == Device::flex();
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

impl<M: Module + Sync> Run<M> {
    /// Starts a run in `folder`, or goes on with the one whose state lies there. `model` gives the
    /// structure, and the first values of a new run.
    ///
    /// # Errors
    /// When an option is out of range, the folder cannot be written, or the state there is of
    /// another model or optimiser.
    pub fn open(folder: &Path, model: M, options: RunOptions) -> Result<Self, TrainError> {
        options.validate()?;
        fs::create_dir_all(folder).map_err(|source| TrainError::Io {
            path: folder.to_path_buf(),
            source,
        })?;
        for name in [STATE, STATE_META, LOG, CURVE] {
            let path = folder.join(name);
            files::check_writable(&path).map_err(|source| TrainError::Io { path, source })?;
        }
        let parameters = Parameters::of(&model);
        let threads_may_share = parameters
            .values
            .first()
            .is_none_or(|value| is_cpu(&value.device()));
        let (one, replicas) = (options.replicas == 1, options.replicas);
        in_range("replicas", "1 on a GPU", one || threads_may_share, replicas)?;
        let optimizer = Optimizer::new(options.optimizer, &parameters);
        let workers = Workers::new(options.replicas)?;
        let mut run = Self {
            folder: folder.to_path_buf(),
            options,
            template: model,
            parameters,
            optimizer,
            workers,
        };
        if run.folder.join(STATE).is_file() {
            run.restore()?;
        }
        Ok(run)
    }

    /// Steps taken so far.
    pub fn step(&self) -> usize {
        self.optimizer.steps
    }

    /// Number of trained scalars.
    pub fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// The model with the moving average of its parameters, without autodiff.
    pub fn averaged_model(&self) -> M {
        let states = self.optimizer.states.iter();
        let average = Parameters {
            values: states.map(|state| state.average.clone()).collect(),
            ..self.parameters.clone()
        };
        average.write_into(self.template.clone(), false)
    }

    /// Trains up to the run's last step. `observe` sees every step and answers whether to go on.
    /// The state is saved every `save_every` steps and at the end.
    ///
    /// # Errors
    /// When the task's options are out of range, the data cannot be read, the loss is not finite,
    /// or the state cannot be saved.
    pub fn train<T: Task<Model = M>>(
        &mut self,
        task: &T,
        mut observe: impl FnMut(&Self, Progress) -> bool,
    ) -> Result<(), TrainError> {
        task.validate()?;
        while self.step() < self.options.steps {
            let progress = self.train_step(task)?;
            self.log(&progress)?;
            let go_on = observe(self, progress);
            let last = !go_on || self.step() == self.options.steps;
            if last || self.step().is_multiple_of(self.options.save_every) {
                self.save()?;
            }
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// One step: the parts of the batch in parallel, their gradients averaged, one update.
    fn train_step<T: Task<Model = M>>(&mut self, task: &T) -> Result<Progress, TrainError> {
        let start = Instant::now();
        let step = self.step();
        let batch = task.batch();
        let parts = self.options.replicas.min(batch);
        let train_part = |part| -> Result<Part, TrainError> {
            let model = self.parameters.write_into(self.template.clone(), true);
            let loss = task.loss(&model, step, part, parts)?;
            let weight = share(batch, part, parts).len() as f64 / batch as f64;
            let value = loss.clone().into_scalar::<f32>();
            let gradients = gradients(&model, &loss.backward());
            let weighted = gradients.into_iter().map(|g| g.map(|g| g * weight));
            Ok(Part {
                loss: value * weight as f32,
                gradients: weighted.collect(),
            })
        };
        let results = self.workers.share((0..parts).collect(), train_part);

        let mut loss = 0.0;
        let mut total: Vec<Option<Tensor<1>>> = vec![None; self.parameters.values.len()];
        for result in results {
            let part = result?;
            loss += part.loss;
            for (total, gradient) in total.iter_mut().zip(part.gradients) {
                *total = match (total.take(), gradient) {
                    (Some(total), Some(gradient)) => Some(total + gradient),
                    (total, gradient) => total.or(gradient),
                };
            }
        }
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step, loss });
        }
        let learning_rate = self.options.schedule.at(step, self.options.steps);
        let values = &mut self.parameters.values;
        let gradient_norm = self
            .optimizer
            .step(values, total, learning_rate, &self.workers);
        Ok(Progress {
            step: self.step(),
            steps: self.options.steps,
            loss,
            gradient_norm,
            learning_rate,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    fn io(&self, name: &str) -> impl Fn(std::io::Error) -> TrainError {
        let path = self.folder.join(name);
        move |source| TrainError::Io {
            path: path.clone(),
            source,
        }
    }

    fn log(&self, progress: &Progress) -> Result<(), TrainError> {
        let path = self.folder.join(LOG);
        let new = !path.exists();
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(self.io(LOG))?;
        if new {
            writeln!(file, "step,loss,gradient_norm,learning_rate,seconds")
                .map_err(self.io(LOG))?;
        }
        let Progress {
            step,
            loss,
            gradient_norm,
            learning_rate,
            seconds,
            ..
        } = progress;
        writeln!(
            file,
            "{step},{loss:.6},{gradient_norm:.5},{learning_rate:.7},{seconds:.3}"
        )
        .map_err(self.io(LOG))
    }

    /// Saves the state and draws the loss curve.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self) -> Result<(), TrainError> {
        let mut tensors = Vec::new();
        for (index, state) in self.optimizer.states.iter().enumerate() {
            let name = &self.parameters.names[index];
            let sets = [
                ("value", &self.parameters.values[index]),
                ("first", &state.first),
                ("second", &state.second),
                ("average", &state.average),
            ];
            for (set, value) in sets {
                tensors.push((format!("{set}.{name}"), value.clone().into_data()));
            }
        }
        // The step travels with the tensors, so that the two cannot disagree after a crash. The
        // options are written first: there is never a state without them.
        let device = self.parameters.values[0].device();
        let step = Tensor::<1>::from_floats([self.step() as f32], &device);
        tensors.push(("step".to_owned(), step.into_data()));
        let meta = StateMeta {
            step: self.step(),
            options: self.options.clone(),
        };
        let json = serde_json::to_string_pretty(&meta)
            .map_err(|error| self.io(STATE_META)(std::io::Error::other(error)))?;
        self.write(STATE_META, &json)?;
        write_tensors(&self.folder.join(STATE), tensors)?;
        draw_curve(&self.folder.join(LOG), &self.folder.join(CURVE))
    }

    fn restore(&mut self) -> Result<(), TrainError> {
        let path = self.folder.join(STATE);
        let weights = Weights::open_file(&path)?;
        self.check_optimizer()?;
        let device = self.parameters.values[0].device();
        let read = |set: &str, name: &str, current: &Tensor<1>| {
            let key = format!("{set}.{name}");
            let tensor: Tensor<1> = weights.tensor(&key, DType::F32, &device)?;
            if tensor.dims() == current.dims() {
                Ok(tensor)
            } else {
                let (expected, found) = (current.dims()[0], tensor.dims()[0]);
                let reason = format!("{key} has {found} values, the model has {expected}");
                Err(TrainError::State {
                    path: path.clone(),
                    reason,
                })
            }
        };
        // All is read before anything is replaced.
        let (mut values, mut states) = (Vec::new(), self.optimizer.states.clone());
        for (index, state) in states.iter_mut().enumerate() {
            let name = &self.parameters.names[index];
            values.push(read("value", name, &self.parameters.values[index])?);
            for (set, tensor) in [
                ("first", &mut state.first),
                ("second", &mut state.second),
                ("average", &mut state.average),
            ] {
                *tensor = read(set, name, tensor)?;
            }
        }
        let step: Tensor<1> = weights.tensor("step", DType::F32, &device)?;
        self.parameters.values = values;
        self.optimizer.states = states;
        self.optimizer.steps = step.into_scalar::<f32>() as usize;
        self.cut_log()
    }

    /// Moments of one optimiser mean nothing to the other.
    fn check_optimizer(&self) -> Result<(), TrainError> {
        let path = self.folder.join(STATE_META);
        let text = fs::read_to_string(&path).map_err(self.io(STATE_META))?;
        let bad = |reason| TrainError::State {
            path: path.clone(),
            reason,
        };
        let meta: StateMeta =
            serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        let (saved, asked) = (
            meta.options.optimizer.matrices,
            self.options.optimizer.matrices,
        );
        if saved == asked {
            return Ok(());
        }
        Err(bad(format!(
            "the run's optimiser is {saved:?}, not {asked:?}: name that one, or start a new run \
             from its weights"
        )))
    }

    /// Drops log lines of steps after the restored one: they will be taken again.
    fn cut_log(&self) -> Result<(), TrainError> {
        let path = self.folder.join(LOG);
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        let kept: String = text
            .lines()
            .filter(
                |line| match line.split(',').next().map(str::parse::<usize>) {
                    Some(Ok(step)) => step <= self.step(),
                    _ => true,
                },
            )
            .flat_map(|line| [line, "\n"])
            .collect();
        self.write(LOG, &kept)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), TrainError> {
        files::write_whole(&self.folder.join(name), |file| {
            file.write_all(text.as_bytes())
        })
        .map_err(self.io(name))
    }
}
