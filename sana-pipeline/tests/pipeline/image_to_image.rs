//! Image-to-image, inpainting and schedules by name.

use sana_pipeline::RequestError;
use std::collections::HashSet;

use burn::tensor::Tensor;
use sana_linear_attn::parity::{tolerance, values};
use sana_pipeline::image::{GrayImage, RgbImage};
use sana_pipeline::{
    Component, ImageToImageError, InstructionChoice, MemoryPolicy, PipelineError, Schedule, Solver,
    StepAction, StepInfo,
};
use sana_sampler::{FlowSchedule, SamplerError, ScmSchedule, ScmTimesteps, noise};

use super::parity::{Reference, sampled};
use super::*;

const SIZE: [u32; 2] = [96, 64];

fn keep_running(_: StepInfo<'_>) -> StepAction {
    StepAction::Continue
}

fn photo(green: u8) -> RgbImage {
    let [width, height] = SIZE;
    RgbImage::from_fn(width, height, |x, y| {
        [(x * 2) as u8, green.wrapping_add(y as u8), (x ^ y) as u8].into()
    })
}

/// White from 40, 10 to 56, 30: within the second cell of the first row.
fn hole(x: u32, y: u32) -> bool {
    (40..56).contains(&x) && (10..30).contains(&y)
}

fn mask(white: impl Fn(u32, u32) -> bool) -> GrayImage {
    let [width, height] = SIZE;
    GrayImage::from_fn(width, height, |x, y| {
        [if white(x, y) { 255 } else { 0 }].into()
    })
}

fn edit() -> Request {
    Request::new("a red circle").image(photo(7)).steps(4)
}

fn largest_difference(a: &Tensor<4>, b: &Tensor<4>) -> f32 {
    (a.clone() - b.clone()).abs().max().into_scalar()
}

fn distance(a: &Tensor<4>, b: &Tensor<4>) -> f32 {
    (a.clone() - b.clone()).square().mean().sqrt().into_scalar()
}

#[test]
fn sprint_equals_the_reference() {
    let reference = Reference::of("sprint", "sprint_img2img");
    let mut pipeline = reference.pipeline();
    let number = |key: &str| reference.io.metadata(key).parse::<f64>().unwrap();
    let (steps, strength) = (number("steps") as usize, number("strength"));
    let image = reference.tensor::<4>("image") * 2.0 - 1.0;
    let latents = pipeline.encode_tensor(image).unwrap();
    let noise: Tensor<5> = reference.tensor("noise");
    let noise = |step| noise.clone().narrow(0, step, 1).squeeze_dim::<4>(0);
    let request = |strength, noises: [usize; 3]| {
        let [initial, first, second] = noises.map(noise);
        Request::new(reference.io.metadata("prompt"))
            .image_latents(latents.clone())
            .strength(strength)
            .steps(steps)
            .guidance(number("guidance_scale"))
            .instruction(InstructionChoice::Custom(reference.instruction.clone()))
            .max_tokens(reference.max_tokens)
            .latents(initial)
            .step_noise(vec![first, second])
    };
    let settings = request(strength, [0, 1, 2])
        .validate(pipeline.spec())
        .unwrap();
    let whole = ScmSchedule::default_for(steps).unwrap();
    let from_two = Schedule::Scm(whole.from_index(2).unwrap());
    assert_eq!(settings.schedule, from_two);
    assert_eq!(settings.schedule_steps(), steps);

    let expected: Tensor<4> = reference.tensor("latent");
    let ours = sampled(&mut pipeline, &request(strength, [0, 1, 2]));
    assert_parity("latent", ours, expected.clone());

    // The comparison sees another start and another noise.
    let bound = 2.0 * tolerance() as f32 * expected.clone().abs().max().into_scalar::<f32>();
    for other in [request(0.75, [0, 1, 2]), request(strength, [1, 0, 2])] {
        let ours = sampled(&mut pipeline, &other);
        assert!(largest_difference(&ours, &expected) > bound, "{other:?}");
    }
}

#[test]
fn ready_latents_are_those_of_the_image() {
    for mut pipeline in [sana(), sprint()] {
        let latents = pipeline.encode_image(&photo(7)).unwrap();
        let ready = Request::new("a red circle").image_latents(latents);
        let ready = sampled(&mut pipeline, &ready.steps(4));
        assert_parity("ready", ready, sampled(&mut pipeline, &edit()));
    }
}

#[test]
fn the_default_strengths() {
    let settings = edit().steps(20).validate(sana().spec()).unwrap();
    assert_eq!((settings.steps(), settings.schedule_steps()), (12, 20));
    let settings_of_images = settings.image_to_image.unwrap();
    assert_eq!(
        (settings_of_images.strength, settings_of_images.masked),
        (0.6, false)
    );
    assert_eq!([settings.width, settings.height], [96, 64]);
    // Of the two steps of Sprint one runs, from the time 1.3.
    let settings = edit().steps(2).validate(sprint().spec()).unwrap();
    let expected = ScmSchedule::from_timesteps(vec![1.3, 0.0]).unwrap();
    assert_eq!(settings.schedule, Schedule::Scm(expected));
    let settings = edit().mask(mask(hole)).validate(sana().spec()).unwrap();
    assert_eq!((settings.steps(), settings.schedule_steps()), (4, 4));
    assert!(settings.image_to_image.unwrap().masked);
    let settings = small().validate(sana().spec()).unwrap();
    assert_eq!(
        (settings.image_to_image, settings.schedule_steps()),
        (None, 2)
    );
}

/// Where the first noise level is 1, the whole schedule starts from noise alone.
#[test]
fn strength_one_is_text_to_image() {
    let mut pipeline = sana();
    let plain = Request::new("a red circle").size(96, 64).steps(4);
    let euler = |request: Request| request.solver(Solver::FlowEuler).seed(3);
    let from_noise = sampled(&mut pipeline, &euler(plain.clone()));
    let from_image = sampled(&mut pipeline, &euler(edit().strength(1.0)));
    assert_eq!(values(from_image), values(from_noise));
    // The first time of Sprint is pi / 2 to five digits.
    let mut pipeline = sprint();
    let from_noise = sampled(&mut pipeline, &plain);
    let from_image = sampled(&mut pipeline, &edit().strength(1.0));
    assert_parity("sprint", from_image, from_noise);
}

/// A small strength stays near the image, a larger one leaves it.
#[test]
fn strength_is_the_distance_from_the_image() {
    for solver in [None, Some(Solver::FlowEuler)] {
        let mut pipeline = sana();
        let known = pipeline.encode_image(&photo(7)).unwrap();
        let mut distance_at = |strength| {
            let request = edit().steps(20).guidance(1.0).strength(strength);
            let request = match solver {
                Some(solver) => request.solver(solver),
                None => request,
            };
            distance(&sampled(&mut pipeline, &request), &known)
        };
        let distances = [0.05, 0.25, 0.5, 1.0].map(&mut distance_at);
        assert!(distances.is_sorted(), "{distances:?}");
        assert!(distances[0] < 0.3 * distances[3], "{distances:?}");
    }
}

/// Latents given with an image are the noise that it is mixed with.
#[test]
fn latents_given_with_an_image_are_noise() {
    for mut pipeline in [sana(), sprint()] {
        let seeded = sampled(&mut pipeline, &edit().seed(11));
        let shape = [1, 32, 2, 3];
        let initial = noise::latents(11, 0, shape, &device());
        let given = sampled(&mut pipeline, &edit().seed(11).latents(initial));
        assert_eq!(values(given), values(seeded.clone()));
        let other = noise::latents(12, 0, shape, &device());
        let other = sampled(&mut pipeline, &edit().seed(11).latents(other));
        assert!(largest_difference(&other, &seeded) > 1e-3);
    }
}

#[test]
fn a_schedule_of_ones_own_is_cut_too() {
    let whole = FlowSchedule::from_sigmas(vec![0.9, 0.6, 0.4, 0.2, 0.0]).unwrap();
    let request = edit().schedule(Schedule::Flow(whole.clone())).strength(0.5);
    let settings = request.validate(sana().spec()).unwrap();
    let rest = whole.from_index(2).unwrap();
    assert_eq!(settings.schedule, Schedule::Flow(rest));
    assert_eq!(settings.schedule_steps(), 4);
}

#[test]
fn an_image_of_a_batch_equals_the_image_made_alone() {
    for mut pipeline in [sana(), sprint()] {
        let texts = ["a red circle", "two green triangles and more"];
        let given = [photo(7), photo(120)];
        let batch = Request::batch(texts).images(given.clone()).count(2);
        let batch = batch.mask(mask(hole)).steps(2).seed(5);
        let latents = sampled(&mut pipeline, &batch);
        let images = pipeline.generate(&batch, &mut keep_running).unwrap().images;
        for (index, image) in images.iter().enumerate() {
            let alone = Request::new(texts[index / 2])
                .image(given[index / 2].clone())
                .mask(mask(hole))
                .steps(2)
                .seed(5 + index as u64);
            let one = sampled(&mut pipeline, &alone);
            assert_parity("image", latents.clone().narrow(0, index, 1), one);
            assert_kept(image, &given[index / 2], |x, y| !hole(x, y));
        }

        // One image for all prompts is that image for each.
        let request = || Request::batch(texts).steps(2);
        let one = sampled(&mut pipeline, &request().image(photo(7)));
        let each = request().images([photo(7), photo(7)]);
        assert_eq!(values(sampled(&mut pipeline, &each)), values(one));
    }
}

#[test]
fn one_stage_at_a_time_gives_the_same_images() {
    let options = LoadOptions {
        memory: MemoryPolicy::OneStageAtATime,
        ..LoadOptions::default()
    };
    let request = edit().mask(mask(hole)).mask_feather(3);
    let mut pipeline = load_with(&sana_folder(), options);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let latents = pipeline
        .sample(&request, &conditioning, &mut |step| {
            assert_eq!(step.steps, 4);
            StepAction::Continue
        })
        .unwrap();
    assert!(!pipeline.is_loaded(Component::TextEncoder) && !pipeline.is_loaded(Component::Vae));
    assert!(pipeline.is_loaded(Component::Transformer));
    let staged = pipeline.decode(latents).unwrap();
    let staged = pipeline.composite(&request, staged).unwrap();

    let released = pipeline.generate(&request, &mut keep_running).unwrap();
    let kept = sana().generate(&request, &mut keep_running).unwrap();
    assert_eq!(kept.images, released.images);
    assert_eq!(kept.images, staged);
    let names: Vec<&str> = kept.stages.iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["text", "encode", "denoise", "decode"]);
}

/// Asserts that pixels for which `kept` holds are those of the image.
#[track_caller]
fn assert_kept(image: &RgbImage, known: &RgbImage, kept: impl Fn(u32, u32) -> bool) {
    assert_eq!(image.dimensions(), known.dimensions());
    for (x, y, pixel) in image.enumerate_pixels().filter(|(x, y, _)| kept(*x, *y)) {
        assert_eq!(pixel, known.get_pixel(x, y), "at {x}, {y}");
    }
}

/// The hole and the pixels around it that a feather reaches: nearer than `feather + 1`.
fn feathered(x: u32, y: u32, feather: u32) -> bool {
    let across = x.saturating_sub(55).max(40u32.saturating_sub(x));
    let down = y.saturating_sub(29).max(10u32.saturating_sub(y));
    across * across + down * down < (feather + 1) * (feather + 1)
}

#[test]
fn what_the_mask_keeps_is_kept_byte_for_byte() {
    let euler = edit().solver(Solver::FlowEuler);
    for (mut pipeline, request) in [(sana(), edit()), (sana(), euler), (sprint(), edit())] {
        for strength in [0.5, 1.0] {
            for feather in [0, 4] {
                let request = request.clone().mask(mask(hole)).strength(strength);
                let request = request.mask_feather(feather);
                let image = pipeline
                    .generate(&request, &mut keep_running)
                    .unwrap()
                    .images
                    .remove(0);
                assert_kept(&image, &photo(7), |x, y| !feathered(x, y, feather));
                let changed = image
                    .enumerate_pixels()
                    .filter(|(x, y, pixel)| *pixel != photo(7).get_pixel(*x, *y));
                let changed: HashSet<bool> = changed.map(|(x, y, _)| hole(x, y)).collect();
                assert!(changed.contains(&true));
                // The feather is where both are mixed.
                assert_eq!(changed.contains(&false), feather > 0);
            }
        }
    }
}

/// Every pixel of an image of another size, resized and cut as the image is.
#[test]
fn image_and_mask_are_fitted_together() {
    let mut pipeline = sana();
    let request = edit().mask(mask(hole)).size(64, 64);
    let image = pipeline
        .generate(&request, &mut keep_running)
        .unwrap()
        .images
        .remove(0);
    // The middle 64 columns are left, so the hole is 16 further to the left.
    let cut = RgbImage::from_fn(64, 64, |x, y| *photo(7).get_pixel(x + 16, y));
    assert_kept(&image, &cut, |x, y| !hole(x + 16, y));
}

/// After every step the cells that stay lie on the path of the image; at the end they are its
/// latents exactly.
#[test]
fn the_observer_sees_the_known_region_on_its_path() {
    let mut pipeline = sana();
    let request = edit().mask(mask(hole)).seed(2);
    let known = pipeline.encode_image(&photo(7)).unwrap();
    let initial = noise::latents(2, 0, known.dims(), &device());
    let Schedule::Flow(schedule) = request.validate(pipeline.spec()).unwrap().schedule else {
        panic!("a flow model")
    };
    // The hole is in the cell 0, 1 of the 2 x 3.
    let last = |tensor: Tensor<4>| values(tensor.narrow(2, 1, 1));
    let cell = |tensor: Tensor<4>| values(tensor.narrow(2, 0, 1).narrow(3, 1, 1));
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let mut seen = 0;
    let result = pipeline
        .sample(&request, &conditioning, &mut |step| {
            let sigma = schedule.sigmas()[step.index + 1];
            let path = known.clone() * (1.0 - sigma) + initial.clone() * sigma;
            assert_eq!(last(step.latents), last(path));
            assert_eq!(last(step.denoised.clone()), last(known.clone()));
            assert_ne!(cell(step.denoised), cell(known.clone()));
            seen += 1;
            StepAction::Continue
        })
        .unwrap();
    assert_eq!(seen, 4);
    assert_eq!(last(result.clone()), last(known.clone()));
    assert_ne!(cell(result), cell(known));
}

/// In consistency sampling the known region has the noise of the step, as the rest has.
#[test]
fn the_known_region_of_sprint_has_the_step_s_noise() {
    let mut pipeline = sprint();
    let known = pipeline.encode_image(&photo(7)).unwrap();
    let noises: Vec<Tensor<4>> = (0..3)
        .map(|step| noise::step_noise(4, 0, step, known.dims(), &device()))
        .collect();
    let request = edit().mask(mask(hole)).step_noise(noises.clone());
    let times = ScmSchedule::default_for(4).unwrap().timesteps().to_vec();
    let last = |tensor: Tensor<4>| tensor.narrow(2, 1, 1);
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let mut seen = 0;
    let result = pipeline
        .sample(&request, &conditioning, &mut |step| {
            let (sin, cos) = times[step.index + 1].sin_cos();
            let noise = noises
                .get(step.index)
                .map_or(known.zeros_like(), Clone::clone);
            let path = (known.clone() * cos + noise * sin) * 0.5;
            assert_parity("path", last(step.latents), last(path));
            seen += 1;
            StepAction::Continue
        })
        .unwrap();
    assert_eq!(seen, 4);
    assert_eq!(values(last(result)), values(last(known)));
}

/// What is outside of the mask has no part in an image that is white all over.
#[test]
fn a_mask_that_is_all_white_is_text_to_image() {
    let mut pipeline = sana();
    let euler = |request: Request| request.steps(3).solver(Solver::FlowEuler);
    let masked = euler(edit()).mask(mask(|_, _| true));
    let masked = pipeline.generate(&masked, &mut keep_running).unwrap();
    let plain = euler(Request::new("a red circle").size(96, 64));
    let plain = pipeline.generate(&plain, &mut keep_running).unwrap();
    assert_eq!(masked.images, plain.images);
}

#[test]
fn stopping_and_exchanging_with_a_mask() {
    for mut pipeline in [sana(), sprint()] {
        let request = edit().mask(mask(hole));
        let known = pipeline.encode_image(&photo(7)).unwrap();
        let conditioning = pipeline.encode_prompt(&request).unwrap();
        let last = |tensor: Tensor<4>| values(tensor.narrow(2, 1, 1));
        let mut seen = Vec::new();
        let stopped = pipeline
            .sample(&request, &conditioning, &mut |step| {
                seen.push(step.denoised);
                match seen.len() {
                    2 => StepAction::Stop,
                    _ => StepAction::Continue,
                }
            })
            .unwrap();
        assert_eq!(seen.len(), 2);
        // The estimate with the known region in it; of consistency sampling in units of sigma_data.
        let unit = match pipeline.spec().defaults().solver {
            Solver::Scm => 0.5,
            _ => 1.0,
        };
        let expected = seen[1].clone() / unit;
        assert_eq!(values(stopped.clone()), values(expected));
        assert_eq!(last(stopped), last(known));
        let generation = pipeline
            .generate(&request, &mut |_| StepAction::Stop)
            .unwrap();
        assert!(generation.stopped);
        assert_kept(&generation.images[0], &photo(7), |x, y| !hole(x, y));

        // The last word is the user's.
        for with_estimate in [false, true] {
            let zero = pipeline
                .sample(&request, &conditioning, &mut |step| {
                    let latents = step.latents.zeros_like();
                    match (step.index, with_estimate) {
                        (3, false) => StepAction::ContinueFrom(latents),
                        (3, true) => StepAction::ContinueWith {
                            latents,
                            denoised: step.denoised,
                        },
                        _ => StepAction::Continue,
                    }
                })
                .unwrap();
            assert!(values(zero).iter().all(|value| *value == 0.0));
        }
    }
}

fn refused(request: Request) -> PipelineError {
    let mut pipeline = sana();
    let error = request.validate(pipeline.spec()).unwrap_err();
    // Found before anything is loaded.
    assert!(pipeline.generate(&request, &mut keep_running).is_err());
    let networks = [
        Component::TextEncoder,
        Component::Transformer,
        Component::Vae,
    ];
    assert!(!networks.iter().any(|part| pipeline.is_loaded(*part)));
    error
}

fn refused_edit(request: Request) -> ImageToImageError {
    match refused(request) {
        PipelineError::Request(RequestError::ImageToImage(error)) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn options_without_a_image() {
    let latents = Tensor::zeros([1, 32, 2, 3], &device());
    for (request, expected) in [
        (small().strength(0.5), "a strength"),
        (small().mask(mask(hole)), "a mask"),
        (small().image_latents(latents).mask(mask(hole)), "a mask"),
    ] {
        let error = refused_edit(request);
        assert_eq!(error, ImageToImageError::NoImage { option: expected });
        assert!(error.to_string().contains("needs an image"), "{error}");
    }
}

#[test]
fn images_and_masks_that_do_not_fit() {
    let prompts = || Request::batch(["a", "b", "c"]);
    let two = prompts().images([photo(1), photo(2)]);
    let expected = ImageToImageError::ImageCount {
        expected: 3,
        found: 2,
    };
    assert_eq!(refused_edit(two), expected);
    let empty = small().image(RgbImage::new(0, 5));
    let expected = ImageToImageError::EmptyImage {
        index: 0,
        width: 0,
        height: 5,
    };
    assert_eq!(refused_edit(empty.clone()), expected);
    assert_eq!(refused_edit(empty.mask(GrayImage::new(0, 5))), expected);

    let error = refused_edit(edit().mask(GrayImage::new(64, 96)));
    let expected = ImageToImageError::MaskSize {
        mask: [64, 96],
        image: [96, 64],
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("64x96"), "{error}");

    let black = mask(|_, _| false);
    let grey = GrayImage::from_pixel(96, 64, [127].into());
    // Its white is in what is cut off.
    let cut_off = mask(|x, _| x < 10);
    for request in [
        edit().mask(black),
        edit().mask(grey),
        edit().size(32, 64).mask(cut_off),
    ] {
        let error = refused_edit(request);
        assert!(
            matches!(error, ImageToImageError::EmptyMask { .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains("nothing to regenerate"),
            "{error}"
        );
    }
}

#[test]
fn strengths_that_do_not_work() {
    for found in [0.0, -1.0, 1.5] {
        let error = refused(edit().strength(found));
        let expected = SamplerError::InvalidStrength { found };
        assert!(
            matches!(error, PipelineError::Request(RequestError::Sampler(error)) if error == expected)
        );
    }
    let nan = refused(edit().strength(f64::NAN)).to_string();
    assert!(nan.contains("above 0 and at most 1, found NaN"), "{nan}");
    let error = refused(edit().strength(0.2));
    assert!(error.to_string().contains("none of 4 steps"), "{error}");
    let error = edit().steps(1).validate(sprint().spec()).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Request(RequestError::Sampler(SamplerError::StrengthTooSmall {
            steps: 1,
            ..
        }))
    ));
}

#[test]
fn tensors_that_do_not_fit() {
    let zeros = |shape| Tensor::<4>::zeros(shape, &device());
    let ready = |shape| Request::new("a").image_latents(zeros(shape)).size(96, 64);
    ready([1, 32, 2, 3]).validate(sana().spec()).unwrap();
    for shape in [[1, 16, 2, 3], [1, 32, 3, 2], [2, 32, 2, 3]] {
        match refused(ready(shape)) {
            PipelineError::Request(RequestError::Shape { what, found, .. }) => {
                assert_eq!(what, "the image's latents");
                assert_eq!(found, shape);
            }
            other => panic!("{other}"),
        }
    }
    let settings = Request::new("a").image_latents(zeros([1, 32, 2, 3]));
    let settings = settings.validate(sana().spec()).unwrap();
    assert_eq!([settings.width, settings.height], [96, 64]);

    // Two of the four steps of Sprint run, and one of them adds noise.
    let noise = |number| vec![zeros([1, 32, 2, 3]); number];
    let request = |number| edit().strength(0.5).step_noise(noise(number));
    request(1).validate(sprint().spec()).unwrap();
    let error = request(0).validate(sprint().spec()).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Request(RequestError::StepNoiseCount {
            steps: 2,
            expected: 1,
            found: 0
        })
    ));

    let request = edit().mask(mask(hole));
    let composite = |drawn| sana().composite(&request, drawn).unwrap_err();
    for drawn in [vec![], vec![photo(1); 2], vec![RgbImage::new(32, 32)]] {
        let error = composite(drawn);
        assert!(
            matches!(error, PipelineError::Request(RequestError::Shape { .. })),
            "{error}"
        );
    }
    // Without a mask there is nothing to put back.
    let drawn = vec![photo(200)];
    assert_eq!(sana().composite(&edit(), drawn.clone()).unwrap(), drawn);
}

#[test]
fn an_image_that_gives_values_that_are_not_finite() {
    let latents = Tensor::<4>::full([1, 32, 2, 3], f32::INFINITY, &device());
    let request = Request::new("a").image_latents(latents).steps(4);
    let error = sana().generate(&request, &mut keep_running).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::NotFinite {
            stage: "encode",
            ..
        }
    ));
}

#[test]
fn schedules_by_name() {
    let sprint = sprint();
    let schedule = |steps, times| {
        let request = small().steps(steps).timesteps(times);
        request
            .validate(sprint.spec())
            .map(|settings| settings.schedule)
    };
    for steps in [1, 2, 4] {
        let paper = Schedule::Scm(ScmSchedule::paper(steps).unwrap());
        let ours = schedule(steps, ScmTimesteps::Paper).unwrap();
        assert_eq!(ours, paper);
        let reference = Schedule::Scm(ScmSchedule::default_for(steps).unwrap());
        assert_eq!(schedule(steps, ScmTimesteps::Reference).unwrap(), reference);
        assert_ne!(ours, reference);
    }
    let error = schedule(3, ScmTimesteps::Paper).unwrap_err();
    assert!(matches!(
        error,
        PipelineError::Request(RequestError::Sampler(SamplerError::NoPaperTimesteps {
            found: 3
        }))
    ));
    assert!(error.to_string().contains("the reference's"), "{error}");

    let error = refused(small().timesteps(ScmTimesteps::Paper));
    assert!(matches!(
        error,
        PipelineError::Request(RequestError::TimestepsMismatch {
            timesteps: ScmTimesteps::Paper
        })
    ));
    assert!(error.to_string().contains("Sana-Sprint"), "{error}");
    small()
        .timesteps(ScmTimesteps::Reference)
        .validate(sana().spec())
        .unwrap();
}

#[test]
fn a_mask_needs_the_exact_size() {
    let mut pipeline = sana();
    let request = edit().mask(mask(hole)).bucketed_size(90, 61);
    let error = pipeline.generate(&request, &mut keep_running).unwrap_err();
    let expected =
        PipelineError::Request(RequestError::ImageToImage(ImageToImageError::MaskInBucket));
    assert_eq!(error.to_string(), expected.to_string());
    let exact = request.size(96, 64);
    assert!(pipeline.generate(&exact, &mut keep_running).is_ok());
}
