//! Equal to the reference.

use burn::tensor::Tensor;
use sana_pipeline::image::from_tensor;
use sana_pipeline::{Control, InstructionChoice, Request, SanaPipeline, Schedule, Solver};
use sana_text::PromptEmbeds;

use super::*;

fn go_on(_: sana_pipeline::StepInfo) -> Control {
    Control::Continue
}

fn sampled(pipeline: &mut SanaPipeline, request: &Request) -> Tensor<4> {
    let conditioning = pipeline.encode_prompt(request).unwrap();
    pipeline.sample(request, &conditioning, &mut go_on).unwrap()
}

fn assert_embeds(name: &str, ours: PromptEmbeds, io: &Fixture) {
    let mask: Tensor<2> = io.tensor(&format!("{name}_mask"), &device());
    assert_parity(&format!("{name} mask"), ours.mask.clone(), mask.clone());
    let mask = mask.unsqueeze_dim::<3>(2);
    let expected = io.tensor::<3>(&format!("{name}_embeds"), &device()) * mask.clone();
    assert_parity(name, ours.embeds * mask, expected);
}

#[test]
fn embeddings_equal_the_reference() {
    let io = sana_io();
    let conditioning = sana().encode_prompt(&sana_request()).unwrap();
    let prompts = conditioning.prompt.embeds.dims()[0];
    assert_eq!(conditioning.dropped_tokens(), vec![0; prompts]);
    assert_embeds("prompt", conditioning.prompt, &io);
    let negative = conditioning.negative.unwrap().repeat_each(prompts);
    assert_embeds("negative", negative, &io);
}

#[test]
fn latents_and_pictures_equal_the_reference() {
    let io = sana_io();
    let mut pipeline = sana();
    for steps in [4, 20] {
        let request = sana_request().steps(steps);
        let latents = sampled(&mut pipeline, &request);
        let name = format!("latent_steps{steps}");
        assert_parity(&name, latents.clone(), io.tensor(&name, &device()));

        let name = format!("image_steps{steps}");
        let images = as_reference_images(pipeline.decode_tensor(latents).unwrap());
        let expected: Tensor<4> = io.tensor(&name, &device());
        assert_parity(&name, images, expected.clone());

        let generation = pipeline.generate(&request, &mut go_on).unwrap();
        let expected = from_tensor(expected.permute([0, 3, 1, 2]) * 2.0 - 1.0).unwrap();
        assert_eq!(generation.images.len(), expected.len());
        for (ours, expected) in generation.images.iter().zip(&expected) {
            assert_eq!(ours.dimensions(), expected.dimensions());
            let mut pairs = ours.as_raw().iter().zip(expected.as_raw());
            assert!(pairs.all(|(a, b)| a.abs_diff(*b) <= 1));
        }
    }
}

#[test]
fn other_solvers_and_options_equal_the_reference() {
    let io = sana_io();
    let mut pipeline = sana();
    let cases = [
        (
            "latent_euler_steps8",
            sana_request().steps(8).solver(Solver::FlowEuler),
        ),
        (
            "latent_no_guidance_steps4",
            sana_request().steps(4).guidance(1.0),
        ),
        (
            "latent_no_instruction_steps4",
            sana_request()
                .steps(4)
                .instruction(InstructionChoice::None)
                .max_tokens(40),
        ),
    ];
    for (name, request) in cases {
        let latents = sampled(&mut pipeline, &request);
        assert_parity(name, latents, io.tensor(name, &device()));
    }
}

#[test]
fn sprint_equals_the_reference() {
    let io = Fixture::open(CRATE, "pipeline/sprint/io.safetensors");
    let mut pipeline = sprint();
    for steps in [1, 2, 4] {
        let noise: Tensor<5> = io.tensor(&format!("noise_steps{steps}"), &device());
        let noise = (0..steps)
            .map(|step| noise.clone().narrow(0, step, 1).squeeze_dim::<4>(0))
            .collect();
        let request = request_of(&io).steps(steps).step_noise(noise);
        let name = format!("latent_steps{steps}");
        let latents = sampled(&mut pipeline, &request);
        assert_parity(&name, latents, io.tensor(&name, &device()));
    }
}

/// A changed weight is seen, so the comparisons above compare something.
#[test]
fn a_perturbed_weight_is_seen() {
    let folder = copy_of(&sana_folder());
    let path = folder.path().join("scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("\"flow_shift\": 3.0", "\"flow_shift\": 3.1"),
    )
    .unwrap();
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let latents = sampled(&mut pipeline, &sana_request().steps(4));
    let expected: Tensor<4> = sana_io().tensor("latent_steps4", &device());
    let difference: f32 = (latents - expected).abs().max().into_scalar();
    assert!(difference > 1e-3, "{difference}");
}

/// Padding is cut before the transformer runs; its mask makes that exact.
#[test]
fn cut_padding_changes_nothing() {
    let io = sana_io();
    let mut pipeline = sana();
    let conditioning = pipeline.encode_prompt(&sana_request()).unwrap();
    let whole = conditioning.prompt;
    let cut = whole.clone().trim();
    assert!(cut.embeds.dims()[1] < whole.embeds.dims()[1]);
    let transformer = pipeline.transformer().unwrap();
    let latents: Tensor<4> = io.tensor("latents", &device());
    let time = Tensor::full([latents.dims()[0]], 700.0, &device());
    let velocity = |embeds: PromptEmbeds| {
        let text = transformer.text_context(embeds.embeds, Some(embeds.mask));
        transformer.forward(latents.clone(), time.clone(), None, &text)
    };
    assert_parity("trimmed", velocity(cut), velocity(whole));
}

/// The grid given as a schedule is the grid of the scheduler.
#[test]
fn a_schedule_of_ones_own() {
    let io = sana_io();
    let mut pipeline = sana();
    let schedule = pipeline
        .scheduler()
        .schedule(Solver::FlowEuler, 8, None)
        .unwrap();
    assert!(matches!(schedule, Schedule::Flow(_)));
    let request = sana_request().solver(Solver::FlowEuler).schedule(schedule);
    let latents = sampled(&mut pipeline, &request);
    let expected = io.tensor("latent_euler_steps8", &device());
    assert_parity("latent_euler_steps8", latents, expected);
}
