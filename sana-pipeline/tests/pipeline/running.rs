//! How the stages run: order, memory, batches, observers, values that are not finite.

use burn::tensor::Tensor;
use sana_linear_attn::parity::values;
use sana_pipeline::CheckpointError;
use sana_pipeline::image::{GrayImage, RgbImage};
use sana_pipeline::{Component, MemoryPolicy, PipelineError, Solver, StepAction};
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
fn guidance_is_applied_in_its_interval_only() {
    let mut pipeline = sana();
    let request = || small().steps(4).guidance(4.5);
    let interval = |start, end| GuidanceInterval::new(start, end).unwrap();
    let guided = sampled(&mut pipeline, &request());
    let plain = sampled(&mut pipeline, &request().guidance(1.0));
    let whole = sampled(
        &mut pipeline,
        &request().guidance_interval(interval(0.0, 1.0)),
    );
    let nowhere = sampled(
        &mut pipeline,
        &request().guidance_interval(interval(0.0, 0.0)),
    );
    let partly = sampled(
        &mut pipeline,
        &request().guidance_interval(interval(0.0, 0.9)),
    );
    assert_parity("everywhere", whole, guided.clone());
    assert_parity("nowhere", nowhere, plain.clone());
    for other in [guided, plain] {
        let difference: f32 = (partly.clone() - other).abs().max().into_scalar();
        assert!(difference > 1e-4);
    }
}

/// Asserts that two runs end apart.
#[track_caller]
fn assert_apart(a: &Tensor<4>, b: &Tensor<4>) {
    let difference: f32 = (a.clone() - b.clone()).abs().max().into_scalar();
    assert!(difference > 1e-4, "{difference:e}");
}

#[test]
fn perturbed_attention_has_the_interval_of_guidance() {
    let mut pipeline = sana();
    let request = || small().steps(4).guidance(4.5).perturbed_attention(2.0);
    let interval = |start, end| GuidanceInterval::new(start, end).unwrap();
    let perturbed = sampled(&mut pipeline, &request());
    let guided = sampled(&mut pipeline, &request().perturbed_attention(0.0));
    let plain = small().steps(4).guidance(1.0);
    let plain = sampled(&mut pipeline, &plain);
    let nowhere = request().guidance_interval(interval(0.0, 0.0));
    let nowhere = sampled(&mut pipeline, &nowhere);
    let partly = request().guidance_interval(interval(0.0, 0.9));
    let partly = sampled(&mut pipeline, &partly);
    assert_parity("nowhere", nowhere, plain.clone());
    assert_apart(&perturbed, &guided);
    for other in [&perturbed, &guided, &plain] {
        assert_apart(&partly, other);
    }
}

/// Perturbed attention guides without classifier-free guidance, and needs no negative prompt then.
#[test]
fn perturbed_attention_alone() {
    let mut pipeline = sana();
    let request = || small().steps(3).guidance(1.0);
    let perturbed = request().perturbed_attention(2.0);
    let conditioning = pipeline.encode_prompt(&perturbed).unwrap();
    assert!(conditioning.negative.is_none());
    let plain = sampled(&mut pipeline, &request());
    assert_apart(&sampled(&mut pipeline, &perturbed), &plain);

    // An image of a batch is the image made alone.
    let batch = Request::batch(["a red circle", "two green triangles and more"])
        .size(64, 32)
        .steps(2)
        .negative("blurry")
        .perturbed_attention(2.0)
        .seed(5);
    let latents = sampled(&mut pipeline, &batch);
    let second = Request::new("two green triangles and more")
        .size(64, 32)
        .steps(2)
        .negative("blurry")
        .perturbed_attention(2.0)
        .seed(6);
    let second = sampled(&mut pipeline, &second);
    assert_parity("the second", latents.narrow(0, 1, 1), second);
}

#[test]
fn projected_guidance_without_its_parts_is_classifier_free() {
    let mut pipeline = sana();
    let request = || small().steps(4).guidance(6.0);
    let options = |eta, norm, momentum| AdaptiveProjection::new(eta, norm, momentum).unwrap();
    let guided = sampled(&mut pipeline, &request());
    let whole = request().projection(options(1.0, f64::INFINITY, 0.0));
    assert_parity("whole", sampled(&mut pipeline, &whole), guided.clone());
    let changed = [
        options(0.0, f64::INFINITY, 0.0),
        options(1.0, 1e-3, 0.0),
        options(1.0, f64::INFINITY, -0.5),
        AdaptiveProjection::default(),
    ];
    let changed = changed.map(|options| sampled(&mut pipeline, &request().projection(options)));
    for other in &changed {
        assert_apart(other, &guided);
    }
    // Every run starts without momentum.
    let again = request().projection(AdaptiveProjection::default());
    let again = sampled(&mut pipeline, &again);
    assert_parity("again", again, changed[3].clone());

    // Without classifier-free guidance there is nothing to project, next to which perturbed
    // attention continues.
    for scale in [0.0, 2.0] {
        let plain = request().guidance(1.0).perturbed_attention(scale);
        let projected = plain.clone().projection(AdaptiveProjection::default());
        let plain = sampled(&mut pipeline, &plain);
        assert_parity("plain", sampled(&mut pipeline, &projected), plain);
    }
    let both = request().perturbed_attention(2.0);
    let whole = both.clone().projection(options(1.0, f64::INFINITY, 0.0));
    let both = sampled(&mut pipeline, &both);
    assert_parity("both", sampled(&mut pipeline, &whole), both);
}

#[test]
fn the_observer_sees_stops_and_exchanges() {
    let mut pipeline = sana();
    let request = small().steps(4);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let (mut seen, mut estimate) = (Vec::new(), None);
    let stopped = pipeline
        .sample(&request, &conditioning, &mut |step| {
            seen.push((step.index, step.steps));
            assert_eq!(step.latents.dims(), step.denoised.dims());
            estimate = Some(step.denoised.clone());
            if step.index == 1 {
                StepAction::Stop
            } else {
                StepAction::Continue
            }
        })
        .unwrap();
    assert_eq!(seen, [(0, 4), (1, 4)]);
    assert_eq!(stopped.dims(), [1, 32, 1, 2]);
    let estimate = estimate.unwrap();
    assert_eq!(values(stopped), values(estimate.clone()));

    let exchanged = pipeline
        .sample(&request, &conditioning, &mut |step| {
            if step.index == 3 {
                StepAction::ContinueFrom(step.latents.zeros_like())
            } else {
                StepAction::Continue
            }
        })
        .unwrap();
    assert!(values(exchanged).iter().all(|value| *value == 0.0));

    let generation = pipeline
        .generate(&request, &mut |step| match step.index {
            1 => StepAction::Stop,
            _ => StepAction::Continue,
        })
        .unwrap();
    assert!(generation.stopped);
    assert_eq!(generation.images, pipeline.decode(estimate).unwrap());

    let latents = Tensor::zeros([1, 32, 1, 2], &device());
    let generation = pipeline
        .generate(&request, &mut |_| StepAction::StopWith(latents.clone()))
        .unwrap();
    assert!(generation.stopped);
    assert_eq!(generation.images, pipeline.decode(latents).unwrap());
}

/// Latents of consistency sampling are in units of `sigma_data`, those to stop with too.
#[test]
fn stopping_consistency_sampling() {
    let mut pipeline = sprint();
    let request = small();
    let generation = pipeline
        .generate(&request, &mut |_| StepAction::Stop)
        .unwrap();
    let with_the_same = pipeline
        .generate(&request, &mut |step| StepAction::StopWith(step.denoised))
        .unwrap();
    assert_eq!(generation.images, with_the_same.images);
    let (mut seen, mut estimate) = (Vec::new(), None);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let stopped = pipeline.sample(&request, &conditioning, &mut |step| {
        estimate = Some(step.denoised.clone());
        seen.push(step.index);
        StepAction::Stop
    });
    assert_eq!(seen, [0]);
    assert_eq!(values(stopped.unwrap()), values(estimate.unwrap() / 0.5));
}

/// The preview of a step is what the run gives when it stops there, the last one the result itself:
/// for a flow, for consistency sampling, with a mask, and resized after decoding.
#[test]
fn previews_are_the_images_of_a_run_that_stops() {
    let image = |side| {
        RgbImage::from_fn(side, 32, |x, y| {
            let [r, g, b] = [3 * x, 7 * y, x + y].map(|value| value as u8);
            image::Rgb([r, g, b])
        })
    };
    let half = GrayImage::from_fn(64, 32, |x, _| image::Luma([if x < 32 { 255 } else { 0 }]));
    let flow = small().steps(3).solver(Solver::FlowEuler);
    let masked = flow.clone().image(image(64)).mask(half);
    let resized = flow.clone().bucketed_size(100, 40);
    for (mut pipeline, request) in [
        (sana(), flow),
        (sprint(), small().steps(2)),
        (sana(), masked),
        (sana(), resized),
    ] {
        let mut previews = Vec::new();
        let generation = pipeline
            .generate(&request, &mut |mut step| {
                previews.extend(step.decode_preview()?);
                Ok(StepAction::Continue)
            })
            .unwrap();
        assert!(pipeline.is_loaded(Component::Transformer));
        assert_eq!(previews.last().unwrap(), &generation.images);
        assert_ne!(previews[0], generation.images);
        let stopped = pipeline.generate(&request, &mut |_| StepAction::Stop);
        assert_eq!(previews[0], stopped.unwrap().images);
    }
}

/// With one stage in memory at a time there are no previews, and nothing is loaded for them.
#[test]
fn previews_keep_to_the_memory_policy() {
    let options = LoadOptions {
        memory: MemoryPolicy::OneStageAtATime,
        ..LoadOptions::default()
    };
    let mut pipeline = load_with(&sana_folder(), options);
    let conditioning = pipeline.encode_prompt(&small()).unwrap();
    let mut previews = Vec::new();
    pipeline
        .sample(&small(), &conditioning, &mut |mut step| {
            previews.push(step.decode_preview()?);
            Ok(StepAction::Continue)
        })
        .unwrap();
    assert_eq!(previews, [None, None]);
    assert!(!pipeline.is_loaded(Component::Vae));
}

#[test]
fn an_error_of_the_observer_ends_the_run() {
    let mut pipeline = sana();
    let mut steps = 0;
    let error = pipeline
        .generate(&small(), &mut |_| {
            steps += 1;
            let found = std::fs::read("no such file")?;
            assert!(found.is_empty());
            Ok(StepAction::Continue)
        })
        .unwrap_err();
    assert_eq!(steps, 1);
    assert!(matches!(error, PipelineError::Observer(_)), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.downcast_ref::<std::io::Error>().is_some());

    // The library's own errors pass through.
    let error = pipeline
        .generate(&small(), &mut |_| {
            SanaPipeline::load(Path::new("no such folder"), &device())?;
            Ok(StepAction::Continue)
        })
        .unwrap_err();
    assert!(
        matches!(
            error,
            PipelineError::Checkpoint(CheckpointError::NoFolder { .. })
        ),
        "{error}"
    );
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
