//! What a run keeps, and what it refuses.

use super::*;

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
    other.data = std::sync::Arc::new(FlatShapes::new(&[[32, 32]]));
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
