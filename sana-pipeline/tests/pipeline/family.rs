//! Relatives of the released models: teachers and students of Sana-Sprint, the authors' 2K files,
//! and spellings that the reference takes for others.

use burn::tensor::{Tensor, TensorData};
use sana_linear_attn::Weights;
use sana_linear_attn::parity::{original_tensors, values};
use sana_linear_attn::transformer::TransformerInput;
use sana_linear_attn::weights::write_tensors;
use sana_pipeline::sampler::{Schedule, Solver};

use super::original::tensors_of;
use super::parity::sampled;
use super::*;

const CONFIG: &str = "transformer/config.json";

fn latents(folder: &Path) -> Vec<f32> {
    latents_of(folder, &small())
}

fn latents_of(folder: &Path, request: &Request) -> Vec<f32> {
    let mut pipeline = SanaPipeline::load(folder, &device()).unwrap();
    values(sampled(&mut pipeline, request))
}

/// A teacher takes the flow's timestep times 0.001: a step of Euler is the noise less sigma times
/// the velocity there.
#[test]
fn a_sprint_teacher_takes_scaled_timesteps() {
    let folder = copy_of(&sana_folder());
    let scale = "\"timestep_scale\": 0.001";
    edit(&folder, CONFIG, "\"timestep_scale\": 1.0", scale);
    let request = small().steps(1).guidance(1.0).solver(Solver::FlowEuler);
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let conditioning = pipeline.encode_prompt(&request).unwrap();
    let noise: Tensor<4> = sana_sampler::noise::batch(
        0,
        0,
        sana_sampler::noise::Stream::Initial,
        [1, 32, 1, 2],
        &device(),
    );
    let scheduler = &pipeline.spec().scheduler;
    let Schedule::Flow(schedule) = scheduler.schedule(Solver::FlowEuler, 1, None).unwrap() else {
        panic!("a flow model");
    };
    let [sigma, timestep] = [schedule.sigmas()[0], schedule.timesteps()[0]];
    let transformer = pipeline.transformer().unwrap();
    let (embeds, mask) = (conditioning.prompt.embeds, conditioning.prompt.mask);
    let text = transformer.text_context(embeds, Some(mask));
    let step = |timestep: f64| {
        let timestep = Tensor::full([1], timestep, &device());
        let input = TransformerInput::new(noise.clone(), timestep, &text);
        noise.clone() - transformer.forward(input).velocity * sigma
    };
    let expected = step(0.001 * timestep);
    let plain = step(timestep);
    let difference: f32 = (expected.clone() - plain).abs().max().into_scalar();
    assert!(difference > 0.01, "{difference:e}");
    let request = request.seed(0);
    assert_parity("teacher", sampled(&mut pipeline, &request), expected);
}

/// What the reference's training of Sana-Sprint saves: its own class, the head of its loss
/// weighting, and the teacher's `timestep_scale`, of which sampling takes no notice.
#[test]
fn a_trained_sprint_is_a_sprint() {
    let expected = latents(&sprint_folder());
    let folder = copy_of(&sprint_folder());
    let class = "SanaTransformer2DModel";
    edit(&folder, CONFIG, class, "SanaTrigFlow");
    edit(&folder, "model_index.json", class, "SanaTrigFlow");
    let scale = "\"timestep_scale\": 0.001";
    edit(&folder, CONFIG, "\"timestep_scale\": 1.0", scale);
    let path = folder.path().join(TRANSFORMER);
    let weights = Weights::open_file(&path).unwrap();
    let mut tensors = tensors_of(&weights, "");
    let head = [("weight", vec![1, 40]), ("bias", vec![1])];
    for (kind, shape) in head {
        let data = TensorData::new(vec![0.5f32; shape.iter().product()], shape);
        tensors.push((format!("logvar_linear.{kind}"), data));
    }
    drop(weights);
    write_tensors(&path, tensors).unwrap();
    assert_eq!(latents(folder.path()), expected);

    // As a transformer for the checkpoint that it was trained from, folder or file.
    for transformer in [folder.path().join("transformer"), path] {
        let options = LoadOptions {
            transformer: Some(transformer),
            ..LoadOptions::default()
        };
        let mut pipeline = load_with(&sprint_folder(), options);
        assert_eq!(values(sampled(&mut pipeline, &small())), expected);
    }
}

/// The authors' 2K file in a checkpoint of 1024 px: its position table says which model it is.
#[test]
fn an_original_2k_file_brings_its_positions() {
    let weights = Weights::open_file(&sana_folder().join(TRANSFORMER)).unwrap();
    let mut tensors = original_tensors(&weights, "");
    tensors.retain(|(name, _)| name != "pos_embed");
    let table = TensorData::new(vec![0f32; 64 * 64 * 40], [1, 64 * 64, 40]);
    tensors.push(("pos_embed".to_owned(), table));
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("original_2k.safetensors");
    write_tensors(&path, tensors).unwrap();
    let options = LoadOptions {
        transformer: Some(path),
        ..LoadOptions::default()
    };
    let found = values(sampled(&mut load_with(&sana_folder(), options), &small()));

    let folder = copy_of(&sana_folder());
    let scale = "\"interpolation_scale\": 1.0";
    edit(&folder, CONFIG, "\"interpolation_scale\": null", scale);
    edit(
        &folder,
        CONFIG,
        "\"sample_size\": 32",
        "\"sample_size\": 64",
    );
    assert_eq!(found, latents(folder.path()));
    assert_ne!(found, latents(&sana_folder()));
}

/// The reference takes these values for the ones it implements.
#[test]
fn mapped_values_change_nothing() {
    const SCHEDULER: &str = "scheduler/scheduler_config.json";
    let expected = latents(&sana_folder());
    for (file, from, to) in [
        (SCHEDULER, "\"dpmsolver++\"", "\"deis\""),
        (SCHEDULER, "\"midpoint\"", "\"logrho\""),
        (SCHEDULER, "\"midpoint\"", "\"bh1\""),
        (SCHEDULER, "\"midpoint\"", "\"bh2\""),
        (
            CONFIG,
            "\"num_cross_attention_heads\": 4",
            "\"num_cross_attention_heads\": null",
        ),
    ] {
        let folder = copy_of(&sana_folder());
        edit(&folder, file, from, to);
        assert_eq!(latents(folder.path()), expected, "{to}");
    }
    let euler = |terminal: &str| {
        let folder = copy_of(&sana_folder());
        let class = "FlowMatchEulerDiscreteScheduler";
        edit(
            &folder,
            "model_index.json",
            "DPMSolverMultistepScheduler",
            class,
        );
        let text = format!(r#"{{"_class_name": "{class}", "shift": 3.0{terminal}}}"#);
        std::fs::write(folder.path().join(SCHEDULER), text).unwrap();
        latents(folder.path())
    };
    assert_eq!(euler(r#", "shift_terminal": 0"#), euler(""));
}
