//! LoRAs: equal to weights that were changed by hand, and every way in which a file can be wrong.

mod files;
mod kinds;
mod layers;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use sana_linear_attn::layers::{LowRank, PointwiseConv};
use sana_linear_attn::parity::{
    Fixture, assert_close, built_in_fixture_path, device, tolerance, values,
};
use sana_linear_attn::transformer::{
    F16Clamp, Lora, LoraError, LoraKind, LoraMismatch, LoraMode, ScaledLora, TransformerInput,
};
use sana_linear_attn::weights::{parameter_shapes, write_tensors};
use sana_linear_attn::{
    KeyMap, SanaTransformer, SanaTransformerConfig, SaveOptions, TorchLinear, WeightError, Weights,
    save_module,
};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// A layer of each kind, sizes `[out, in]` of the fixture `transformer/sana`.
const TARGETS: [(&str, [usize; 2]); 5] = [
    ("time_embed.emb.timestep_embedder.linear_2", [40, 40]),
    ("caption_projection.linear_1", [40, 24]),
    ("transformer_blocks.1.attn1.to_out.0", [40, 40]),
    ("transformer_blocks.2.ff.conv_point", [40, 100]),
    ("proj_out", [12, 40]),
];
const RANK: usize = 3;

fn folder() -> PathBuf {
    built_in_fixture_path(CRATE, "transformer/sana")
}

fn config() -> SanaTransformerConfig {
    SanaTransformerConfig::from_file(&folder().join("config.json")).unwrap()
}

fn weights() -> Weights {
    Weights::open_folder(&folder(), "diffusion_pytorch_model", None).unwrap()
}

fn load(weights: &Weights, dtype: Option<DType>) -> SanaTransformer {
    config()
        .load(weights, dtype, F16Clamp::Off, &device())
        .unwrap()
}

fn model() -> SanaTransformer {
    load(&weights(), None)
}

/// What the transformer makes of the fixture's input.
fn output(model: &SanaTransformer) -> Vec<f32> {
    let io = Fixture::at(&folder().join("io.safetensors"));
    let device = device();
    let mask = Some(io.tensor("caption_mask", &device));
    let text = model.text_context(io.tensor("caption", &device), mask);
    let (input, time) = (io.tensor("input", &device), io.tensor("timestep", &device));
    values(
        model
            .forward(TransformerInput::new(input, time, &text))
            .velocity,
    )
}

/// Values without a pattern, of magnitude up to 0.3.
fn numbers(count: usize, seed: f32) -> Vec<f32> {
    let number = |index: usize| (index as f32 * 0.7 + seed * 1.3).sin() * 0.3;
    (0..count).map(number).collect()
}

fn tensor(shape: &[usize], seed: f32) -> TensorData {
    TensorData::new(numbers(shape.iter().product(), seed), shape.to_vec())
}

type Tensors = Vec<(String, TensorData)>;

/// Both factors of all [`TARGETS`].
fn factors(seed: f32) -> Tensors {
    let mut tensors = Vec::new();
    for (index, (layer, [d_output, d_input])) in TARGETS.into_iter().enumerate() {
        let seed = seed + 10.0 * index as f32;
        let mut down = vec![RANK, d_input];
        let mut up = vec![d_output, RANK];
        if layer.contains(".ff.") {
            down.extend([1, 1]);
            up.extend([1, 1]);
        }
        tensors.push((format!("{layer}.lora_A.weight"), tensor(&down, seed)));
        tensors.push((format!("{layer}.lora_B.weight"), tensor(&up, seed + 5.0)));
    }
    tensors
}

fn bytes(tensors: &[(String, TensorData)], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, data)| {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            DType::BF16 => Dtype::BF16,
            DType::I64 => Dtype::I64,
            other => panic!("{other:?}"),
        };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
        (name.as_str(), view.unwrap())
    });
    let metadata: HashMap<String, String> = metadata
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
        .collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

fn lora_with(tensors: &[(String, TensorData)], metadata: &[(&str, &str)]) -> Lora {
    let weights = Weights::from_bytes("test.safetensors", bytes(tensors, metadata)).unwrap();
    Lora::from_weights(weights).unwrap()
}

fn lora(tensors: &[(String, TensorData)]) -> Lora {
    lora_with(tensors, &[])
}

fn scaled(lora: Lora, scale: f64, mode: LoraMode) -> ScaledLora {
    ScaledLora::new(lora, scale, mode).unwrap()
}

fn with(loras: &[ScaledLora]) -> SanaTransformer {
    model().with_loras(loras).unwrap()
}

/// `scale B A` of every target, in f64.
fn deltas(tensors: &[(String, TensorData)], scale: f64) -> BTreeMap<String, Vec<f64>> {
    let find = |name: String| {
        let (_, data) = tensors.iter().find(|(found, _)| *found == name).unwrap();
        data.as_slice::<f32>().unwrap().to_vec()
    };
    let mut deltas = BTreeMap::new();
    for (layer, [d_output, d_input]) in TARGETS {
        let down = find(format!("{layer}.lora_A.weight"));
        let up = find(format!("{layer}.lora_B.weight"));
        let mut delta = Vec::new();
        for row in 0..d_output {
            for column in 0..d_input {
                let product = |inner: usize| {
                    f64::from(up[row * RANK + inner]) * f64::from(down[inner * d_input + column])
                };
                delta.push(scale * (0..RANK).map(product).sum::<f64>());
            }
        }
        deltas.insert(format!("{layer}.weight"), delta);
    }
    deltas
}

/// The tensors of a checkpoint in f32.
fn tensors_of(weights: &Weights) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let read = |name: &str| {
        let shape = weights.shape(name).unwrap().to_vec();
        let data = weights.bytes(name).unwrap().to_vec();
        let data = TensorData::from_bytes_vec(data, shape.clone(), weights.dtype(name).unwrap());
        let data = data.convert_dtype(DType::F32);
        (shape, data.as_slice::<f32>().unwrap().to_vec())
    };
    weights
        .names()
        .map(|name| (name.to_owned(), read(name)))
        .collect()
}

/// The checkpoint with changes added to its weights.
fn changed_by(changes: &[BTreeMap<String, Vec<f64>>]) -> SanaTransformer {
    let mut tensors = tensors_of(&weights());
    for (name, delta) in changes.iter().flatten() {
        let (_, values) = tensors.get_mut(name).unwrap();
        assert_eq!(values.len(), delta.len(), "{name}");
        for (value, delta) in values.iter_mut().zip(delta) {
            *value = (f64::from(*value) + delta) as f32;
        }
    }
    let tensors = tensors
        .into_iter()
        .map(|(name, (shape, values))| (name, TensorData::new(values, shape)))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    write_tensors(&path, tensors).unwrap();
    load(&Weights::open_file(&path).unwrap(), None)
}

fn assert_same(name: &str, ours: &SanaTransformer, expected: &SanaTransformer) {
    assert_close(name, &output(ours), &output(expected), tolerance());
}

const MODES: [LoraMode; 2] = [LoraMode::Merged, LoraMode::Unmerged];

fn mismatch(lora: &Lora) -> LoraMismatch {
    let error = lora.check(&config(), &device()).unwrap_err();
    let text = error.to_string();
    let LoraError::Mismatch(found) = error else {
        panic!("{text}")
    };
    let plain = lora.kinds().iter().all(|kind| *kind == LoraKind::Lora);
    let mode = MODES[usize::from(plain)];
    let applied = scaled(lora.clone(), 1.0, mode);
    assert_eq!(
        model().with_loras(&[applied]).unwrap_err().to_string(),
        text
    );
    assert!(text.contains("test.safetensors"), "{text}");
    let text = found.all_names().unwrap_or(text);
    let layers = found.absent.iter().chain(&found.missing);
    for name in layers.chain(&found.unexpected) {
        assert!(text.contains(name.as_str()), "{name} in {text}");
    }
    for (name, expected, shape) in &found.misshapen {
        let item = format!("{name} expected {expected:?} found {shape:?}");
        assert!(text.contains(&item), "{item} in {text}");
    }
    *found
}

fn named(layer: &str, word: &str, data: &TensorData) -> (String, TensorData) {
    (format!("{layer}.{word}"), data.clone())
}

fn alpha(layer: &str, value: f32) -> (String, TensorData) {
    named(layer, "alpha", &TensorData::new(vec![value], [0usize; 0]))
}

#[test]
fn both_forms_equal_changed_weights() {
    let tensors = factors(1.0);
    let expected = changed_by(&[deltas(&tensors, 0.7)]);
    for mode in MODES {
        let ours = with(&[scaled(lora(&tensors), 0.7, mode)]);
        assert_same(&format!("{mode:?}"), &ours, &expected);
    }
}

#[test]
#[should_panic(expected = "differs by")]
fn another_scale_is_seen() {
    let tensors = factors(1.0);
    let expected = changed_by(&[deltas(&tensors, 0.7)]);
    let ours = with(&[scaled(lora(&tensors), 0.8, LoraMode::Unmerged)]);
    assert_same("scale", &ours, &expected);
}

#[test]
fn two_at_once_are_the_sum() {
    let (one, two) = (factors(1.0), factors(2.0));
    let expected = changed_by(&[deltas(&one, 0.7), deltas(&two, -0.4)]);
    for first in MODES {
        for second in MODES {
            let ours = with(&[
                scaled(lora(&one), 0.7, first),
                scaled(lora(&two), -0.4, second),
            ]);
            assert_same(&format!("{first:?} and {second:?}"), &ours, &expected);
        }
    }
}

#[test]
fn scale_0_changes_nothing() {
    let expected = output(&model());
    let mut tensors = factors(1.0);
    tensors[0].1 = TensorData::new(vec![f32::NAN; RANK * 40], [RANK, 40]);
    for mode in MODES {
        let ours = with(&[scaled(lora(&tensors), 0.0, mode)]);
        assert_eq!(output(&ours), expected, "{mode:?}");
    }
}

#[test]
fn low_rank_terms_come_off() {
    let expected = output(&model());
    let ours = with(&[scaled(lora(&factors(1.0)), 1.0, LoraMode::Unmerged)]);
    assert_ne!(output(&ours), expected);
    assert_eq!(output(&ours.without_low_rank()), expected);
}

/// Alpha of a layer, of the file, of its metadata in both ways, and of PEFT's own file.
#[test]
fn alpha_over_rank_scales() {
    let plain = factors(1.0);
    let expected = changed_by(&[deltas(&plain, 0.5 * 6.0 / RANK as f64)]);
    let same = |name: &str, lora: Lora| {
        let ours = with(&[scaled(lora, 0.5, LoraMode::Merged)]);
        assert_same(name, &ours, &expected);
    };
    let mut with_tensors = plain.clone();
    for (index, (layer, _)) in TARGETS.into_iter().enumerate() {
        let alpha = TensorData::new(vec![6f32], vec![1usize; index % 2]);
        let alpha = match index {
            0 => alpha.convert_dtype(DType::BF16),
            _ => alpha,
        };
        with_tensors.push((format!("{layer}.alpha"), alpha));
    }
    same("tensors", lora(&with_tensors));
    let other = [("lora_alpha", "1")];
    same("tensors first", lora_with(&with_tensors, &other));
    same("metadata", lora_with(&plain, &[("lora_alpha", "6")]));
    let settings = r#"{"transformer.r": 3, "transformer.lora_alpha": 6}"#;
    let settings = [("lora_adapter_metadata", settings)];
    same("diffusers", lora_with(&plain, &settings));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter_model.safetensors");
    let renamed: Tensors = plain
        .into_iter()
        .map(|(name, data)| (format!("base_model.model.{name}"), data))
        .collect();
    std::fs::write(&path, bytes(&renamed, &[])).unwrap();
    let settings = folder.path().join("adapter_config.json");
    std::fs::write(
        &settings,
        r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 6}"#,
    )
    .unwrap();
    same("peft", Lora::open(&path).unwrap());

    std::fs::write(&settings, "{").unwrap();
    let error = Lora::open(&path).unwrap_err();
    assert!(matches!(error, LoraError::Settings { .. }), "{error}");
    assert!(error.to_string().contains("adapter_model"), "{error}");
}
