//! What is not finite is never applied and never saved.

use std::ops::Range;

use burn::tensor::Tensor;
use sana_dcae::DcAe;
use sana_linear_attn::parity::{device, values};

use super::models::{options, task, tiny_autoencoder};
use super::workers;
use crate::train::optimizer::{Optimizer, Parameters};
use crate::train::{
    AutoencoderTask, OptimizerOptions, Run, RunOptions, Task, TrainError, with_measured_scale,
};

#[test]
fn a_loss_that_is_not_finite_stops_the_run() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut task = task(&device);
    task.options.latent_decay = 1e300; // infinite in f32
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(3)).expect("run");
    let error = run.train(&task, |_, _| true).expect_err("diverges");
    assert!(
        matches!(error, TrainError::Diverged { step: 0, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("lower the learning rate"),
        "{error}"
    );
    assert!(!folder.path().join("state.safetensors").exists());
}

/// An autoencoder's task whose gradients are not a number from some step on, while its loss stays
/// finite: the derivative of a square root at zero.
struct Cliff {
    task: AutoencoderTask,
    at: usize,
}

impl Task for Cliff {
    type Model = DcAe;

    fn batch(&self) -> usize {
        self.task.batch()
    }

    fn validate(&self) -> Result<(), TrainError> {
        self.task.validate()
    }

    fn loss(
        &self,
        model: &DcAe,
        step: usize,
        samples: Range<usize>,
    ) -> Result<Tensor<1>, TrainError> {
        let loss = self.task.loss(model, step, samples)?;
        if step < self.at {
            return Ok(loss);
        }
        Ok(loss.clone() + (loss * 0.0).sqrt())
    }
}

#[test]
fn gradients_that_are_not_finite_change_nothing() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let options = RunOptions {
        save_every: 1,
        ..options(5)
    };
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options).expect("run");
    let cliff = Cliff {
        task: task(&device),
        at: 2,
    };
    let mut before = None;
    let error = run
        .train(&cliff, |run, _| {
            before = Some(run.averaged_model());
            true
        })
        .expect_err("diverges");
    assert!(
        matches!(error, TrainError::Diverged { step: 2, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("diverged at step 2: the norm of the gradients is NaN"),
        "{error}"
    );
    assert_eq!(run.step(), 2);
    let before = Parameters::of(&before.expect("two steps"));
    let after = Parameters::of(&run.averaged_model());
    for ((name, before), after) in before.names.iter().zip(before.values).zip(after.values) {
        assert_eq!(values(before), values(after), "{name}");
    }
    let log = std::fs::read_to_string(folder.path().join("log.csv")).expect("log");
    assert_eq!(log.lines().count(), 3, "{log}");

    // The run continues from there.
    run.train(&cliff.task, |_, _| true).expect("trains");
    assert_eq!(run.step(), 5);
}

#[test]
fn a_step_of_infinite_gradients_is_refused() {
    let device = device();
    let tensor = |value: f32| Tensor::<1>::from_floats([value], &device);
    let mut parameters = Parameters::new([("a", &[1], tensor(2.0)), ("b", &[1], tensor(3.0))]);
    let mut optimizer = Optimizer::new(OptimizerOptions::default(), &parameters);
    for wrong in [f32::INFINITY, f32::NAN] {
        let gradients = vec![Some(tensor(1.0)), Some(tensor(wrong))];
        optimizer
            .step(&mut parameters.values, gradients, 0.1, &workers(1))
            .expect_err("refused");
        assert_eq!(optimizer.steps, 0);
        for (value, expected) in parameters.values.iter().zip([2.0, 3.0]) {
            assert_eq!(values(value.clone()), [expected]);
        }
        for state in &optimizer.states {
            let (name, exp_avg) = &state.moments.tensors()[0];
            assert_eq!(
                (*name, exp_avg.iter::<f32>().next()),
                ("exp_avg", Some(0.0))
            );
        }
    }
}

/// A learning rate that is far too high: parameters overflow although the gradients are finite.
#[test]
fn parameters_that_are_not_finite_are_not_saved() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut options = options(2);
    let mut run =
        Run::open(folder.path(), tiny_autoencoder(&device), options.clone()).expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let state = folder.path().join("state.safetensors");
    let saved = std::fs::read(&state).expect("state");

    options.steps = 4;
    options.schedule.warmup = 0;
    options.schedule.learning_rate = 1e39; // infinite in f32
    options.accept_changes = true;
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options).expect("resumes");
    let error = run
        .train(&task(&device), |_, _| true)
        .expect_err("diverges");
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    assert_eq!(std::fs::read(&state).expect("state"), saved);
}

#[test]
fn a_scale_that_is_not_finite_is_refused() {
    let device = device();
    let model = tiny_autoencoder(&device);
    let data = task(&device).data;
    let mut parameters = Parameters::of(&model);
    for wrong in [f32::NAN, 0.0] {
        for value in &mut parameters.values {
            *value = value.full_like(wrong);
        }
        let broken = parameters.write_into(model.clone(), false);
        let error = with_measured_scale(&broken, &*data, 0, &device).expect_err("refused");
        assert!(matches!(error, TrainError::LatentScale { .. }), "{error}");
    }
}
