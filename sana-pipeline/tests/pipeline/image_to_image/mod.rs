//! Image-to-image, inpainting and schedules by name.

mod inpainting;
mod refused;
mod second_pass;

use sana_pipeline::error::RequestError;
use std::collections::HashSet;

use burn::tensor::Tensor;
use sana_linear_attn::parity::{tolerance, values};
use sana_pipeline::checkpoint::Component;
use sana_pipeline::error::ImageToImageError;
use sana_pipeline::image::{GrayImage, RgbImage};
use sana_pipeline::memory::MemoryPolicy;
use sana_pipeline::request::InstructionChoice;
use sana_pipeline::sampler::{Schedule, Solver};
use sana_pipeline::{PipelineError, StepAction, StepInfo};
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

/// Asserts that pixels for which `kept` holds are those of the image.
#[track_caller]
fn assert_kept(image: &RgbImage, known: &RgbImage, kept: impl Fn(u32, u32) -> bool) {
    assert_eq!(image.dimensions(), known.dimensions());
    for (x, y, pixel) in image.enumerate_pixels().filter(|(x, y, _)| kept(*x, *y)) {
        assert_eq!(pixel, known.get_pixel(x, y), "at {x}, {y}");
    }
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
