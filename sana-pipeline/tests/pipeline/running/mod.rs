//! How the stages run: order, memory, batches, observers, values that are not finite.

mod asynchronous;
mod guidance;
mod observers;

use burn::tensor::Tensor;
use sana_linear_attn::parity::values;
use sana_pipeline::checkpoint::Component;
use sana_pipeline::error::CheckpointError;
use sana_pipeline::image::{GrayImage, RgbImage};
use sana_pipeline::memory::MemoryPolicy;
use sana_pipeline::preview::LatentRgb;
use sana_pipeline::sampler::Solver;
use sana_pipeline::{PipelineError, StepAction};
use sana_sampler::{AdaptiveProjection, GuidanceInterval};

use super::*;

fn keep_running(_: sana_pipeline::StepInfo<'_>) -> StepAction {
    StepAction::Continue
}

fn sampled(pipeline: &mut SanaPipeline, request: &Request) -> Tensor<4> {
    let conditioning = pipeline.encode_prompt(request).unwrap();
    pipeline
        .sample(request, &conditioning, &mut keep_running)
        .unwrap()
}

#[test]
fn parts_load_when_their_stage_runs() {
    let mut pipeline = sana();
    let networks = [
        Component::TextEncoder,
        Component::Transformer,
        Component::Vae,
    ];
    assert!(!networks.iter().any(|part| pipeline.is_loaded(*part)));
    let conditioning = pipeline.encode_prompt(&small()).unwrap();
    assert_eq!(
        networks.map(|part| pipeline.is_loaded(part)),
        [true, false, false]
    );
    let latents = pipeline
        .sample(&small(), &conditioning, &mut keep_running)
        .unwrap();
    pipeline.decode(latents).unwrap();
    assert!(networks.iter().all(|part| pipeline.is_loaded(*part)));
    assert!(pipeline.notes().is_empty());
    assert!(!pipeline.releases_stages());
}

#[test]
fn one_stage_at_a_time_gives_the_same_images() {
    let options = LoadOptions {
        memory: MemoryPolicy::OneStageAtATime,
        ..LoadOptions::default()
    };
    let mut pipeline = load_with(&sana_folder(), options);
    let conditioning = pipeline.encode_prompt(&small()).unwrap();
    assert!(pipeline.is_loaded(Component::TextEncoder));
    let latents = pipeline
        .sample(&small(), &conditioning, &mut keep_running)
        .unwrap();
    assert!(!pipeline.is_loaded(Component::TextEncoder));
    assert!(pipeline.is_loaded(Component::Transformer));
    pipeline.decode(latents).unwrap();
    assert!(!pipeline.is_loaded(Component::Transformer));
    assert!(pipeline.is_loaded(Component::Vae));

    let kept = sana().generate(&small(), &mut keep_running).unwrap();
    let released = pipeline.generate(&small(), &mut keep_running).unwrap();
    assert_eq!(kept.images, released.images);
}

#[test]
fn generate_reports_what_it_did() {
    let request = small().count(2).seed(41);
    let generation = sana().generate(&request, &mut keep_running).unwrap();
    assert_eq!(generation.seeds, [41, 42]);
    assert_eq!(generation.images.len(), 2);
    assert_eq!(generation.images[0].dimensions(), (64, 32));
    assert_ne!(generation.images[0], generation.images[1]);
    assert_eq!(generation.dropped_tokens, [0]);
    assert!(!generation.stopped);
    let names: Vec<&str> = generation.stages.iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["text", "denoise", "decode"]);
    for stage in &generation.stages {
        assert!(stage.seconds >= stage.load_seconds && stage.load_seconds > 0.0);
        assert_eq!(stage.peak_memory_bytes.is_some(), cfg!(target_os = "linux"));
    }
}

/// Image `i` of a batch is the image of `seed + i` made alone, of one prompt or of several.
#[test]
fn an_image_of_a_batch_equals_the_image_made_alone() {
    for mut pipeline in [sana(), sprint()] {
        let texts = ["a red circle", "two green triangles and more"];
        let batch = Request::batch(texts).size(64, 32).steps(3).count(2).seed(5);
        let latents = sampled(&mut pipeline, &batch);
        for (image, text) in [(0, texts[0]), (1, texts[0]), (2, texts[1]), (3, texts[1])] {
            let alone = Request::new(text)
                .size(64, 32)
                .steps(3)
                .seed(5 + image as u64);
            let alone = sampled(&mut pipeline, &alone);
            let name = format!("image {image}");
            assert_parity(&name, latents.clone().narrow(0, image, 1), alone);
        }
    }
}

#[test]
fn negative_prompts_are_one_for_all_or_one_for_each() {
    let mut pipeline = sana();
    let request = || Request::batch(["a", "b"]).size(32, 32).steps(2);
    let one = sampled(&mut pipeline, &request().negative("blurry"));
    let each = sampled(&mut pipeline, &request().negatives(["blurry", "blurry"]));
    assert_parity("negatives", one.clone(), each);
    let other = sampled(
        &mut pipeline,
        &request().negatives(["blurry", "dark and old"]),
    );
    assert_parity(
        "the first",
        one.clone().narrow(0, 0, 1),
        other.clone().narrow(0, 0, 1),
    );
    let difference: f32 = (one - other).narrow(0, 1, 1).abs().max().into_scalar();
    assert!(difference > 1e-4);
}

#[test]
fn ready_embeddings_equal_prompts() {
    let mut pipeline = sana();
    let request = Request::batch(["A Red circle left of a blue square ", "two green triangles"])
        .negative("blurry")
        .size(96, 64)
        .steps(2);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let expected = pipeline
        .sample(&request, &conditioning, &mut keep_running)
        .unwrap();
    let with_embeddings = request
        .clone()
        .embeddings(conditioning.prompt.trim(), conditioning.negative);
    let mut pipeline = sana();
    let latents = sampled(&mut pipeline, &with_embeddings);
    assert!(!pipeline.is_loaded(Component::TextEncoder));
    assert_parity("embeddings", latents, expected);
}

#[test]
fn a_step_that_is_not_finite_is_named() {
    let mut pipeline = sana();
    let request = small().steps(3);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let error = pipeline
        .sample(&request, &conditioning, &mut |step| {
            StepAction::ContinueFrom(step.latents.full_like(f32::NAN))
        })
        .unwrap_err();
    assert!(
        matches!(
            error,
            PipelineError::StepNotFinite {
                step: 2,
                steps: 3,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("step 2 of 3"), "{error}");

    let folder = copy_of(&sprint_folder());
    poison(&folder.path().join(TRANSFORMER), "proj_out.bias");
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let error = pipeline.generate(&small(), &mut keep_running).unwrap_err();
    assert!(
        matches!(
            error,
            PipelineError::StepNotFinite {
                step: 1,
                steps: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_stage_that_is_not_finite_is_named() {
    let latents = Tensor::<4>::full([1, 32, 1, 1], f32::NAN, &device());
    let error = sana().decode(latents).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::NotFinite {
            stage: "decode",
            ..
        }
    ));

    let folder = copy_of(&sana_folder());
    poison(
        &folder.path().join("text_encoder/model.safetensors"),
        "norm.weight",
    );
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let error = pipeline.encode_prompt(&small()).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::NotFinite { stage: "text", .. }
    ));
    assert!(error.to_string().contains("f32 was used"), "{error}");
}

/// The empty prompt is one, and a long one is cut with the number of its lost tokens reported.
#[test]
fn empty_and_very_long_prompts() {
    let mut pipeline = sana();
    let long = "a red circle left of a blue square ".repeat(200);
    let request = Request::batch(["", long.as_str(), "  "])
        .size(32, 32)
        .steps(1);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let dropped = conditioning.dropped_tokens();
    assert!(dropped[0] == 0 && dropped[1] > 300 && dropped[2] == 0);
    let row = |index| conditioning.prompt.embeds.clone().narrow(0, index, 1);
    assert_parity("empty and blank", row(0), row(2));
    let generation = pipeline.generate(&request, &mut keep_running).unwrap();
    assert_eq!(generation.dropped_tokens, dropped);
    assert_eq!(generation.images.len(), 3);
}

#[test]
fn images_go_through_the_autoencoder() {
    let mut pipeline = sana();
    let request = small().steps(1);
    let image = pipeline
        .generate(&request, &mut keep_running)
        .unwrap()
        .images
        .remove(0);
    let latents = pipeline.encode_image(&image).unwrap();
    assert_eq!(latents.dims(), [1, 32, 1, 2]);
    let back = pipeline.decode(latents).unwrap();
    assert_eq!(back[0].dimensions(), image.dimensions());
    let odd = sana_pipeline::image::RgbImage::new(33, 32);
    assert!(matches!(
        pipeline.encode_image(&odd),
        Err(PipelineError::Autoencoder(_))
    ));
}

#[test]
fn tiles_and_whole_images_are_close() {
    use sana_dcae::Tiling;
    let tiled = LoadOptions {
        tiling: Some(Tiling::square(64, 32)),
        ..LoadOptions::default()
    };
    let latents = Tensor::<4>::ones([1, 32, 2, 4], &device());
    let tiled = load_with(&sana_folder(), tiled)
        .decode_tensor(latents.clone())
        .unwrap();
    assert_eq!(tiled.dims(), sana().decode_tensor(latents).unwrap().dims());

    let gaps = LoadOptions {
        tiling: Some(Tiling::square(64, 96)),
        ..LoadOptions::default()
    };
    let checkpoint = Checkpoint::open(&sana_folder()).unwrap();
    let error = SanaPipeline::from_checkpoint(checkpoint, gaps, &device()).unwrap_err();
    assert!(matches!(error, PipelineError::Autoencoder(_)));
}

/// A pipeline of networks in memory makes what the pipeline of their checkpoint makes.
#[test]
fn parts_in_memory() {
    use sana_dcae::DcAe;
    use sana_linear_attn::transformer::F16Clamp;
    use sana_text::{Gemma2LoadOptions, PromptEncoder};

    let folder = sana_folder();
    let mut loaded = sana();
    let encoder = PromptEncoder::load(
        &folder.join("tokenizer"),
        &folder.join("text_encoder"),
        &Gemma2LoadOptions::default(),
        loaded.spec().prompt_options.clone(),
        &device(),
    )
    .unwrap();
    let (tokenizer, text_encoder) = encoder.into_parts();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let transformer = checkpoint
        .transformer_config()
        .unwrap()
        .load(
            &checkpoint.weights(Component::Transformer, None).unwrap(),
            None,
            F16Clamp::Auto,
            &device(),
        )
        .unwrap();
    let autoencoder = DcAe::load(folder.join("vae"), None, None, &device()).unwrap();
    let mut in_memory = SanaPipeline::from_networks(
        tokenizer,
        text_encoder,
        transformer,
        autoencoder,
        loaded.spec().scheduler,
        &device(),
    )
    .unwrap();
    assert!(in_memory.checkpoint().is_none());
    let request = small().max_tokens(50).solver(Solver::FlowEuler);
    let ours = in_memory.generate(&request, &mut keep_running).unwrap();
    let expected = loaded.generate(&request, &mut keep_running).unwrap();
    assert_eq!(ours.images, expected.images);
}

/// What was delivered is there, in order, when a later image fails.
#[test]
fn images_are_delivered_one_by_one() {
    let failing = |delivered: &mut Vec<(usize, RgbImage)>, index: usize, image: &RgbImage| {
        delivered.push((index, image.clone()));
        match index {
            1 => Err("the disk is full".into()),
            _ => Ok(()),
        }
    };
    let mut pipeline = sana();
    let request = small().count(3);
    let whole = pipeline.generate(&request, &mut keep_running).unwrap();
    let first_two: Vec<_> = whole.images[..2].iter().cloned().enumerate().collect();

    let mut delivered = Vec::new();
    let error = pipeline
        .generate_each(&request, &mut keep_running, &mut |index, image| {
            failing(&mut delivered, index, image)
        })
        .unwrap_err();
    assert!(matches!(error, PipelineError::Observer(_)), "{error}");
    assert_eq!(delivered, first_two);

    let latents = sampled(&mut pipeline, &request);
    let mut delivered = Vec::new();
    let error = pipeline
        .decode_each(latents.clone(), &mut |index, image| {
            failing(&mut delivered, index, image)
        })
        .unwrap_err();
    assert!(matches!(error, PipelineError::Observer(_)), "{error}");
    assert_eq!(delivered, first_two);

    // Images whose latents come before those that are not finite.
    let poisoned = latents.clone().slice_assign(
        [2..3, 0..32, 0..1, 0..2],
        latents.narrow(0, 2, 1) * f32::NAN,
    );
    let options = LoadOptions {
        tiling: Some(sana_dcae::Tiling::for_compression(32)),
        ..LoadOptions::default()
    };
    let mut tiled = load_with(&sana_folder(), options);
    let mut delivered = Vec::new();
    let mut keep = |index: usize, _: &RgbImage| {
        delivered.push(index);
        Ok(())
    };
    let error = tiled.decode_each(poisoned, &mut keep).unwrap_err();
    assert!(matches!(error, PipelineError::NotFinite { .. }), "{error}");
    assert_eq!(delivered, [0, 1]);
}
