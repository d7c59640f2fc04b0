//! Options out of range.

use sana_linear_attn::parity::device;

use super::models::{options, task, tiny_autoencoder, tiny_denoiser};
use crate::train::{
    AutoencoderOptions, OptimizerOptions, Run, RunOptions, Schedule, TransformerOptions,
};

#[test]
fn bad_options_are_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let open = |options| Run::open(folder.path(), tiny_autoencoder(&device), options);
    let cases = [
        (
            RunOptions {
                steps: 0,
                ..options(1)
            },
            "steps must be at least 1, got 0",
        ),
        (
            RunOptions {
                replicas: 0,
                ..options(1)
            },
            "replicas must be at least 1, got 0",
        ),
        (
            RunOptions {
                save_every: 0,
                ..options(1)
            },
            "save_every must be at least 1, got 0",
        ),
        (
            RunOptions {
                schedule: Schedule {
                    learning_rate: f64::NAN,
                    warmup: 0,
                    last: 1.0,
                },
                ..options(1)
            },
            "learning_rate must be positive, got NaN",
        ),
        (
            RunOptions {
                optimizer: OptimizerOptions {
                    ema_decay: 1.0,
                    ..OptimizerOptions::default()
                },
                ..options(1)
            },
            "ema_decay must be in [0, 1), got 1",
        ),
        (
            RunOptions {
                optimizer: OptimizerOptions {
                    clip_norm: 0.0,
                    ..OptimizerOptions::default()
                },
                ..options(1)
            },
            "clip_norm must be positive, got 0",
        ),
        (
            RunOptions {
                frozen: vec!["encoder.".to_owned(), "encodr.".to_owned()],
                ..options(1)
            },
            "frozen must be the beginning of a parameter's name, got encodr.",
        ),
        (
            RunOptions {
                frozen: vec!["encoder.".to_owned(), "decoder.".to_owned()],
                ..options(1)
            },
            "frozen must be less than every parameter, got encoder., decoder.",
        ),
    ];
    for (options, message) in cases {
        let error = open(options).expect_err("refused");
        assert_eq!(error.to_string(), message);
    }
}

/// A task is asked before its first step.
#[test]
fn bad_task_options_are_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(1)).expect("run");
    let mut refused = |change: fn(&mut AutoencoderOptions)| {
        let mut task = task(&device);
        change(&mut task.options);
        let error = run.train(&task, |_, _| true).expect_err("refused");
        error.to_string()
    };
    assert_eq!(refused(|o| o.batch = 0), "batch must be at least 1, got 0");
    assert_eq!(
        refused(|o| o.absolute = -1.0),
        "absolute must be 0 or more, got -1"
    );
    assert_eq!(
        refused(|o| o.latent_decay = f64::INFINITY),
        "latent_decay must be 0 or more, got inf"
    );

    let (start, task) = tiny_denoiser(&device, None);
    let folder = tempfile::tempdir().expect("folder");
    let mut run = Run::open(folder.path(), start, options(1)).expect("run");
    let mut task = task;
    let mut refused = |change: fn(&mut TransformerOptions)| {
        task.options = TransformerOptions::default();
        change(&mut task.options);
        let error = run.train(&task, |_, _| true).expect_err("refused");
        error.to_string()
    };
    assert_eq!(refused(|o| o.batch = 0), "batch must be at least 1, got 0");
    assert_eq!(
        refused(|o| o.caption_dropout = f64::NAN),
        "caption_dropout must be in [0, 1], got NaN"
    );
    assert!(refused(|o| o.flow_shift = 0.0).contains("shift"));
}
