//! A run that was stopped continues with nothing lost, and only as what it was.

mod damaged;
mod kept;

use std::path::Path;

use sana_linear_attn::Weights;
use sana_linear_attn::parity::{device, values};

use super::models::{muon, options, task, tiny_autoencoder, tiny_denoiser};
use crate::train::optimizer::Parameters;
use crate::train::{FlatShapes, Run, RunOptions, TrainError};

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
