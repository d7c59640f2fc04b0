//! Training runs: steps, their log, and the state that a stopped run continues from.

mod curve;
mod log;
mod meta;
mod options;
mod state;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Tensor;
use sana_linear_attn::precision::is_cpu;

use self::log::{CURVE, LOG};
use self::meta::{RunMeta, STATE_META};
use self::state::STATE;
use super::error::{TrainError, in_range};
use super::optimizer::{Optimizer, Parameters, Workers, losses_and_norm};
use super::tasks::Task;
use crate::support::files;

pub use log::Progress;
pub use meta::{Change, text_hash, weights_hash};
pub use options::{RunOptions, Schedule, Settings};
pub use state::{discard_run, holds_run, recorded_replicas};

/// The indices of part `part` of `parts` of a batch: contiguous, and as even as can be.
pub(super) fn share(batch: usize, part: usize, parts: usize) -> Range<usize> {
    batch * part / parts..batch * (part + 1) / parts
}

/// What one part of a batch gives.
struct Part {
    /// `[1]`, on the device still.
    loss: Tensor<1>,
    /// Its share of the batch.
    weight: f64,
    /// Multiplied by the weight.
    gradients: Vec<Option<Tensor<1>>>,
}

/// A training run in a folder of its own.
#[derive(Debug)]
pub struct Run<M: Module> {
    folder: PathBuf,
    meta: RunMeta,
    /// The structure, and the parameters that are not trained.
    template: M,
    /// The trained ones.
    parameters: Parameters,
    optimizer: Optimizer,
    workers: Workers,
}

impl<M: Module + Sync> Run<M> {
    /// Starts a run in `folder`, or continues the one whose state lies there. `model` gives the
    /// structure, the first values of a new run, and the parameters that are not trained. It is on
    /// a device without autodiff.
    ///
    /// # Errors
    /// When an option is out of range, the folder cannot be written, or the state there is of
    /// another model or optimizer.
    pub fn open(folder: &Path, model: M, options: RunOptions) -> Result<Self, TrainError> {
        options.validate()?;
        fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        // This removes what a killed run left unfinished, too.
        for name in [STATE, STATE_META, LOG, CURVE] {
            let path = folder.join(name);
            files::check_writable(&path).map_err(TrainError::io(&path))?;
        }
        let all = Parameters::of(&model);
        options.check_frozen(&all.names)?;
        let (frozen, parameters) = all.partition(|name| options.is_frozen(name));
        // On burn's GPU backends with kernel fusion, what one thread queued was seen to be missing in
        // another: values came back as 0.
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
            meta: RunMeta::new::<M>(options, &frozen),
            // Lazy parameters would be drawn again at every clone.
            template: frozen.write_into(model, false),
            parameters,
            optimizer,
            workers,
        };
        if state::exists(folder) {
            state::restore(
                folder,
                &mut run.meta,
                &mut run.parameters,
                &mut run.optimizer,
            )?;
        }
        log::cut(folder, run.step())?;
        if !state::exists(folder) {
            // What is there from now on is a run's, whenever it is stopped.
            meta::write_meta(folder, &run.meta)?;
        }
        Ok(run)
    }

    /// Takes settings over that the run's numbers depend on next to its own options, such as those
    /// of the data, and compares them with those that it was begun with. [`train`](Self::train) does
    /// so with the settings of the task; to do it earlier spares the work in between.
    ///
    /// # Errors
    /// [`TrainError::Settings`] with all that differ, unless
    /// [changes are accepted](RunOptions::accept_changes).
    pub fn settle(&mut self, settings: Settings) -> Result<(), TrainError> {
        self.meta
            .settle(&self.folder, self.optimizer.steps, settings)
    }

    /// Settings that were changed while the run was continued, in their order.
    pub fn changes(&self) -> &[Change] {
        &self.meta.changes
    }

    /// Steps taken so far.
    pub fn step(&self) -> usize {
        self.optimizer.steps
    }

    /// Number of trained scalars.
    pub fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// Bytes that the optimizer keeps of the trained parameters, next to their values and the moving
    /// average.
    pub fn optimizer_bytes(&self) -> usize {
        let states = self.optimizer.states.iter();
        states.map(|state| state.moments.bytes()).sum()
    }

    /// The model with the moving average of its parameters, without autodiff.
    pub fn averaged_model(&self) -> M {
        let states = self.optimizer.states.iter();
        let mut average = self.parameters.clone();
        average.values = states.map(|state| state.average.clone()).collect();
        average.write_into(self.template.clone(), false)
    }

    /// Trains up to the run's last step. `observe` is called after every step and returns whether
    /// to continue. The state is saved every `save_every` steps, before `observe` is called, and at
    /// the end.
    ///
    /// # Errors
    /// When the task's options are out of range, the data cannot be read, or the state cannot be
    /// saved; and [`TrainError::Diverged`] when loss, gradients or parameters are not finite. The
    /// run is then as it was before that step, and the last saved state is in its folder.
    pub fn train<T: Task<Model = M>>(
        &mut self,
        task: &T,
        observe: impl FnMut(&Self, Progress) -> bool,
    ) -> Result<(), TrainError> {
        self.train_until(task, usize::MAX, observe)?;
        Ok(())
    }

    /// [`train`](Self::train) until `last` steps have been taken, at most up to the run's last one,
    /// for a task that changes in the course of the run. To save there is not needed: a run that is
    /// continued with the same tasks for the same steps gives the same numbers. Returns `false` if
    /// `observe` stopped it.
    ///
    /// ```
    /// # use burn::module::Module;
    /// # use sana_pipeline::train::{Run, Task, TrainError};
    /// # fn renewed<M: Module + Sync, T: Task<Model = M>>(
    /// #     mut run: Run<M>,
    /// #     steps: usize,
    /// #     task_of_round: impl Fn(usize) -> Result<T, TrainError>,
    /// # ) -> Result<(), TrainError> {
    /// let renew_every = 500; // steps
    /// while run.step() < steps {
    ///     let round = run.step() / renew_every;
    ///     let task = task_of_round(round)?;
    ///     if !run.train_until(&task, (round + 1) * renew_every, |_, _| true)? {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_until<T: Task<Model = M>>(
        &mut self,
        task: &T,
        last: usize,
        mut observe: impl FnMut(&Self, Progress) -> bool,
    ) -> Result<bool, TrainError> {
        task.validate()?;
        self.settle(task.settings())?;
        let RunOptions {
            steps, save_every, ..
        } = self.meta.options;
        while self.step() < steps.min(last) {
            let progress = self.train_step(task)?;
            log::append(&self.folder, &progress)?;
            let saved = self.step() == steps || self.step().is_multiple_of(save_every);
            if saved {
                self.checked_save(task)?;
            }
            if !observe(self, progress) {
                if !saved {
                    self.checked_save(task)?;
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Saves the state if the task can use the model: one that it cannot use must not replace the
    /// last good one.
    fn checked_save<T: Task<Model = M>>(&self, task: &T) -> Result<(), TrainError> {
        task.check(&self.averaged_model(), self.step())?;
        self.save()
    }

    /// Saves the state and draws the loss curve.
    ///
    /// # Errors
    /// When a file cannot be written, or [`TrainError::Diverged`] when a value is not finite.
    pub fn save(&self) -> Result<(), TrainError> {
        state::save(&self.folder, &self.meta, &self.parameters, &self.optimizer)?;
        log::draw(&self.folder)
    }

    /// One step: the parts of the batch in parallel, their gradients averaged, one update.
    fn train_step<T: Task<Model = M>>(&mut self, task: &T) -> Result<Progress, TrainError> {
        let start = Instant::now();
        let step = self.step();
        let batch = task.batch();
        let parts = self.meta.options.replicas.min(batch);
        let train_part = |part| -> Result<Part, TrainError> {
            let model = self.parameters.write_into(self.template.clone(), true);
            let samples = share(batch, part, parts);
            let weight = samples.len() as f64 / batch as f64;
            let loss = task.loss(&model, step, samples)?;
            let value = loss.clone().inner();
            let gradients = self.parameters.gradients(&model, &loss.backward());
            let weighted = gradients.into_iter().map(|g| g.map(|g| g * weight));
            Ok(Part {
                loss: value,
                weight,
                gradients: weighted.collect(),
            })
        };
        let results = self.workers.share((0..parts).collect(), train_part);

        let (mut losses, mut weights) = (Vec::new(), Vec::new());
        let mut total: Vec<Option<Tensor<1>>> = vec![None; self.parameters.values.len()];
        for result in results {
            let part = result?;
            losses.push(part.loss);
            weights.push(part.weight as f32);
            for (total, gradient) in total.iter_mut().zip(part.gradients) {
                *total = match (total.take(), gradient) {
                    (Some(total), Some(gradient)) => Some(total + gradient),
                    (total, gradient) => total.or(gradient),
                };
            }
        }
        let (losses, gradient_norm) = losses_and_norm(losses, &total);
        let weighted = losses
            .iter()
            .zip(weights)
            .map(|(loss, weight)| loss * weight);
        let loss: f32 = weighted.sum();
        if !loss.is_finite() {
            return Err(TrainError::Diverged {
                step,
                quantity: "the loss".to_owned(),
                value: loss,
            });
        }
        let learning_rate = self.meta.options.schedule.at(step, self.meta.options.steps);
        let values = &mut self.parameters.values;
        self.optimizer.step_with_norm(
            values,
            total,
            gradient_norm,
            learning_rate,
            &self.workers,
        )?;
        Ok(Progress {
            step: self.step(),
            steps: self.meta.options.steps,
            loss,
            gradient_norm,
            learning_rate,
            seconds: start.elapsed().as_secs_f64(),
        })
    }
}
