//! A run that was stopped continues with nothing lost, and only as what it was.

use std::path::Path;

use sana_linear_attn::Weights;
use sana_linear_attn::parity::{device, values};

use super::models::{muon, options, task, tiny_autoencoder, tiny_denoiser};
use crate::train::optimizer::Parameters;
use crate::train::{Data, Run, RunOptions, TrainError};

#[test]
fn a_stopped_run_resumes_as_if_it_had_not_been() {
    stops_and_resumes(options);
}

#[test]
fn so_does_one_with_muon() {
    stops_and_resumes(muon);
}

fn stops_and_resumes(options: impl Fn(usize) -> RunOptions) {
    let device = device();
    let start = tiny_autoencoder(&device);
    // Both runs start from the same values.
    let start = Parameters::of(&start).write_into(start, false);
    let (whole, stopped) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    let task = task(&device);

    let mut run = Run::open(whole.path(), start.clone(), options(8)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let expected = Parameters::of(&run.averaged_model());

    let mut run = Run::open(stopped.path(), start.clone(), options(8)).expect("run");
    run.train(&task, |_, progress| progress.step < 5)
        .expect("trains");
    drop(run);
    let mut run =
        Run::open(stopped.path(), tiny_autoencoder(&device), options(8)).expect("resumes");
    assert_eq!(run.step(), 5);
    run.train(&task, |_, _| true).expect("trains");
    let found = Parameters::of(&run.averaged_model());

    for ((name, found), expected) in found.names.iter().zip(found.values).zip(expected.values) {
        assert_eq!(values(found), values(expected), "{name}");
    }
    let log = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("log.csv")).expect("log");
        let lines = text
            .lines()
            .map(|line| line.rsplit_once(',').expect("columns").0.to_owned());
        lines.collect::<Vec<_>>() // all but the seconds
    };
    assert_eq!(log(stopped.path()), log(whole.path()));
    assert!(stopped.path().join("loss.png").is_file());
}

#[test]
fn a_transformer_run_resumes_too() {
    let device = device();
    let (start, task) = tiny_denoiser(&device, None);
    let (whole, stopped) = (
        tempfile::tempdir().expect("folder"),
        tempfile::tempdir().expect("folder"),
    );
    let mut run = Run::open(whole.path(), start.clone(), muon(6)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let expected = Parameters::of(&run.averaged_model());
    let mut run = Run::open(stopped.path(), start.clone(), muon(6)).expect("run");
    run.train(&task, |_, progress| progress.step < 3)
        .expect("trains");
    let mut run = Run::open(stopped.path(), start, muon(6)).expect("resumes");
    run.train(&task, |_, _| true).expect("trains");
    let found = Parameters::of(&run.averaged_model());
    for ((name, found), expected) in found.names.iter().zip(found.values).zip(expected.values) {
        assert_eq!(values(found), values(expected), "{name}");
    }
}

#[test]
fn steps_after_the_last_save_are_taken_again() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let task = task(&device);
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(3)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let log = folder.path().join("log.csv");
    let text = std::fs::read_to_string(&log).expect("log");
    std::fs::write(&log, text + "4,1.0,1.0,0.001,0.1\n").expect("a line of an unsaved step");
    let run = Run::open(folder.path(), tiny_autoencoder(&device), options(9)).expect("resumes");
    assert_eq!(run.step(), 3);
    assert_eq!(
        std::fs::read_to_string(&log).expect("log").lines().count(),
        4
    );
}

/// A crash between the files of a save, or in one of them, costs no more than the steps since the
/// save before.
#[test]
fn an_interrupted_save_does_no_harm() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let open = || Run::open(folder.path(), tiny_autoencoder(&device), options(3));
    let mut run = open().expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let (state, meta) = (
        folder.path().join("state.safetensors"),
        folder.path().join("state.json"),
    );
    for name in ["state.safetensors.part", "state.json.part"] {
        std::fs::write(folder.path().join(name), "half").expect("what a crash leaves");
    }
    assert_eq!(open().expect("resumes").step(), 3);

    // The options are written first: with them alone, the run has not begun.
    let saved = std::fs::read(&state).expect("state");
    std::fs::remove_file(&state).expect("removed");
    assert_eq!(open().expect("starts").step(), 0);

    std::fs::write(&state, &saved[..saved.len() / 2]).expect("half a state");
    let error = open().expect_err("refused").to_string();
    assert!(error.contains("state.safetensors"), "{error}");
    std::fs::write(&state, saved).expect("state");
    std::fs::write(&meta, "{\"step\": 3").expect("half of the options");
    let error = open().expect_err("refused").to_string();
    assert!(
        error.contains("cannot resume from") && error.contains("state.json"),
        "{error}"
    );
}

#[test]
fn a_run_keeps_its_optimizer() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let task = task(&device);
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), muon(1)).expect("run");
    run.train(&task, |_, _| true).expect("trains");
    let error = Run::open(folder.path(), tiny_autoencoder(&device), options(2)).expect_err("other");
    let message = error.to_string();
    assert!(message.contains("is Muon, not AdamW"), "{message}");
}

/// The error says whose run it is and what differs, in the names of the model.
#[test]
fn a_run_of_another_model_is_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(1)).expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let saved = run.parameter_count();
    let mut other = tiny_autoencoder(&device).config().clone();
    other.latent_channels = 8;
    let other = other.init(&device);
    let count = Parameters::of(&other).count();
    let error = Run::open(folder.path(), other, options(1)).expect_err("refused");
    assert!(matches!(error, TrainError::State { .. }), "{error}");
    let expected = format!(
        "it is the run of another DcAe, with {saved} trained parameters where this one has {count}: \
         decoder.conv_in.weight has 576 values there and 1152 here"
    );
    let message = error.to_string();
    assert!(message.contains(&expected), "{message}");
    assert!(message.contains(&folder.path().display().to_string()));

    let (denoiser, _) = tiny_denoiser(&device, None);
    let error = Run::open(folder.path(), denoiser, options(1)).expect_err("refused");
    let expected =
        format!("it is the run of a DcAe with {saved} trained parameters, and this model");
    assert!(error.to_string().contains(&expected), "{error}");

    let frozen = RunOptions {
        frozen: vec!["encoder.".to_owned()],
        ..options(1)
    };
    let error = Run::open(folder.path(), tiny_autoencoder(&device), frozen).expect_err("refused");
    let message = error.to_string();
    assert!(
        message.contains("encoder.") && message.contains("is trained there and not here"),
        "{message}"
    );
}

/// Frozen parameters are not in the state: the model brings them, and they must be the same.
#[test]
fn a_run_keeps_its_frozen_parameters() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, false);
    let frozen = |steps| RunOptions {
        frozen: vec!["encoder.".to_owned()],
        ..options(steps)
    };
    let mut run = Run::open(folder.path(), start.clone(), frozen(1)).expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let state = Weights::open_file(&folder.path().join("state.safetensors")).expect("state");
    assert!(state.names().all(|name| !name.contains(".encoder.")));
    let run = Run::open(folder.path(), start.clone(), frozen(2)).expect("resumes");
    assert_eq!(run.step(), 1);

    let mut others = Parameters::of(&start);
    others.values[0] = others.values[0].clone() + 1.0;
    let other = others.write_into(start, false);
    let error = Run::open(folder.path(), other, frozen(2)).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("parameters that are not trained differ"),
        "{error}"
    );
}

/// Numbers of a run depend on more than its model: what differs is refused, or recorded.
#[test]
fn a_run_keeps_its_settings() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options(2)).expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let open = |options| Run::open(folder.path(), tiny_autoencoder(&device), options);

    type Change = fn(&mut RunOptions);
    let changes: [(&str, Change); 8] = [
        ("learning_rate is 0.003 there and 0.1 here", |o| {
            o.schedule.learning_rate = 0.1;
        }),
        ("warmup is 2 there and 5 here", |o| o.schedule.warmup = 5),
        ("last is 0.1 there and 0.0 here", |o| o.schedule.last = 0.0),
        ("beta1 is 0.9 there and 0.8 here", |o| {
            o.optimizer.beta1 = 0.8
        }),
        ("beta2 is 0.999 there and 0.99 here", |o| {
            o.optimizer.beta2 = 0.99;
        }),
        ("ema_decay is 0.999 there and 0.5 here", |o| {
            o.optimizer.ema_decay = 0.5;
        }),
        ("clip_norm is \"1\" there and \"inf\" here", |o| {
            o.optimizer.clip_norm = f64::INFINITY;
        }),
        ("replicas is 2 there and 3 here", |o| o.replicas = 3),
    ];
    for (expected, change) in changes {
        let mut changed = options(3);
        change(&mut changed);
        let error = open(changed).expect_err("refused");
        assert!(matches!(error, TrainError::Settings { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
    }

    let mut run = open(options(3)).expect("more steps");
    let mut other = task(&device);
    other.options.batch = 3;
    other.options.seed = 9;
    other.data = Data::Scenes { size: 32 };
    let error = run.train(&other, |_, _| true).expect_err("refused");
    let expected = "batch is 4 there and 3 here, seed is 0 there and 9 here, size is 16 there and \
                    32 here";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(run.step(), 2);

    let accepting = || RunOptions {
        accept_changes: true,
        ..options(3)
    };
    let mut run = open(accepting()).expect("run");
    run.train(&other, |_, _| true).expect("trains");
    let names = |run: &Run<_>| -> Vec<String> {
        let changes = run.changes().iter();
        changes
            .map(|change| format!("{} {}", change.step, change.name))
            .collect()
    };
    let expected = ["2 steps", "2 batch", "2 seed", "2 size"];
    assert_eq!(names(&run), expected);
    // They are in the state, and the settings of the run from there on.
    let mut run = open(options(3)).expect("run");
    assert_eq!(names(&run), expected);
    run.settle(crate::train::Task::settings(&other))
        .expect("the same");
    run.settle(crate::train::Task::settings(&task(&device)))
        .expect_err("others");
}

/// A run that was killed before its first save, or while it saved, leaves no line twice and no
/// file behind.
#[test]
fn what_a_killed_run_leaves_is_cleaned() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let path = |name: &str| folder.path().join(name);
    let open = |steps| Run::open(folder.path(), tiny_autoencoder(&device), options(steps));
    open(4).expect("run");
    let header = "step,loss,gradient_norm,learning_rate,seconds\n";
    let line = |step: usize| format!("{step},1.0,1.0,0.001,0.1\n");
    let lines = format!("{header}{}{}2,1.0,1", line(1), line(2));
    std::fs::write(path("log.csv"), lines).expect("log");
    let leftover = ".sana-0123456789abcdef.part";
    std::fs::write(path(leftover), "half").expect("what a kill leaves");
    let others = ["notes.part", ".tmpAb3dE9", "other.safetensors"];
    for name in others {
        std::fs::write(path(name), "mine").expect("what somebody keeps");
    }
    let mut run = open(4).expect("run");
    assert!(!path("log.csv").exists());
    assert!(!path(leftover).exists());
    for name in others {
        assert!(path(name).exists(), "{name}");
    }
    run.train(&task(&device), |_, _| true).expect("trains");

    // Doubled and torn lines of later crashes go too.
    let log = std::fs::read_to_string(path("log.csv")).expect("log");
    let torn = format!("{log}{}{}3,1.0", line(3), line(4));
    std::fs::write(path("log.csv"), torn).expect("log");
    open(9).expect("run");
    assert_eq!(std::fs::read_to_string(path("log.csv")).expect("log"), log);

    // A log that is somebody else's is not touched.
    std::fs::write(path("log.csv"), "when,what\n").expect("log");
    let error = open(9).expect_err("refused").to_string();
    assert!(error.contains("not the log of a run"), "{error}");
    assert_eq!(
        std::fs::read_to_string(path("log.csv")).unwrap(),
        "when,what\n"
    );
}

/// Any JSON as the options and any tensors as the state: errors, never panics.
#[test]
fn impossible_states_are_refused() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let open = || Run::open(folder.path(), tiny_autoencoder(&device), options(3));
    let mut run = open().expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let (state, meta) = (
        folder.path().join("state.safetensors"),
        folder.path().join("state.json"),
    );
    let good = std::fs::read_to_string(&meta).expect("options");
    for json in [
        "",
        "[]",
        "null",
        "{}",
        "3",
        "\"x\"",
        "{\"step\": -1}",
        "[[[[",
    ] {
        std::fs::write(&meta, json).expect("options");
        let error = open().expect_err("refused");
        assert!(matches!(error, TrainError::State { .. }), "{json}: {error}");
    }
    let mut value: serde_json::Value = serde_json::from_str(&good).unwrap();
    for (key, wrong) in [
        ("settings", serde_json::json!([1])),
        ("changes", serde_json::json!({"a": 1})),
        ("step", serde_json::json!(-3)),
        ("options", serde_json::json!({"steps": 1e300})),
    ] {
        let kept = std::mem::replace(&mut value[key], wrong);
        std::fs::write(&meta, value.to_string()).expect("options");
        let error = open().expect_err("refused");
        assert!(matches!(error, TrainError::State { .. }), "{key}: {error}");
        value[key] = kept;
    }
    std::fs::write(&meta, good).expect("options");

    let saved = Weights::open_file(&state).expect("state");
    let tensors: Vec<(String, burn::tensor::TensorData)> = saved
        .names()
        .map(|name| {
            let tensor: burn::tensor::Tensor<1> = saved
                .tensor(name, burn::tensor::DType::F32, &device)
                .expect("tensor");
            let data: Vec<f32> = tensor.into_data().iter::<f32>().collect();
            let length = data.len();
            (
                name.to_owned(),
                burn::tensor::TensorData::new(data, [length]),
            )
        })
        .collect();
    drop(saved);
    let first = |set: &str| {
        let mut names = tensors.iter().map(|(name, _)| name.clone());
        names.find(|name| name.starts_with(set)).expect("a tensor")
    };
    let cases = [
        ("step".to_owned(), vec![f32::NAN], "its step is NaN"),
        ("step".to_owned(), vec![-1.0], "its step is -1"),
        ("step".to_owned(), vec![0.5], "its step is 0.5"),
        ("step".to_owned(), vec![1e30], "its step is"),
        ("step".to_owned(), vec![], "its step is NaN"),
        (first("exp_avg."), vec![1.0], "values instead of"),
        (
            first("average."),
            vec![f32::INFINITY; 0],
            "0 values instead of",
        ),
    ];
    let write = |name: &str, wrong: Vec<f32>| {
        let mut changed = tensors.clone();
        let place = changed.iter_mut().find(|(found, _)| found == name);
        let length = wrong.len();
        place.expect("a tensor").1 = burn::tensor::TensorData::new(wrong, [length]);
        sana_linear_attn::weights::write_tensors(&state, changed).expect("state");
        open().expect_err("refused").to_string()
    };
    for (name, wrong, expected) in cases {
        let message = write(&name, wrong);
        assert!(message.contains(expected), "{name}: {message}");
    }
    for (set, wrong) in [
        ("exp_avg_sq.", -1.0),
        ("exp_avg.", f32::NAN),
        ("value.", f32::INFINITY),
    ] {
        let name = first(set);
        let (_, data) = tensors.iter().find(|(found, _)| *found == name).unwrap();
        let mut values: Vec<f32> = data.iter::<f32>().collect();
        values[0] = wrong;
        let message = write(&name, values);
        assert!(
            message.contains(&format!("a value of {name} is {wrong}")),
            "{message}"
        );
    }
}
