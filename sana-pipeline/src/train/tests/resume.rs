//! A run that was stopped continues with nothing lost, and only as what it was.

use std::path::Path;

use sana_linear_attn::Weights;
use sana_linear_attn::parity::{device, values};

use super::models::{muon, options, task, tiny_autoencoder, tiny_denoiser};
use crate::train::optimizer::Parameters;
use crate::train::{Run, RunOptions, TrainError};

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
