//! Networks in 8 and 4 bits: quantized while they are loaded, and stored in the form of SDNQ, whose own
//! outputs are in `fixtures/quantized/sdnq.safetensors` (`benches/reference/sdnq_check.py`).

use std::fs;
use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::parity::{Fixture, assert_close, copy_folder, edit_tensor_file, values};
use sana_linear_attn::transformer::TransformerInput;
use sana_linear_attn::weights::LayerNoise;
use sana_linear_attn::{SanaTransformer, Weights};
use sana_pipeline::PipelineError;
use sana_pipeline::checkpoint::create::{QuantizedOptions, write_quantized};
use sana_pipeline::checkpoint::{Component, LoraFile, QuantizeComponents};
use sana_pipeline::error::CheckpointError;
use sana_pipeline::transformer::{F16Clamp, Quantization};
use sana_text::Gemma2Model;
use serde_json::{Value, json};

use super::*;

mod edges;
mod folders;

/// Values without a pattern, as the script has them.
fn numbers<const D: usize>(shape: [usize; D], seed: f32) -> Tensor<D> {
    let number = |index: usize| (index as f32 * 0.7 + seed * 1.3).sin() * 0.9;
    let values: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_data(TensorData::new(values, shape), &device())
}

fn transformer_output(model: &SanaTransformer) -> Vec<f32> {
    let mask = Tensor::ones([1, 6], &device());
    let text = model.text_context(numbers([1, 6, 128], 2.0), Some(mask));
    let time = Tensor::from_data([500.0f32], &device());
    let input = TransformerInput::new(numbers([1, 32, 4, 4], 1.0), time, &text);
    values(model.forward(input).velocity)
}

fn text_output(model: &Gemma2Model) -> Vec<f32> {
    let mask = Tensor::ones([1, 6], &device());
    let ids = [[2, 17, 40, 123, 250, 399]];
    values(model.forward_ids(&ids, mask).unwrap())
}

/// The values of a tensor of any shape, in f32.
fn flat(weights: &Weights, name: &str) -> Vec<f32> {
    fn read<const D: usize>(weights: &Weights, name: &str) -> Vec<f32> {
        values(weights.tensor::<D>(name, DType::F32, &device()).unwrap())
    }
    match weights.shape(name).unwrap().len() {
        1 => read::<1>(weights, name),
        2 => read::<2>(weights, name),
        _ => read::<4>(weights, name),
    }
}

/// Signal to noise in decibels.
fn decibels(of: &[f32], reference: &[f32]) -> f64 {
    let power = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let noise = power(&mut of.iter().zip(reference).map(|(a, b)| a - b));
    10.0 * (power(&mut reference.iter().copied()) / noise).log10()
}

const CASES: [(&str, Quantization, Option<usize>); 3] = [
    ("int8", Quantization::Int8, None),
    ("uint4", Quantization::Uint4, None),
    ("uint4-svd", Quantization::Uint4, Some(4)),
];

fn write(
    from: &Checkpoint,
    components: QuantizeComponents,
    rank: Option<usize>,
    folder: &Path,
) -> Vec<(Component, Vec<LayerNoise>)> {
    let options = QuantizedOptions { components, rank };
    write_quantized(from, None, &options, folder, &device(), &mut |_, _, _| ()).unwrap()
}

fn quantizing(components: QuantizeComponents) -> LoadOptions {
    LoadOptions {
        quantize: components,
        ..LoadOptions::default()
    }
}

/// What is written here is the same network to diffusers and SDNQ, as floats and with the kernels; and
/// quantizing while loading gives the same network as the files.
#[test]
fn folders_are_the_same_network_to_sdnq() {
    let stored = Fixture::open(CRATE, "quantized/sdnq.safetensors");
    let built_in = Checkpoint::built_in();
    let mut noise = Vec::new();
    for (case, form, rank) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let components = QuantizeComponents::both(form);
        let layers = write(&built_in, components, rank, folder.path());
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let reference = |name: &str| -> Vec<f32> {
            let values = stored.values(&format!("{case}.{name}"));
            values.into_iter().map(|value| value as f32).collect()
        };

        // As floats.
        let weights = checkpoint.weights(Component::Transformer, None).unwrap();
        let config = checkpoint.transformer_config().unwrap();
        let dense = config.load(&weights, Some(DType::F32), F16Clamp::Off, &device());
        let dense = transformer_output(&dense.unwrap());
        assert_close(case, &dense, &reference("transformer"), 1e-4);

        let mut ours = SanaPipeline::load(folder.path(), &device()).unwrap();
        let transformer = transformer_output(ours.transformer().unwrap());
        let text = text_output(ours.text_encoder().unwrap());
        // The rows are of 8 bits too on the CPU.
        let limit = if form == Quantization::Int8 {
            25.0
        } else {
            15.0
        };
        for (name, output) in [("transformer", &transformer), ("text_encoder", &text)] {
            let found = decibels(output, &reference(name));
            assert!(found > limit, "{case} {name}: {found} dB");
        }
        if rank.is_none() {
            let options = quantizing(components);
            let mut loaded = SanaPipeline::from_checkpoint(built_in.clone(), options, &device());
            let loaded = loaded.as_mut().unwrap();
            let output = transformer_output(loaded.transformer().unwrap());
            assert_eq!(output, transformer, "{case}");
            let output = text_output(loaded.text_encoder().unwrap());
            assert_eq!(output, text, "{case}");
        }
        for (component, layers) in layers {
            let count = match component {
                Component::Transformer => 8 * config.num_layers,
                _ => 14,
            };
            assert_eq!(layers.len(), count, "{component}");
            let sum: f64 = layers.iter().map(|layer| layer.decibels).sum();
            noise.push(sum / layers.len() as f64);
        }
    }
    // By components, in order: 8 bits near 40 dB, 4 near 20, and nearer with a low-rank part.
    let [text8, int8, text4, uint4, text_svd, svd] = noise[..] else {
        panic!("{noise:?}")
    };
    assert!(int8 > 38.0 && text8 > 38.0, "{noise:?}");
    assert!((15.0..27.0).contains(&uint4), "{noise:?}");
    assert!(svd > uint4 + 0.2 && text_svd > text4, "{noise:?}");
}

#[test]
fn the_memory_is_that_of_the_forms() {
    let built_in = Checkpoint::built_in();
    let needs = |checkpoint: &Checkpoint, options: LoadOptions| {
        let pipeline = SanaPipeline::from_checkpoint(checkpoint.clone(), options, &device());
        let request = Request::new("a red circle");
        let estimate = pipeline.unwrap().memory_estimate(&request).unwrap();
        [0, 1].map(|stage| estimate.stages[stage].weights)
    };
    let dense = needs(&built_in, LoadOptions::default());
    let int8 = QuantizeComponents::both(Quantization::Int8);
    let uint4 = QuantizeComponents::both(Quantization::Uint4);
    let at_load = [int8, uint4].map(|components| needs(&built_in, quantizing(components)));
    for stage in [0, 1] {
        let [int8, uint4] = at_load.map(|needs| needs[stage]);
        assert!(uint4 < int8 && int8 < dense[stage], "{stage}");
    }
    for (components, expected) in [int8, uint4].into_iter().zip(at_load) {
        let folder = tempfile::tempdir().unwrap();
        write(&built_in, components, None, folder.path());
        let stored = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(needs(&stored, LoadOptions::default()), expected);
        // Once is enough.
        assert_eq!(needs(&stored, quantizing(int8)), expected);
        let described = stored.describe(None).unwrap().to_string();
        let form = components.transformer.unwrap().name();
        let dtypes = format!("bf16, {form}");
        assert!(described.contains(&dtypes), "{described}");
    }
}

/// A channel between two layers is 50 times as large as the others, and the weights after it are 50
/// times smaller: the network is the same one, and stays so in 8 bits where the second layer does.
#[test]
fn outliers_survive() {
    let assets = Path::new(CRATE).join("assets/scenes");
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&assets, folder.path());
    let file = folder.path().join(TRANSFORMER);
    let weights = Weights::open_file(&file).unwrap();
    let hidden = 320;
    let outlier = |channel: usize| channel % 97 == 5;
    let widened: Vec<(String, TensorData)> = weights
        .names()
        .map(|name| {
            let shape = weights.shape(name).unwrap().to_vec();
            (
                name.to_owned(),
                TensorData::new(flat(&weights, name), shape),
            )
        })
        .collect();
    drop(weights);
    sana_linear_attn::weights::write_tensors(&file, widened).unwrap();
    for block in 0..7 {
        let name = |part: &str| format!("transformer_blocks.{block}.ff.{part}");
        let times = |size: usize| {
            move |index: usize, value: f32| match outlier(index / size) && index / size < hidden {
                true => 50.0 * value,
                false => value,
            }
        };
        edit_tensor_file(&file, &name("conv_depth.weight"), times(9));
        edit_tensor_file(&file, &name("conv_depth.bias"), times(1));
        edit_tensor_file(
            &file,
            &name("conv_point.weight"),
            |index, value| match outlier(index % hidden) {
                true => value / 50.0,
                false => value,
            },
        );
    }
    let output = |folder: &Path, components| {
        let options = quantizing(components);
        transformer_output(load_with(folder, options).transformer().unwrap())
    };
    let dense = output(&assets, QuantizeComponents::default());
    let same = output(folder.path(), QuantizeComponents::default());
    assert!(decibels(&same, &dense) > 80.0);
    for (form, limit) in [(Quantization::Int8, 25.0), (Quantization::Uint4, 8.0)] {
        let components = QuantizeComponents {
            dense_down: true,
            ..QuantizeComponents::usual(form)
        };
        let found = decibels(&output(folder.path(), components), &dense);
        assert!(found > limit, "{form}: {found} dB");
        let usual = QuantizeComponents::usual(form);
        let without = decibels(&output(folder.path(), usual), &dense);
        println!("{form}: {found:.1} dB, {without:.1} dB with the second layer quantized");
        assert!(without < found - 3.0, "{form}: {without} and {found} dB");
    }
}

/// A LoRA that would be merged is kept next to quantized weights.
#[test]
fn loras_stay_next_to_quantized_weights() {
    let lora = LoraFile::new(
        built_in_fixture_path(CRATE, "pipeline/lora").join("pytorch_lora_weights.safetensors"),
    );
    let output = |quantize, loras: Vec<LoraFile>| {
        let options = LoadOptions {
            quantize,
            loras,
            ..LoadOptions::default()
        };
        let mut pipeline = load_with(&sana_folder(), options);
        let transformer = pipeline.transformer().unwrap();
        let mask = Tensor::ones([1, 6], &device());
        let text = transformer.text_context(numbers([1, 6, 48], 2.0), Some(mask));
        let time = Tensor::from_data([500.0f32], &device());
        let input = TransformerInput::new(numbers([1, 32, 4, 4], 1.0), time, &text);
        values(transformer.forward(input).velocity)
    };
    let int8 = QuantizeComponents::usual(Quantization::Int8);
    let none = QuantizeComponents::default();
    let dense = output(none, vec![lora.clone()]);
    let quantized = output(int8, vec![lora.clone()]);
    let found = decibels(&quantized, &dense);
    let without = decibels(&output(none, Vec::new()), &dense);
    assert!(
        found > 25.0 && found > without + 3.0,
        "{found} dB, {without} without"
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let components = QuantizeComponents::both(Quantization::Int8);
    write(&Checkpoint::built_in(), components, None, folder.path());
    let config = folder.path().join("transformer/config.json");
    let text = fs::read_to_string(&config).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&text).unwrap();
        change(&mut value["quantization_config"]);
        fs::write(&config, value.to_string()).unwrap();
        SanaPipeline::load(folder.path(), &device())
            .unwrap_err()
            .to_string()
    };
    for (key, value, said) in [
        ("use_hadamard", json!(true), "use_hadamard is true"),
        ("quant_method", json!("gptq"), "quant_method \"gptq\""),
        ("rotate", json!(1), "unknown setting rotate"),
    ] {
        let error = refused(&|config| config[key] = value.clone());
        assert!(error.contains(said), "{error}");
        assert!(
            error.contains("has quantized weights that cannot be read"),
            "{error}"
        );
    }
    fs::write(&config, &text).unwrap();
    let again = QuantizedOptions {
        components,
        rank: None,
    };
    let quantized = Checkpoint::open(folder.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut none = |_, _, _| ();
    let twice = write_quantized(&quantized, None, &again, other.path(), &device(), &mut none);
    assert!(twice.unwrap_err().to_string().contains("twice"));
    let nothing = QuantizedOptions {
        components: QuantizeComponents::default(),
        rank: None,
    };
    let nothing = write_quantized(
        &Checkpoint::built_in(),
        None,
        &nothing,
        other.path(),
        &device(),
        &mut none,
    );
    assert!(matches!(
        nothing,
        Err(PipelineError::Checkpoint(
            CheckpointError::NothingToQuantize
        ))
    ));
}
