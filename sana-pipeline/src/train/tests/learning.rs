//! What is trained, and that it learns.

use burn::tensor::Device;
use sana_linear_attn::parity::{device, values};

use super::models::{muon, options, task, tiny_autoencoder, tiny_denoiser};
use crate::train::optimizer::Parameters;
use crate::train::run::share;
use crate::train::{Run, RunOptions, Task};

#[test]
fn training_lowers_the_loss() {
    lowers_the_loss(options(40));
}

#[test]
fn training_with_muon_lowers_the_loss() {
    lowers_the_loss(muon(40));
}

fn lowers_the_loss(options: RunOptions) {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let mut run = Run::open(folder.path(), tiny_autoencoder(&device), options).expect("run");
    let mut losses = Vec::new();
    run.train(&task(&device), |_, progress| {
        losses.push(progress.loss);
        true
    })
    .expect("trains");
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (first, last) = (mean(&losses[..8]), mean(&losses[32..]));
    assert!(last < 0.7 * first, "loss went from {first} to {last}");
}

/// With a frozen encoder, latents stay what they are while images get better.
#[test]
fn the_encoder_can_stay_as_it_is() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, false);
    let options = RunOptions {
        frozen: vec!["encoder.".to_owned()],
        ..options(3)
    };
    let mut run = Run::open(folder.path(), start.clone(), options).expect("run");
    run.train(&task(&device), |_, _| true).expect("trains");
    let (before, after) = (
        Parameters::of(&start),
        Parameters::of(&run.averaged_model()),
    );
    let pairs = before.values.into_iter().zip(after.values);
    for (name, (before, after)) in before.names.iter().zip(pairs) {
        let same = values(before) == values(after);
        assert_eq!(same, name.starts_with("encoder."), "{name}");
    }
}

/// Freezing changes which parameters are trained, and not the loss.
#[test]
fn the_text_encoder_can_stay_as_it_is() {
    let device = device();
    let (start, task) = tiny_denoiser(&device, None);
    let frozen = RunOptions {
        frozen: vec!["text_encoder.".to_owned()],
        ..options(3)
    };
    let folder = tempfile::tempdir().expect("folder");
    let mut run = Run::open(folder.path(), start.clone(), frozen).expect("run");
    let mut losses = Vec::new();
    run.train(&task, |_, progress| {
        losses.push(progress.loss);
        true
    })
    .expect("trains");
    let trained = Parameters::of(&start.transformer).count();
    assert_eq!(run.parameter_count(), trained);
    let (before, after) = (
        Parameters::of(&start),
        Parameters::of(&run.averaged_model()),
    );
    let pairs = before.values.into_iter().zip(after.values);
    let mut changed = 0;
    for (name, (before, after)) in before.names.iter().zip(pairs) {
        let same = values(before) == values(after);
        assert!(same || !name.starts_with("text_encoder."), "{name}");
        changed += usize::from(!same);
    }
    assert!(changed > 0, "the transformer did not train");

    let folder = tempfile::tempdir().expect("folder");
    let mut whole = Run::open(folder.path(), start, options(3)).expect("run");
    let mut first = None;
    whole
        .train(&task, |_, progress| {
            first = first.or(Some(progress.loss));
            true
        })
        .expect("trains");
    let first = first.expect("a step");
    assert!(
        (first - losses[0]).abs() < 1e-5 * first,
        "{first}, {losses:?}"
    );
}

#[test]
fn replicas_share_the_batch() {
    let device = device();
    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, true);
    let task = task(&device);
    let loss = |parts: usize| -> f32 {
        let part = |part| {
            task.loss(&start, 0, share(task.batch(), part, parts))
                .expect("loss")
                .into_scalar::<f32>()
        };
        (0..parts).map(part).sum::<f32>() / parts as f32
    };
    let (one, four) = (loss(1), loss(4));
    assert!(
        (one - four).abs() < 1e-4 * one,
        "one part {one}, four parts {four}"
    );
}

/// Shares of unequal size count by their size, and more replicas than samples do no harm.
#[test]
fn uneven_shares_count_by_their_size() {
    let device = device();
    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, false);
    let mut task = task(&device);
    task.options.batch = 3;
    let trained = |replicas: usize| {
        let folder = tempfile::tempdir().expect("folder");
        let options = RunOptions {
            replicas,
            ..options(2)
        };
        let mut run = Run::open(folder.path(), start.clone(), options).expect("run");
        let mut last = 0.0;
        run.train(&task, |_, progress| {
            last = progress.loss;
            true
        })
        .expect("trains");
        last
    };
    let one = trained(1);
    for replicas in [2, 8] {
        let loss = trained(replicas);
        assert!(
            (loss - one).abs() < 1e-4 * one,
            "one replica {one}, {replicas} replicas {loss}"
        );
    }
}

/// Several threads share a device's tensors on the CPU alone.
#[test]
fn replicas_are_for_the_cpu() {
    let (device, folder) = (device(), tempfile::tempdir().expect("folder"));
    let opened = Run::open(folder.path(), tiny_autoencoder(&device), options(1));
    if device == Device::flex() {
        opened.expect("two replicas on the CPU");
    } else {
        let message = opened.expect_err("refused").to_string();
        assert_eq!(message, "replicas must be 1 on a GPU, got 2");
    }
}

/// With and without an instruction, some captions dropped: the loss is the same however the batch
/// is cut, so every image keeps its own caption, time and noise.
#[test]
fn images_keep_their_captions() {
    let device = device();
    for instruction in [None, Some("two red ")] {
        let (model, task) = tiny_denoiser(&device, instruction);
        let model = Parameters::of(&model).write_into(model, true);
        let loss = |parts: usize| -> f32 {
            let part = |part| {
                let samples = share(task.batch(), part, parts);
                let weight = samples.len() as f32 / task.batch() as f32;
                let loss = task.loss(&model, 0, samples).expect("loss");
                loss.into_scalar::<f32>() * weight
            };
            (0..parts).map(part).sum()
        };
        let (one, five) = (loss(1), loss(5));
        assert!(
            (one - five).abs() < 1e-4 * one,
            "{instruction:?}: one part {one}, five parts {five}"
        );
        let mut all_dropped = task;
        all_dropped.options.caption_dropout = 1.0;
        let dropped = all_dropped
            .loss(&model, 0, 0..all_dropped.batch())
            .expect("loss");
        let dropped = dropped.into_scalar::<f32>();
        assert!((dropped - one).abs() > 1e-6, "captions make no difference");
    }
}
