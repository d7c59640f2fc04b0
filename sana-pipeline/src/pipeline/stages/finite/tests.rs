//! Which predictions are found, and predictions looked at after the run, as on a GPU, against those
//! looked at in each step.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, read_sync};
use sana_linear_attn::parity::{copy_folder, edit_tensor_file};
use sana_linear_attn::transformer::{BlockPart, Place};
use sana_sampler::AdaptiveProjection;
use tempfile::TempDir;

use super::{Call, FiniteCheck, When};
use crate::error::PipelineError;
use crate::pipeline::stages::denoise::Encoded;
use crate::pipeline::{SanaPipeline, StepAction, StepInfo};
use crate::request::Request;

const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pipeline")
        .join(name)
}

/// A copy of a checkpoint with NaN in one tensor of the transformer.
fn spoilt(name: &str, tensor: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&fixture(name), folder.path());
    edit_tensor_file(&folder.path().join(WEIGHTS), tensor, |_, _| f32::NAN);
    folder
}

/// The result of a run, and how many steps were taken.
fn run(
    when: When,
    folder: &Path,
    request: &Request,
    observe: impl Fn(&StepInfo<'_>) -> StepAction,
) -> (Result<Vec<f32>, PipelineError>, usize) {
    let mut pipeline = SanaPipeline::load(folder, &Device::flex()).unwrap();
    let conditioning = pipeline.encode_prompt(request).unwrap();
    let settings = request.validate(pipeline.spec()).unwrap();
    let encoded = Encoded::default();
    let mut steps = 0;
    let mut counted = async |step: StepInfo<'_>| {
        steps += 1;
        Ok(observe(&step))
    };
    let latents = pipeline.sample_looking(when, &settings, &conditioning, &encoded, &mut counted);
    let latents = read_sync(latents);
    let values = |latents: Tensor<4>| latents.into_data().try_to_vec().unwrap();
    (latents.map(values), steps)
}

fn small() -> Request {
    Request::new("a red circle").size(64, 32).steps(3)
}

fn keep_running(_: &StepInfo<'_>) -> StepAction {
    StepAction::Continue
}

#[test]
fn the_latents_are_the_same() {
    for name in ["sana", "sprint"] {
        let request = small().count(2);
        let [at_once, afterwards] = [When::EachStep, When::AfterTheRun]
            .map(|when| run(when, &fixture(name), &request, keep_running));
        assert_eq!((at_once.1, afterwards.1), (3, 3));
        // The same operations in the same order: bit for bit.
        assert_eq!(at_once.0.unwrap(), afterwards.0.unwrap());
    }
}

#[test]
fn the_same_step_and_place_are_named() {
    let weight = "transformer_blocks.1.ff.conv_depth.weight";
    let block = Place::Block {
        index: 1,
        part: BlockPart::FeedForward,
    };
    let (sana, sprint) = (spoilt("sana", weight), spoilt("sprint", weight));
    let projection = AdaptiveProjection::default();
    for (folder, request) in [
        (&sana, small()),
        (&sana, small().guidance(1.0)),
        (&sana, small().perturbed_attention(2.0)),
        (&sana, small().projection(projection)),
        (&sprint, small()),
    ] {
        for (when, taken) in [(When::EachStep, 0), (When::AfterTheRun, 3)] {
            let (result, steps) = run(when, folder.path(), &request, keep_running);
            let error = result.unwrap_err();
            let PipelineError::StepNotFinite { step, place, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((step, place, steps), (1, Some(block), taken), "{when:?}");
        }
    }
}

/// The first bad step is reported with what it was called with, not the last.
#[test]
fn a_later_step_is_named_with_its_own_inputs() {
    for (name, value, place) in [
        // Beyond the range of f32 after the first product.
        ("sana", 3e38, Place::PatchEmbedding),
        ("sana", f32::NAN, Place::Latents),
        ("sprint", f32::NAN, Place::Latents),
    ] {
        let observe = |step: &StepInfo<'_>| match step.index {
            1 => StepAction::ContinueFrom(step.latents.full_like(value)),
            _ => StepAction::Continue,
        };
        let [at_once, afterwards] = [When::EachStep, When::AfterTheRun]
            .map(|when| run(when, &fixture(name), &small().steps(4), observe));
        assert_eq!((at_once.1, afterwards.1), (2, 4));
        let errors = [at_once, afterwards].map(|(result, _)| result.unwrap_err());
        for error in &errors {
            let PipelineError::StepNotFinite {
                step, place: found, ..
            } = error
            else {
                panic!("{error}")
            };
            assert_eq!((*step, *found), (3, Some(place)), "{name}");
        }
        assert_eq!(errors[0].to_string(), errors[1].to_string());
    }
}

/// A run that the observer ended is looked at as far as it went.
#[test]
fn a_run_that_was_stopped() {
    let folder = spoilt("sana", "proj_out.bias");
    let stop = |_: &StepInfo<'_>| StepAction::Stop;
    let (result, steps) = run(When::AfterTheRun, folder.path(), &small(), stop);
    assert_eq!(steps, 1);
    assert!(matches!(
        result,
        Err(PipelineError::StepNotFinite {
            step: 1,
            place: Some(Place::Output),
            ..
        })
    ));
}

/// Predictions of which those of the steps in `bad` are not finite.
fn looked_at(when: When, bad: &[usize]) -> (Vec<Option<usize>>, FiniteCheck) {
    let mut check = FiniteCheck::new(when);
    let device = Device::flex();
    let found = (1..=5).map(|step| {
        let latents = Tensor::<4>::full([1, 2, 1, 3], step as f32, &device);
        let (time, sigma) = (step as f64, 0.5);
        let call = Call {
            step,
            latents: latents.clone(),
            time,
            sigma,
        };
        let value = match (bad.contains(&step), step % 2) {
            (false, _) => -2.0,
            (true, 0) => f32::NAN,
            (true, _) => f32::NEG_INFINITY,
        };
        // One element is enough.
        let prediction = latents.slice_fill([0..1, 1..2, 0..1, 2..3], value);
        let found = read_sync(check.look(prediction, call)).unwrap();
        found.map(|call| call.step)
    });
    (found.collect(), check)
}

#[test]
fn each_step_on_the_cpu() {
    assert_eq!(When::on(&Device::flex()), When::EachStep);
    let (found, mut check) = looked_at(When::EachStep, &[2, 5]);
    assert_eq!(found, [None, Some(2), None, None, Some(5)]);
    assert_eq!(check.reads, 5);
    assert!(read_sync(check.first()).unwrap().is_none());
    assert_eq!(check.reads, 5);
}

/// One read, however many steps there were, and the first of the bad steps with its inputs.
#[test]
fn after_the_run_elsewhere() {
    for bad in [vec![], vec![1], vec![3, 4], vec![2, 5]] {
        let (found, mut check) = looked_at(When::AfterTheRun, &bad);
        assert_eq!(found, [None; 5]);
        assert_eq!(check.reads, 0);
        let call = read_sync(check.first()).unwrap();
        assert_eq!(check.reads, 1);
        assert_eq!(call.as_ref().map(|call| call.step), bad.first().copied());
        if let Some(call) = call {
            let latents: Vec<f32> = call.latents.into_data().try_to_vec().unwrap();
            assert_eq!(latents, [call.step as f32; 6]);
            assert_eq!((call.time, call.sigma), (call.step as f64, 0.5));
        }
    }
}
