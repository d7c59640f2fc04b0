//! What a request can get wrong.

use burn::tensor::Tensor;
use sana_pipeline::PipelineError;
use sana_pipeline::error::RequestError;
use sana_pipeline::sampler::{Schedule, Solver};
use sana_sampler::{AdaptiveProjection, FlowSchedule, GuidanceInterval, SamplerError, ScmSchedule};
use sana_text::PromptEmbeds;

use super::*;

fn refused(request: Request) -> RequestError {
    let error = request.validate(sana().spec()).unwrap_err();
    // Found before anything is loaded.
    let mut pipeline = sana();
    assert!(pipeline.encode_prompt(&request).is_err());
    assert!(!pipeline.is_loaded(sana_pipeline::checkpoint::Component::TextEncoder));
    error
}

fn latents(shape: [usize; 4]) -> Tensor<4> {
    Tensor::zeros(shape, &device())
}

fn embeds(rows: usize, channels: usize) -> PromptEmbeds {
    let embeds = Tensor::zeros([rows, 3, channels], &device());
    PromptEmbeds::new(embeds, vec![vec![true; 3]; rows]).unwrap()
}

#[test]
fn defaults_are_the_checkpoint_s() {
    let pipeline = sana();
    let settings = Request::new("a").validate(pipeline.spec()).unwrap();
    let defaults = pipeline.spec().defaults();
    assert_eq!([settings.width, settings.height], defaults.size);
    assert_eq!(settings.steps(), 20);
    assert_eq!(settings.guidance.scale(), 4.5);
    assert_eq!(settings.guidance.perturbed_scale(), 0.0);
    assert!(settings.perturbed_blocks.is_none() && settings.projection.is_none());
    assert_eq!(settings.solver.to_string(), "flow-dpm");
    assert_eq!(settings.seeds(), [0]);
    let settings = Request::new("a").validate(sprint().spec()).unwrap();
    assert_eq!((settings.steps(), settings.solver), (2, Solver::Scm));
}

#[test]
fn the_size_follows_from_latents() {
    let request = Request::new("a").latents(latents([1, 32, 3, 5]));
    let settings = request.validate(sana().spec()).unwrap();
    assert_eq!((settings.width, settings.height), (160, 96));
}

#[test]
fn sizes_that_do_not_work_list_the_nearest() {
    let cases = [
        ([500, 512], [512, 512]),
        ([520, 40], [512, 32]),
        ([0, 64], [32, 64]),
        ([31, 1], [32, 32]),
        ([usize::MAX, 32], [16384, 32]),
    ];
    for ([width, height], expected) in cases {
        match refused(Request::new("a").size(width, height)) {
            RequestError::Size {
                nearest, multiple, ..
            } => assert_eq!((nearest, multiple), (expected, 32)),
            other => panic!("{other}"),
        }
    }
    let message = refused(Request::new("a").size(500, 512)).to_string();
    assert!(
        message.contains("500x512") && message.contains("512x512"),
        "{message}"
    );
    // A patch of two latents doubles the multiple.
    let folder = copy_of(&sana_folder());
    edit(
        &folder,
        "transformer/config.json",
        "\"patch_size\": 1",
        "\"patch_size\": 2",
    );
    let spec = Checkpoint::open(folder.path()).unwrap().spec().unwrap();
    let error = Request::new("a").size(96, 64).validate(&spec).unwrap_err();
    assert!(matches!(
        error,
        RequestError::Size {
            multiple: 64,
            nearest: [128, 64],
            ..
        }
    ));
}

#[test]
fn nothing_to_make() {
    let none: [&str; 0] = [];
    assert!(matches!(
        refused(Request::batch(none)),
        RequestError::NoPrompt
    ));
    assert!(matches!(refused(small().count(0)), RequestError::NoImages));
}

#[test]
fn numbers_out_of_range() {
    let cases = [
        (small().steps(0), "at least one step"),
        (small().guidance(f64::NAN), "NaN"),
        (small().guidance(-1.0), "-1"),
        (small().perturbed_attention(f64::NAN), "NaN"),
        (small().perturbed_attention(-2.0), "-2"),
        (small().shift(0.0), "shift"),
    ];
    for (request, expected) in cases {
        let error = refused(request);
        assert!(matches!(error, RequestError::Sampler(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = small().steps(0).validate(sprint().spec()).unwrap_err();
    assert!(matches!(
        error,
        RequestError::Sampler(SamplerError::ZeroSteps)
    ));
    let many = small().steps(usize::MAX);
    for spec in [sana().spec(), sprint().spec()] {
        let error = many.clone().validate(spec).unwrap_err().to_string();
        assert!(error.contains("at most 100000 steps"), "{error}");
    }
    let error = refused(small().max_tokens(0)).to_string();
    assert!(error.contains("max_tokens is 0"), "{error}");
}

/// Blocks by exact index; those asked for are checked even where nothing is perturbed.
#[test]
fn blocks_to_perturb() {
    let chosen = |request: Request| {
        let settings = request.validate(sana().spec()).unwrap();
        settings
            .perturbed_blocks
            .map(|blocks| blocks.indices().to_vec())
    };
    assert_eq!(chosen(small().perturbed_attention(2.0)), Some(vec![1]));
    assert_eq!(
        chosen(small().perturbed_attention(2.0).perturbed_blocks([2, 0, 2])),
        Some(vec![0, 2])
    );
    assert_eq!(chosen(small().perturbed_blocks([2])), None);
    for scale in [0.0, 2.0] {
        let request = || small().perturbed_attention(scale);
        let error = refused(request().perturbed_blocks([1, 3]));
        assert!(matches!(error, RequestError::PerturbedBlocks(_)));
        let message = error.to_string();
        assert!(message.contains("block 3: this transformer has 3, 0 to 2"));
        let error = refused(request().perturbed_blocks([]));
        assert!(matches!(error, RequestError::PerturbedBlocks(_)));
        assert!(error.to_string().contains("no block"), "{error}");
    }
}

/// Sprint's one prediction of a step leaves nothing to combine.
#[test]
fn guidance_that_sprint_does_not_have() {
    let interval = GuidanceInterval::new(0.0, 0.5).unwrap();
    let cases = [
        (small().perturbed_attention(2.0), "perturbed attention"),
        (small().perturbed_blocks([1]), "perturbed attention"),
        (
            small().projection(AdaptiveProjection::default()),
            "adaptive",
        ),
        (small().guidance_interval(interval), "interval"),
    ];
    for (request, expected) in cases {
        let error = request.validate(sprint().spec()).unwrap_err();
        assert!(matches!(error, RequestError::EmbeddedGuidance { .. }));
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("Sprint"), "{error}");
    }
    let none = small()
        .perturbed_attention(0.0)
        .guidance_interval(GuidanceInterval::FULL);
    none.validate(sprint().spec()).unwrap();
}

#[test]
fn solvers_and_schedules_of_the_other_kind() {
    let flow = Schedule::Flow(FlowSchedule::euler(4, 3.0).unwrap());
    let scm = Schedule::Scm(ScmSchedule::paper(4).unwrap());
    for request in [small().solver(Solver::Scm), small().schedule(scm.clone())] {
        let error = refused(request);
        assert!(matches!(error, RequestError::SolverMismatch { .. }));
        assert!(
            error.to_string().contains("flow-dpm or flow-euler"),
            "{error}"
        );
    }
    for request in [
        small().solver(Solver::FlowEuler),
        small().schedule(flow.clone()),
    ] {
        let error = request.validate(sprint().spec()).unwrap_err();
        assert!(matches!(error, RequestError::SolverMismatch { .. }));
    }
    assert_eq!(
        small()
            .schedule(flow)
            .validate(sana().spec())
            .unwrap()
            .steps(),
        4
    );
    assert_eq!(
        small()
            .schedule(scm)
            .validate(sprint().spec())
            .unwrap()
            .steps(),
        4
    );
}

#[test]
fn negative_prompts_of_another_number() {
    let request = Request::batch(["a", "b", "c"])
        .size(32, 32)
        .negatives(["d", "e"]);
    assert!(matches!(
        refused(request),
        RequestError::NegativeCount {
            expected: 3,
            found: 2
        }
    ));
}

#[test]
fn tensors_that_do_not_fit() {
    let shape = |error: RequestError| match error {
        RequestError::Shape {
            what,
            expected,
            found,
        } => (what, expected, found),
        other => panic!("{other}"),
    };
    let request = small().count(2).latents(latents([1, 32, 1, 2]));
    let (what, expected, found) = shape(refused(request));
    assert_eq!(what, "the initial latents");
    assert_eq!((expected, found), (vec![2, 32, 1, 2], vec![1, 32, 1, 2]));
    assert_eq!(
        shape(refused(small().latents(latents([1, 16, 1, 2])))).2,
        [1, 16, 1, 2]
    );

    let noise = |steps: usize, width| vec![latents([1, 32, 1, width]); steps];
    let error = small()
        .steps(4)
        .step_noise(noise(2, 2))
        .validate(sprint().spec());
    assert!(matches!(
        error.unwrap_err(),
        RequestError::StepNoiseCount {
            steps: 4,
            expected: 3,
            found: 2
        }
    ));
    let error = small()
        .steps(2)
        .step_noise(noise(1, 3))
        .validate(sprint().spec());
    assert_eq!(shape(error.unwrap_err()).0, "the step noise");
    small()
        .steps(4)
        .step_noise(noise(3, 2))
        .validate(sprint().spec())
        .unwrap();
}

#[test]
fn embeddings_that_do_not_fit() {
    let channels = sana().spec().transformer.caption_channels;
    let none: [&str; 0] = [];
    let request = || Request::batch(none).size(32, 32);
    let ready = |rows, channels| embeds(rows, channels);
    request()
        .embeddings(ready(2, channels), Some(ready(1, channels)))
        .validate(sana().spec())
        .unwrap();
    // Without guidance no negative is needed.
    request()
        .guidance(1.0)
        .embeddings(ready(2, channels), None)
        .validate(sana().spec())
        .unwrap();
    let refused = |request: Request| request.validate(sana().spec()).unwrap_err();
    assert!(matches!(
        refused(request().embeddings(ready(2, channels), None)),
        RequestError::NoNegative { guidance } if guidance == 4.5
    ));
    let bad = [
        request().embeddings(ready(2, channels + 1), Some(ready(1, channels))),
        request().embeddings(ready(2, channels), Some(ready(1, channels + 1))),
        request().embeddings(ready(3, channels), Some(ready(2, channels))),
        Request::batch(["a", "b"]).embeddings(ready(1, channels), Some(ready(1, channels))),
    ];
    for request in bad {
        let error = refused(request);
        assert!(matches!(error, RequestError::Shape { .. }), "{error}");
    }
}

#[test]
fn conditioning_of_another_request() {
    let mut pipeline = sana();
    let conditioning = pipeline.encode_prompt(&small()).unwrap();
    let two = Request::batch(["a", "b"]).size(32, 32).steps(1);
    let mut keep_running = |_: sana_pipeline::StepInfo<'_>| sana_pipeline::StepAction::Continue;
    let error = pipeline
        .sample(&two, &conditioning, &mut keep_running)
        .unwrap_err();
    assert!(
        matches!(error, PipelineError::Request(RequestError::Shape { .. })),
        "{error}"
    );

    let plain = small().guidance(1.0);
    let conditioning = pipeline.encode_prompt(&plain).unwrap();
    assert!(conditioning.negative.is_none());
    let error = pipeline
        .sample(&small(), &conditioning, &mut keep_running)
        .unwrap_err();
    assert!(
        matches!(
            error,
            PipelineError::Request(RequestError::NoNegative { .. })
        ),
        "{error}"
    );
}

/// A negative prompt is cut like a prompt, and its lost tokens are counted separately from the prompts'.
#[test]
fn a_long_negative_prompt_is_cut_and_reported() {
    let mut pipeline = sana();
    let long = "a red circle left of a blue square ".repeat(200);
    let request = small().steps(1).negative(long.as_str());
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    assert_eq!(conditioning.dropped_tokens(), [0]);
    let dropped = conditioning.dropped_negative_tokens();
    assert!(dropped.len() == 1 && dropped[0] > 300, "{dropped:?}");
    let mut keep_running = |_: sana_pipeline::StepInfo<'_>| sana_pipeline::StepAction::Continue;
    let generation = pipeline.generate(&request, &mut keep_running).unwrap();
    assert_eq!(generation.dropped_tokens, [0]);
    assert_eq!(generation.dropped_negative_tokens, dropped);

    let each = Request::batch(["a", "b"])
        .size(32, 32)
        .negatives(["c", long.as_str()]);
    let conditioning = pipeline.encode_prompt(&each).unwrap();
    assert_eq!(conditioning.dropped_negative_tokens(), [0, dropped[0]]);
    // Without guidance there is no negative prompt that could be cut.
    let plain = pipeline.encode_prompt(&request.guidance(1.0)).unwrap();
    assert!(plain.dropped_negative_tokens().is_empty());
}
