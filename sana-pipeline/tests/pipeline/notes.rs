//! Settings without effect, and schedulers of other models.

use std::fs;

use sana_pipeline::StepAction;
use sana_pipeline::image::RgbImage;
use sana_pipeline::sampler::{Schedule, Scheduler, Solver};
use sana_sampler::{AdaptiveProjection, FlowSchedule, GuidanceInterval, ScmSchedule};

use super::*;

/// The notes on a request, without that on its size.
fn notes(pipeline: &SanaPipeline, request: Request) -> Vec<String> {
    let settings = request.validate(pipeline.spec()).unwrap();
    let mut notes = settings.notes().to_vec();
    notes.retain(|note| !note.contains("that the model was trained at"));
    notes
}

#[track_caller]
fn assert_noted(pipeline: &SanaPipeline, request: Request, expected: &str) {
    let notes = notes(pipeline, request);
    let [note] = notes.as_slice() else {
        panic!("expected {expected:?}, found {notes:?}")
    };
    assert!(note.contains(expected), "no {expected:?} in {note:?}");
}

#[test]
fn settings_without_effect_are_noted() {
    let flow = sana();
    let interval = GuidanceInterval::new(0.0, 0.5).unwrap();
    let projection = AdaptiveProjection::default();
    for (request, expected) in [
        (
            small().negative("a dog").guidance(1.0),
            "the negative prompt has no effect: a guidance scale of 1 is",
        ),
        (
            small().negative("a dog").guidance(0.5),
            "the negative prompt has no effect: a guidance scale of 0.5",
        ),
        (
            small().guidance(1.0).guidance_interval(interval),
            "the guidance interval has no effect",
        ),
        (
            small().guidance(1.0).projection(projection),
            "adaptive projected guidance has no effect",
        ),
        (
            small().perturbed_blocks([1]),
            "the perturbed blocks have no effect",
        ),
        (
            small().schedule(Schedule::Flow(FlowSchedule::euler(2, 3.0).unwrap())),
            "steps and flow shift have no effect",
        ),
    ] {
        assert_noted(&flow, request, expected);
    }
    let sprint = sprint();
    assert_noted(
        &sprint,
        small().negative("a dog"),
        "the negative prompt has no effect: this model (Sana-Sprint)",
    );
    assert_noted(&sprint, small().shift(3.0), "the flow shift has no effect");
    assert_noted(
        &sprint,
        small().steps(5),
        "5 steps: this model (Sana-Sprint)",
    );
    let long = Schedule::Scm(ScmSchedule::default_for(7).unwrap());
    assert_noted(&sprint, Request::new("a").schedule(long), "7 steps: this");
}

#[test]
fn settings_with_effect_are_not() {
    let flow = sana();
    let interval = GuidanceInterval::new(0.0, 0.5).unwrap();
    for request in [
        small(),
        small().negative("a dog"),
        small().negative(" ").guidance(1.0),
        small().guidance_interval(interval),
        small().shift(2.0),
        // Guidance of another kind has an interval and is projected too.
        small()
            .guidance(1.0)
            .perturbed_attention(2.0)
            .guidance_interval(interval),
        small().perturbed_attention(2.0).perturbed_blocks([1]),
    ] {
        assert_eq!(notes(&flow, request), [""; 0]);
    }
    for steps in 1..=4 {
        assert_eq!(notes(&sprint(), small().steps(steps)), [""; 0]);
    }
    assert_eq!(notes(&sprint(), small().guidance(1.0)), [""; 0]);
}

#[test]
fn control_without_effect_is_noted() {
    let folder = built_in_fixture_path(CRATE, "pipeline/controlnet/controlnet");
    let options = LoadOptions {
        controlnet: Some(folder),
        ..LoadOptions::default()
    };
    let pipeline = load_with(&sana_folder(), options);
    let request = || small().control(RgbImage::new(64, 32));
    assert_eq!(notes(&pipeline, request()), [""; 0]);
    assert_noted(
        &pipeline,
        request().control_scale(0.0),
        "the control image has no effect: its scale is 0",
    );
    assert_noted(
        &pipeline,
        request().control_interval(0.1, 0.3),
        "none of the 2 steps lies in the interval 0.1..0.3",
    );
    // Shares are of the steps that run: from an image, here the last 4 of 8.
    let from_image = |start, end| {
        let request = request()
            .steps(8)
            .image(RgbImage::new(64, 32))
            .strength(0.5);
        request.control_interval(start, end)
    };
    assert_eq!(notes(&pipeline, from_image(0.0, 0.4)), [""; 0]);
    let none = "none of the 4 steps lies in the interval 0.6..0.9";
    assert_noted(&pipeline, from_image(0.6, 0.9), none);
}

#[cfg(feature = "scenes-model")]
#[test]
fn negative_prompts_of_the_built_in_model() {
    let built_in = SanaPipeline::built_in(&device()).unwrap();
    let request = || Request::new("a red circle").steps(2);
    assert_eq!(notes(&built_in, request()), [""; 0]);
    assert_noted(
        &built_in,
        request().negative("blurry"),
        "the built-in model was not trained with negative prompts",
    );
    assert_noted(
        &built_in,
        request().negative("blurry").guidance(1.0),
        "has no effect",
    );
}

/// A folder in which the scheduler is that of another checkpoint.
fn with_scheduler_of(folder: &Path, other: &Path) -> TempDir {
    let copied = copy_of(folder);
    let file = "scheduler/scheduler_config.json";
    fs::copy(other.join(file), copied.path().join(file)).unwrap();
    let class = |folder: &Path| {
        let checkpoint = Checkpoint::open(folder).unwrap();
        checkpoint.scheduler().unwrap().class_name()
    };
    edit(&copied, "model_index.json", class(folder), class(other));
    copied
}

#[test]
fn a_scheduler_of_another_kind_is_replaced_and_said() {
    let latents = |pipeline: &mut SanaPipeline| {
        let made = pipeline.generate(&small(), &mut |_| StepAction::Continue);
        made.unwrap().images
    };
    let (sana_folder, sprint_folder) = (sana_folder(), sprint_folder());
    let folder = with_scheduler_of(&sprint_folder, &sana_folder);
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let note = &pipeline.notes()[0];
    let expected =
        "the scheduler is DPMSolverMultistepScheduler, but the transformer is Sana-Sprint";
    assert!(note.starts_with(expected), "{note}");
    assert!(note.ends_with("SCMScheduler is used instead"), "{note}");
    assert_eq!(pipeline.spec().defaults().steps, 2);
    let checkpoint = pipeline.checkpoint().unwrap();
    assert_eq!(checkpoint.describe(None).unwrap().solver, "scm");
    assert_eq!(latents(&mut pipeline), latents(&mut sprint()));

    let folder = with_scheduler_of(&sana_folder, &sprint_folder);
    let pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let note = &pipeline.notes()[0];
    let expected = "the scheduler is SCMScheduler, but the transformer is a flow model";
    assert!(note.starts_with(expected), "{note}");
    let scheduler = &pipeline.spec().scheduler;
    assert!(matches!(scheduler, Scheduler::FlowDpm { shift: 3.0, .. }));
    assert!(matches!(scheduler.solver(), Solver::FlowDpm { .. }));
    assert!(sana().notes().is_empty() && sprint().notes().is_empty());
}
