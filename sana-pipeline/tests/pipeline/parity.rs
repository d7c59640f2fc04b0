//! Equal to the reference.

use burn::tensor::Tensor;
use sana_linear_attn::parity::{Fixture, fixture_path, tolerance};
use sana_linear_attn::transformer::TransformerInput;
use sana_pipeline::StepAction;
use sana_pipeline::image::from_tensor;
use sana_pipeline::request::InstructionChoice;
use sana_pipeline::sampler::{Schedule, Solver};
use sana_text::{Instruction, PromptEmbeds, PromptOptions};

use super::*;

/// A checkpoint and what the reference makes with it, with all numbers and texts that it was made
/// with.
pub(super) struct Reference {
    pub(super) folder: PathBuf,
    pub(super) io: Fixture,
    pub(super) instruction: Instruction,
    pub(super) max_tokens: usize,
}

impl Reference {
    /// `pipeline/NAME`, that of `SANA_FIXTURES` first.
    pub(super) fn open(name: &str) -> Self {
        Self::found(name, fixture_path)
    }

    /// `pipeline/NAME`, which is outputs alone, made with the checkpoint of `pipeline/WEIGHTS`.
    pub(super) fn of(weights: &str, name: &str) -> Self {
        let io = Fixture::open(CRATE, &format!("pipeline/{name}/io.safetensors"));
        assert_eq!(io.metadata("weights"), format!("all of pipeline/{weights}"));
        Self {
            io,
            ..Self::open(weights)
        }
    }

    /// The crate's own, for tests that know what is in it.
    pub(super) fn built_in(name: &str) -> Self {
        Self::found(name, built_in_fixture_path)
    }

    fn found(name: &str, find: fn(&str, &str) -> PathBuf) -> Self {
        let folder = find(CRATE, &format!("pipeline/{name}"));
        // How prompts are encoded is written down for `sana`; `sprint` refers to it.
        let sana = |file: &str| find(CRATE, &format!("pipeline/sana/{file}"));
        let lines = std::fs::read(sana("complex_human_instruction.json")).unwrap();
        let lines: Vec<String> = serde_json::from_slice(&lines).unwrap();
        Self {
            io: Fixture::at(&folder.join("io.safetensors")),
            folder,
            instruction: Instruction::custom(lines),
            max_tokens: Fixture::at(&sana("io.safetensors")).shape("prompt_mask")[1],
        }
    }

    pub(super) fn pipeline(&self) -> SanaPipeline {
        SanaPipeline::load(&self.folder, &device()).unwrap()
    }

    pub(super) fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.io.tensor(name, &device())
    }

    /// The request that the outputs were made with, but for its number of steps.
    fn request(&self) -> Request {
        let number = |key: &str| self.io.metadata(key).parse::<f64>().unwrap();
        Request::batch(self.io.metadata_list("prompts"))
            .size(number("width") as usize, number("height") as usize)
            .guidance(number("guidance_scale"))
            .instruction(InstructionChoice::Custom(self.instruction.clone()))
            .max_tokens(self.max_tokens)
            .latents(self.tensor("latents"))
    }

    /// The same where there is classifier-free guidance.
    pub(super) fn guided_request(&self) -> Request {
        self.request().negative(self.io.metadata("negative"))
    }

    /// The numbers of steps at the ends of names such as `latent_steps20`.
    fn steps(&self, before: &str) -> Vec<usize> {
        let names = self.io.names();
        let steps = names.iter().filter_map(|name| name.strip_prefix(before));
        let steps: Vec<usize> = steps.filter_map(|steps| steps.parse().ok()).collect();
        assert!(!steps.is_empty(), "no {before}* in {:?}", self.io.path());
        steps
    }

    /// The number behind a word of the metadata: 3 behind `shift` in `flow Euler, shift 3`.
    fn noted(&self, key: &str, word: &str) -> f64 {
        let text = self.io.metadata(key);
        let (_, rest) = text.split_once(word).expect(&text);
        let number = rest.trim_start();
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '.');
        number[..end.unwrap_or(number.len())].parse().expect(&text)
    }
}

fn keep_running(_: sana_pipeline::StepInfo<'_>) -> StepAction {
    StepAction::Continue
}

pub(super) fn sampled(pipeline: &mut SanaPipeline, request: &Request) -> Tensor<4> {
    let conditioning = pipeline.encode_prompt(request).unwrap();
    pipeline
        .sample(request, &conditioning, &mut keep_running)
        .unwrap()
}

/// `[batch, 3, height, width]` in [-1, 1] as `[batch, height, width, 3]` in [0, 1].
fn as_reference_images(decoded: Tensor<4>) -> Tensor<4> {
    (decoded * 0.5 + 0.5).clamp(0.0, 1.0).permute([0, 2, 3, 1])
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
    let reference = Reference::open("sana");
    let request = reference.guided_request();
    let conditioning = reference.pipeline().encode_prompt(&request).unwrap();
    let prompts = conditioning.prompt.embeds.dims()[0];
    let dropped = conditioning.dropped_tokens();
    assert_eq!(dropped.len(), prompts);
    for (keep, dropped) in conditioning.prompt.keep().iter().zip(dropped) {
        // Of a prompt with padding behind it nothing was cut.
        assert!(keep.last() == Some(&true) || *dropped == 0, "{dropped}");
    }
    assert_embeds("prompt", conditioning.prompt, &reference.io);
    let negative = conditioning.negative.unwrap().repeat_each(prompts);
    assert_embeds("negative", negative, &reference.io);
}

/// Requests here say how prompts are encoded; the checkpoints say the same by themselves.
#[test]
fn prompts_are_encoded_so_by_default() {
    for name in ["sana", "sprint"] {
        let reference = Reference::built_in(name);
        let expected = PromptOptions {
            instruction: Some(reference.instruction.clone()),
            max_tokens: reference.max_tokens,
        };
        assert_eq!(
            reference.pipeline().spec().prompt_options,
            expected,
            "{name}"
        );
    }
}

#[test]
fn latents_and_images_equal_the_reference() {
    let reference = Reference::open("sana");
    let mut pipeline = reference.pipeline();
    for steps in reference.steps("latent_steps") {
        let request = reference.guided_request().steps(steps);
        let latents = sampled(&mut pipeline, &request);
        let name = format!("latent_steps{steps}");
        assert_parity(&name, latents.clone(), reference.tensor(&name));

        let name = format!("image_steps{steps}");
        let images = as_reference_images(pipeline.decode_tensor(latents).unwrap());
        let expected: Tensor<4> = reference.tensor(&name);
        assert_parity(&name, images, expected.clone());

        let generation = pipeline.generate(&request, &mut keep_running).unwrap();
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
    let reference = Reference::open("sana");
    let mut pipeline = reference.pipeline();
    type Change = fn(&Reference, &str, Request) -> Request;
    let cases: [(&str, Change); 3] = [
        ("latent_euler_steps", |reference, name, request| {
            let shift = reference.noted(name, "shift");
            request.solver(Solver::FlowEuler).shift(shift)
        }),
        ("latent_no_guidance_steps", |_, _, request| {
            request.guidance(1.0)
        }),
        ("latent_no_instruction_steps", |reference, name, request| {
            let tokens = reference.noted(name, "max length") as usize;
            request
                .instruction(InstructionChoice::None)
                .max_tokens(tokens)
        }),
    ];
    for (prefix, change) in cases {
        for steps in reference.steps(prefix) {
            let name = format!("{prefix}{steps}");
            let request = change(&reference, &name, reference.guided_request().steps(steps));
            let latents = sampled(&mut pipeline, &request);
            assert_parity(&name, latents, reference.tensor(&name));
        }
    }
}

/// The block that the reference's text names is perturbed, and no other.
#[test]
fn perturbed_attention_equals_the_reference() {
    let reference = Reference::of("sana", "pag");
    let mut pipeline = reference.pipeline();
    let scale: f64 = reference.io.metadata("pag_scale").parse().unwrap();
    let block = reference.noted("pag_layer", "block") as usize;
    let blocks = pipeline.spec().transformer.num_layers;
    for steps in reference.steps("latent_steps") {
        let name = format!("latent_steps{steps}");
        let expected: Tensor<4> = reference.tensor(&name);
        let request = || {
            let request = reference.guided_request().steps(steps);
            request.perturbed_attention(scale)
        };
        let latents = sampled(&mut pipeline, &request().perturbed_blocks([block]));
        assert_parity(&name, latents, expected.clone());

        // The comparison sees every other choice.
        let largest: f32 = expected.clone().abs().max().into_scalar();
        let others = (0..blocks)
            .filter(|other| *other != block)
            .map(|other| request().perturbed_blocks([other]))
            .chain([
                request().perturbed_blocks(0..blocks),
                request().perturbed_blocks([block]).perturbed_attention(0.0),
                request()
                    .perturbed_blocks([block])
                    .perturbed_attention(scale * 1.5),
            ]);
        for other in others {
            let latents = sampled(&mut pipeline, &other);
            let difference: f32 = (latents - expected.clone()).abs().max().into_scalar();
            assert!(difference > 2.0 * tolerance() as f32 * largest, "{other:?}");
        }
    }
}

#[test]
fn sprint_equals_the_reference() {
    let reference = Reference::open("sprint");
    let mut pipeline = reference.pipeline();
    for steps in reference.steps("latent_steps") {
        let noise: Tensor<5> = reference.tensor(&format!("noise_steps{steps}"));
        let noise = (0..steps)
            .map(|step| noise.clone().narrow(0, step, 1).squeeze_dim::<4>(0))
            .collect();
        let request = reference.request().steps(steps).step_noise(noise);
        let name = format!("latent_steps{steps}");
        let latents = sampled(&mut pipeline, &request);
        assert_parity(&name, latents, reference.tensor(&name));
    }
}

/// Compares what a changed copy of the crate's own checkpoint makes.
fn assert_same_latents(reference: &Reference, changed: &TempDir) {
    let mut pipeline = SanaPipeline::load(changed.path(), &device()).unwrap();
    let latents = sampled(&mut pipeline, &reference.guided_request().steps(4));
    assert_parity("changed", latents, reference.tensor("latent_steps4"));
}

/// A changed weight is seen, so the comparisons above compare something. By one in a hundred on
/// the CPU, by as much more elsewhere as the bound is wider.
#[test]
#[should_panic(expected = "differs by")]
fn a_perturbed_weight_is_seen() {
    let reference = Reference::built_in("sana");
    let folder = copy_of(&reference.folder);
    let factor = 1.0 + 100.0 * tolerance() as f32;
    let weights = folder.path().join(TRANSFORMER);
    edit_tensor_file(&weights, "proj_out.weight", |_, weight| weight * factor);
    assert_same_latents(&reference, &folder);
}

/// So is a changed option: this shift moves latents by 15 % of the largest.
#[test]
#[should_panic(expected = "differs by")]
fn another_shift_is_seen() {
    let reference = Reference::built_in("sana");
    let folder = copy_of(&reference.folder);
    edit(
        &folder,
        "scheduler/scheduler_config.json",
        "\"flow_shift\": 3.0",
        "\"flow_shift\": 3.1",
    );
    assert_same_latents(&reference, &folder);
}

/// Padding is cut before the transformer runs; its mask makes that exact.
#[test]
fn cut_padding_changes_nothing() {
    let reference = Reference::built_in("sana");
    let mut pipeline = reference.pipeline();
    let request = reference.guided_request();
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let whole = conditioning.prompt;
    let cut = whole.clone().trim();
    assert!(cut.embeds.dims()[1] < whole.embeds.dims()[1]);
    let transformer = pipeline.transformer().unwrap();
    let latents: Tensor<4> = reference.tensor("latents");
    let time = Tensor::full([latents.dims()[0]], 700.0, &device());
    let velocity = |embeds: PromptEmbeds| {
        let text = transformer.text_context(embeds.embeds, Some(embeds.mask));
        let input = TransformerInput::new(latents.clone(), time.clone(), &text);
        transformer.forward(input).velocity
    };
    assert_parity("trimmed", velocity(cut), velocity(whole));
}

/// The grid given as a schedule is the grid of the scheduler.
#[test]
fn a_schedule_of_ones_own() {
    let reference = Reference::built_in("sana");
    let mut pipeline = reference.pipeline();
    let schedule = pipeline
        .spec()
        .scheduler
        .schedule(Solver::FlowEuler, 8, None)
        .unwrap();
    assert!(matches!(schedule, Schedule::Flow(_)));
    let request = reference.guided_request().solver(Solver::FlowEuler);
    let latents = sampled(&mut pipeline, &request.schedule(schedule));
    let expected = reference.tensor("latent_euler_steps8");
    assert_parity("latent_euler_steps8", latents, expected);
}
