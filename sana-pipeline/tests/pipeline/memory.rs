//! What a request needs, and what is done where memory is short. Limits are set from the estimate,
//! so that nothing here depends on the machine.

use sana_dcae::Tiling;
use sana_pipeline::checkpoint::Component;
use sana_pipeline::image::psnr;
use sana_pipeline::memory::{MemoryAdvice, MemoryEstimate, MemoryPolicy, MemoryShortage};
use sana_pipeline::request::InstructionChoice;
use sana_pipeline::{Generation, PipelineError, StepAction};

use super::*;

const NETWORKS: [Component; 3] = [
    Component::TextEncoder,
    Component::Transformer,
    Component::Vae,
];

fn limited(limit: u64, options: LoadOptions) -> SanaPipeline {
    load_with(
        &sana_folder(),
        LoadOptions {
            memory_limit: Some(limit),
            ..options
        },
    )
}

fn generate(pipeline: &mut SanaPipeline, request: &Request) -> Result<Generation, PipelineError> {
    pipeline.generate(request, &mut |_| StepAction::Continue)
}

/// Large enough for several tiles of 512 pixels, and of a short prompt, so that decoding needs most.
fn wide() -> Request {
    let request = Request::new("a red circle").size(1024, 768);
    let request = request.instruction(InstructionChoice::None).max_tokens(20);
    request.steps(1).guidance(1.0).seed(5)
}

fn estimate(request: &Request) -> MemoryEstimate {
    sana().memory_estimate(request).unwrap()
}

fn refusal(
    pipeline: &mut SanaPipeline,
    request: &Request,
) -> (u64, u64, Vec<MemoryAdvice>, String) {
    let error = generate(pipeline, request).unwrap_err();
    assert!(!NETWORKS.iter().any(|part| pipeline.is_loaded(*part)));
    let message = error.to_string();
    match error {
        PipelineError::Memory {
            needs,
            free,
            advice,
            ..
        } => (needs, free, advice, message),
        other => panic!("{other}"),
    }
}

#[test]
fn the_estimate_has_its_stages() {
    let stages = estimate(&small());
    let names: Vec<&str> = stages.stages.iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["text", "denoise", "decode"]);
    let weights = |part: Component| {
        let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
        let description = checkpoint.describe(None).unwrap();
        let found = description
            .parts
            .into_iter()
            .find(|found| found.part == part);
        let found = found.unwrap();
        4 * (found.parameters - found.parameters_left_on_disk)
    };
    for (stage, part) in stages.stages.iter().zip(NETWORKS) {
        assert_eq!(stage.weights, weights(part), "{part}");
        assert!(stage.activations > 0);
    }
    let sum: u64 = NETWORKS.map(weights).iter().sum();
    assert!(stages.all_components(false) > sum);
    assert!(stages.one_stage_at_a_time(false) < stages.all_components(false));

    // More of anything needs more.
    let more = [
        small().count(2),
        small().size(64, 64),
        small().max_tokens(3000),
        small().perturbed_attention(2.0),
    ];
    for request in more {
        let more = estimate(&request);
        let denoise = |estimate: &MemoryEstimate| estimate.stages[1].activations;
        assert!(denoise(&more) > denoise(&stages), "{request:?}");
    }
    let unguided = estimate(&small().guidance(1.0));
    assert!(unguided.stages[1].activations < stages.stages[1].activations);
    let (whole, tiled) = (
        estimate(&wide()).stages[2],
        estimate(&wide()).decode_in_tiles,
    );
    assert!(tiled.activations < whole.activations);

    // Ready embeddings need no text encoder.
    let conditioning = sana().encode_prompt(&small()).unwrap();
    let ready = small().embeddings(conditioning.prompt, conditioning.negative);
    let names: Vec<&str> = estimate(&ready)
        .stages
        .iter()
        .map(|stage| stage.name)
        .collect();
    assert_eq!(names, ["denoise", "decode"]);
    assert!(sana().memory_estimate(&small().steps(0)).is_err());
}

#[test]
fn weights_in_bf16_need_half() {
    let options = LoadOptions {
        dtype: Some(burn::tensor::DType::BF16),
        ..LoadOptions::default()
    };
    let narrow = load_with(&sana_folder(), options);
    let narrow = narrow.memory_estimate(&small()).unwrap();
    for (narrow, wide) in narrow.stages.iter().zip(estimate(&small()).stages) {
        assert_eq!(2 * narrow.weights, wide.weights, "{}", wide.name);
    }
}

#[test]
fn loras_count() {
    let plain = estimate(&small()).stages[1];
    let file = "pipeline/lora/pytorch_lora_weights.safetensors";
    let lora = sana_pipeline::checkpoint::LoraFile::new(built_in_fixture_path(CRATE, file));
    let options = LoadOptions {
        loras: vec![lora.mode(sana_pipeline::checkpoint::LoraMode::Unmerged)],
        ..LoadOptions::default()
    };
    let pipeline = load_with(&sana_folder(), options);
    let with = pipeline.memory_estimate(&wide()).unwrap().stages[1];
    let without = estimate(&wide()).stages[1];
    assert!(with.weights > plain.weights);
    assert!(with.activations > without.activations);
}

#[test]
fn all_components_stay_where_they_fit() {
    let mut pipeline = limited(
        estimate(&small()).all_components(false),
        LoadOptions::default(),
    );
    generate(&mut pipeline, &small()).unwrap();
    assert!(NETWORKS.iter().all(|part| pipeline.is_loaded(*part)));
    assert!(pipeline.notes().is_empty(), "{:?}", pipeline.notes());
    // What is loaded is part of what the request may take.
    generate(&mut pipeline, &small()).unwrap();
    assert!(!pipeline.releases_stages());
}

#[test]
fn one_stage_at_a_time_where_all_components_do_not_fit() {
    let limit = estimate(&small()).all_components(false) - 1;
    let mut pipeline = limited(limit, LoadOptions::default());
    assert!(pipeline.releases_stages());
    let generation = generate(&mut pipeline, &small()).unwrap();
    assert!(pipeline.releases_stages());
    assert_eq!(
        NETWORKS.map(|part| pipeline.is_loaded(part)),
        [false, false, true]
    );
    let [note] = pipeline.notes() else {
        panic!("{:?}", pipeline.notes())
    };
    assert!(note.contains("one component at a time"), "{note}");
    assert!(
        note.contains("need") && note.contains("MB are free"),
        "{note}"
    );
    let plain = generate(&mut sana(), &small()).unwrap();
    assert_eq!(generation.images, plain.images);

    // A smaller request fits again, and the note goes with the request that it was about.
    let smaller = small().guidance(1.0).size(32, 32).no_text();
    generate(&mut pipeline, &smaller).unwrap();
    assert!(!pipeline.releases_stages());
    assert!(pipeline.notes().is_empty(), "{:?}", pipeline.notes());
}

/// Ready embeddings in place of a text encoder.
trait NoText {
    fn no_text(self) -> Self;
}

impl NoText for Request {
    fn no_text(self) -> Self {
        let conditioning = sana().encode_prompt(&self).unwrap();
        self.embeddings(conditioning.prompt.trim(), None)
    }
}

#[test]
fn decoding_in_tiles_where_whole_images_do_not_fit() {
    let estimated = estimate(&wide());
    let limit = estimated.one_stage_at_a_time(false) - 1;
    let mut pipeline = limited(limit, LoadOptions::default());
    let tiled = generate(&mut pipeline, &wide()).unwrap();
    let notes = pipeline.notes().join("\n");
    assert!(notes.contains("decoding in tiles of 512x512"), "{notes}");
    assert!(notes.contains("whole images need"), "{notes}");

    // The same as tiles that were asked for.
    let options = LoadOptions {
        tiling: Some(Tiling::default()),
        ..LoadOptions::default()
    };
    let asked = generate(&mut load_with(&sana_folder(), options), &wide()).unwrap();
    assert_eq!(tiled.images, asked.images);
    // Another request decides again.
    generate(&mut pipeline, &small()).unwrap();
    let notes = pipeline.notes().join("\n");
    assert!(!notes.contains("tiles"), "{notes}");

    // Tiles do not see beyond their edges. Random weights carry far more across them than trained
    // ones: the bound is what this checkpoint keeps, with a margin.
    let whole = generate(&mut sana(), &wide()).unwrap();
    let kept = psnr(&tiled.images[0], &whole.images[0]).unwrap();
    assert!(kept >= 25.0, "{kept:.1} dB");
}

/// A plan is kept, whatever is planned after it.
#[test]
fn a_plan_is_what_is_done() {
    let limit = estimate(&wide()).one_stage_at_a_time(false) - 1;
    let mut pipeline = limited(limit, LoadOptions::default());
    let mut plan = |request: Request| {
        let settings = request.validate(pipeline.spec()).unwrap();
        pipeline.plan(settings).unwrap()
    };
    let (tiled, whole) = (plan(wide()), plan(small()));
    assert!(tiled.decodes_in_tiles() && !whole.decodes_in_tiles());
    let keep_running = &mut |_: sana_pipeline::StepInfo<'_>| StepAction::Continue;
    let made = pipeline.generate_plan(&tiled, keep_running, &mut |_, _| Ok(()));
    let expected = generate(&mut pipeline, &wide()).unwrap();
    assert_eq!(made.unwrap().images, expected.images);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_loaded() {
    let request = wide();
    let least = estimate(&request).one_stage_at_a_time(true);
    generate(&mut limited(least, LoadOptions::default()), &request).unwrap();

    let mut short = limited(least - 1, LoadOptions::default());
    let (needs, free, _, message) = refusal(&mut short, &request);
    assert_eq!((needs, free), (least, least - 1));
    assert!(message.starts_with("needs "), "{message}");
    assert!(message.contains(" MB free: "), "{message}");
    // Low memory is what was tried already.
    assert!(!message.contains("one stage in memory"), "{message}");

    let nothing = limited(1, LoadOptions::default());
    let (_, _, advice, message) = refusal(&mut { nothing }, &request);
    assert!(advice.is_empty());
    assert!(
        message.contains("1 B free: nothing makes it fit"),
        "{message}"
    );
}

#[test]
fn advice_names_what_would_help() {
    // Of all components kept, one at a time is less.
    let keep = || LoadOptions {
        memory: MemoryPolicy::KeepAll,
        ..LoadOptions::default()
    };
    let estimated = estimate(&small());
    let mut pipeline = limited(estimated.one_stage_at_a_time(true), keep());
    let (_, _, advice, message) = refusal(&mut pipeline, &small());
    assert!(advice.contains(&MemoryAdvice::LowMemory), "{message}");
    assert!(
        message.contains("one stage in memory at a time"),
        "{message}"
    );

    // Of many images, fewer are less; the transformer is what needs most here.
    let few = || small().instruction(InstructionChoice::None);
    let many = || few().count(100);
    let one = estimate(&few()).one_stage_at_a_time(true);
    assert!(one < estimate(&many()).one_stage_at_a_time(true));
    let mut pipeline = limited(one, LoadOptions::default());
    let (_, _, advice, message) = refusal(&mut pipeline, &many());
    assert_eq!(advice, [MemoryAdvice::FewerImages], "{message}");
    assert!(
        message.ends_with("it fits with one image per prompt"),
        "{message}"
    );

    // Of a size beyond the model's own, that one.
    let native = || Request::new("a").steps(1);
    let large = native().size(4096, 4096);
    let needs = estimate(&native()).one_stage_at_a_time(true);
    let mut pipeline = limited(needs, LoadOptions::default());
    let (_, _, advice, message) = refusal(&mut pipeline, &large);
    let size = MemoryAdvice::Size {
        width: 1024,
        height: 1024,
    };
    assert_eq!(advice, [size], "{message}");
    assert!(
        message.ends_with("it fits with a size of 1024x1024"),
        "{message}"
    );
}

/// Weights of half the size are advised where that is enough.
#[test]
fn bf16_is_advised() {
    let options = |dtype| LoadOptions {
        memory: MemoryPolicy::KeepAll,
        dtype,
        ..LoadOptions::default()
    };
    let bf16 = Some(burn::tensor::DType::BF16);
    let narrow = load_with(&sana_folder(), options(bf16));
    let needs = narrow
        .memory_estimate(&wide())
        .unwrap()
        .all_components(true);
    let mut pipeline = limited(needs, options(None));
    let (_, _, advice, message) = refusal(&mut pipeline, &wide());
    assert!(advice.contains(&MemoryAdvice::Bf16), "{message}");
    assert!(message.contains("weights in bf16"), "{message}");
    generate(&mut limited(needs, options(bf16)), &wide()).unwrap();
}

#[test]
fn a_shortage_can_be_ignored() {
    let options = LoadOptions {
        memory_shortage: MemoryShortage::Try,
        ..LoadOptions::default()
    };
    let mut pipeline = limited(1, options);
    let tried = generate(&mut pipeline, &wide()).unwrap();
    let notes = pipeline.notes().join("\n");
    assert!(notes.contains("trying all the same"), "{notes}");
    assert!(pipeline.releases_stages());
    // In the way that needs least.
    assert!(notes.contains("tiles"), "{notes}");
    assert_eq!(tried.images[0].dimensions(), (1024, 768));
}

#[test]
fn low_memory_makes_the_same_images() {
    let low = || LoadOptions {
        memory: MemoryPolicy::OneStageAtATime,
        tiling: Some(Tiling::default()),
        ..LoadOptions::default()
    };
    // Smaller than a tile, alone and in a batch: nothing changes.
    let request = small().count(3);
    let mut pipeline = load_with(&sana_folder(), low());
    let ours = generate(&mut pipeline, &request).unwrap();
    let plain = generate(&mut sana(), &request).unwrap();
    assert_eq!(ours.images, plain.images);
    // The text encoder's table of embeddings was never loaded: it stays in its file.
    let model = pipeline.text_encoder().unwrap();
    assert!(model.embed_tokens.is_none());
}

#[test]
fn decoding_alone_is_planned_too() {
    let latents = || burn::tensor::Tensor::<4>::ones([1, 32, 24, 32], &device());
    let decode = |limit| limited(limit, LoadOptions::default()).decode(latents());
    let estimated = estimate(&wide());
    let alone = |stage: sana_pipeline::memory::StageEstimate| {
        let all = MemoryEstimate {
            stages: vec![stage],
            decode_in_tiles: stage,
        };
        all.one_stage_at_a_time(false)
    };
    let (whole, tiled) = (alone(estimated.stages[2]), alone(estimated.decode_in_tiles));
    decode(whole).unwrap();
    decode(tiled).unwrap();
    let error = decode(tiled - 1).unwrap_err();
    assert!(matches!(error, PipelineError::Memory { .. }), "{error}");
    let mut pipeline = limited(whole - 1, LoadOptions::default());
    pipeline.decode(latents()).unwrap();
    let notes = pipeline.notes().join("\n");
    assert!(notes.contains("tiles"), "{notes}");
}

#[test]
fn budgets() {
    let limit = limited(123_456, LoadOptions::default());
    assert_eq!(limit.memory_budget(), Some(123_456));
    if cfg!(target_os = "linux") {
        assert!(sana().memory_budget().unwrap() > 0);
    }
}
