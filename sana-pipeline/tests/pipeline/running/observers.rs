//! Observers: stopping, exchanging latents, previews, errors.

use super::*;

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

/// Small previews are the colours of the scaled estimate, for a flow and for consistency sampling, and
/// need no network: with one stage in memory at a time they are there too, and nothing is loaded.
#[test]
fn small_previews_are_colors_of_latents() {
    for (folder, unit) in [(sana_folder(), 1.0), (sprint_folder(), 0.5)] {
        let one_stage = || LoadOptions {
            memory: MemoryPolicy::OneStageAtATime,
            ..LoadOptions::default()
        };
        let mut pipeline = load_with(&folder, one_stage());
        assert_eq!(pipeline.latent_rgb(), None);
        let request = small().count(2);
        let conditioning = pipeline.encode_prompt(&request).unwrap();
        pipeline
            .sample(&request, &conditioning, &mut |mut step| {
                assert_eq!(step.preview()?, None);
                Ok(StepAction::Continue)
            })
            .unwrap();

        let factors = (0..32).map(|i| [0.01 * i as f32, -0.02, 0.03]).collect();
        let map = LatentRgb::new("a test", factors, [0.4, 0.5, 0.6]).unwrap();
        let copied = copy_of(&folder);
        map.save(&copied.path().join("vae/latent_rgb.json"))
            .unwrap();
        let mut pipeline = load_with(copied.path(), one_stage());
        assert_eq!(pipeline.latent_rgb(), Some(&map));
        let mut seen = 0;
        pipeline
            .sample(&request, &conditioning, &mut |mut step| {
                let expected = map.images(step.denoised.clone() / unit)?;
                assert_eq!(expected.len(), 2);
                assert_eq!(expected[0].dimensions(), (2, 1));
                assert_eq!(step.preview()?.unwrap(), expected);
                seen += 1;
                Ok(StepAction::Continue)
            })
            .unwrap();
        assert_eq!(seen, 2);
        assert!(!pipeline.is_loaded(Component::Vae));
    }
}

/// A map that is not for this autoencoder is an error when the checkpoint is opened.
#[test]
fn colors_of_other_latents_are_refused() {
    let copied = copy_of(&sana_folder());
    let map = LatentRgb::new("a test", vec![[0.0; 3]; 31], [0.0; 3]).unwrap();
    map.save(&copied.path().join("vae/latent_rgb.json"))
        .unwrap();
    let error = SanaPipeline::load(copied.path(), &device())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("latent_rgb.json") && error.contains("31 channels, not 32"),
        "{error}"
    );
}

/// Previews of the built-in model against its decoded image: at the last step, each latent's colour is
/// near the mean colour of its pixels. On such images that were held out the map has 19.6 dB on average,
/// single images up to 4 dB less; one colour for all latents has 6.6 dB.
#[cfg(feature = "scenes-model")]
#[test]
fn previews_of_the_built_in_model() {
    let mut pipeline = SanaPipeline::built_in(&device()).unwrap();
    let request = Request::new("a large red circle left of a blue square")
        .seed(3)
        .steps(8);
    let mut last = Vec::new();
    let generation = pipeline
        .generate(&request, &mut |mut step| {
            last = step.preview()?.unwrap_or_default();
            Ok(StepAction::Continue)
        })
        .unwrap();
    let decoded = &generation.images[0];
    let means = RgbImage::from_fn(4, 4, |column, row| {
        let mut sums = [0u32; 3];
        for (x, y) in (0..32).flat_map(|y| (0..32).map(move |x| (x, y))) {
            let pixel = decoded.get_pixel(32 * column + x, 32 * row + y);
            sums.iter_mut()
                .zip(pixel.0)
                .for_each(|(sum, value)| *sum += u32::from(value));
        }
        image::Rgb(sums.map(|sum| (sum / 1024) as u8))
    });
    let decibels = sana_pipeline::image::psnr(&last[0], &means).unwrap();
    assert!(decibels > 15.0, "{decibels}");
}
