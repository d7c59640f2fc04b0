//! LoRAs: equal to weights that were changed by hand, and every way in which a file can be wrong.

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
    F16Clamp, Lora, LoraError, LoraMismatch, LoraMode, ScaledLora, TransformerInput,
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

#[test]
fn prefixes_and_adapter_names() {
    let plain = factors(1.0);
    let expected = with(&[scaled(lora(&plain), 1.0, LoraMode::Merged)]);
    let renamed: Tensors = plain
        .into_iter()
        .map(|(name, data)| {
            let name = name.replace("lora_A.", "lora_A.default.");
            (format!("transformer.{name}"), data)
        })
        .collect();
    let renamed = lora(&renamed);
    let mut targets = TARGETS.map(|(layer, _)| layer);
    targets.sort_unstable();
    assert_eq!(renamed.targets().collect::<Vec<_>>(), targets);
    let ours = with(&[scaled(renamed, 1.0, LoraMode::Merged)]);
    assert_eq!(output(&ours), output(&expected));
}

fn mismatch(lora: &Lora) -> LoraMismatch {
    let error = lora.check(&config(), &device()).unwrap_err();
    let text = error.to_string();
    let LoraError::Mismatch(found) = error else {
        panic!("{text}")
    };
    let applied = scaled(lora.clone(), 1.0, LoraMode::Unmerged);
    assert_eq!(
        model().with_loras(&[applied]).unwrap_err().to_string(),
        text
    );
    assert!(text.contains("test.safetensors"), "{text}");
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

#[test]
fn everything_that_does_not_fit_is_one_error() {
    let mut tensors = factors(1.0);
    let mut add = |name: &str, shape: &[usize]| tensors.push((name.to_owned(), tensor(shape, 0.0)));
    add("transformer_blocks.3.attn1.to_q.lora_A.weight", &[2, 40]);
    add("transformer_blocks.3.attn1.to_q.lora_B.weight", &[40, 2]);
    add("patch_embed.proj.lora_A.weight", &[2, 12, 1, 1]);
    add("patch_embed.proj.lora_B.weight", &[40, 2, 1, 1]);
    add("transformer_blocks.0.attn1.to_q.lora_A.weight", &[2, 40]);
    add(
        "transformer.transformer_blocks.0.attn1.to_k.lora_B.weight",
        &[40, 2],
    );
    add("transformer_blocks.0.attn1.to_v.alpha", &[1]);
    add("transformer_blocks.0.attn2.to_q.lora_A.weight", &[2, 41]);
    add("transformer_blocks.0.attn2.to_q.lora_B.weight", &[40, 3]);
    add("transformer_blocks.0.attn2.to_k.lora_A.weight", &[0, 40]);
    add("transformer_blocks.0.attn2.to_k.lora_B.weight", &[40, 0]);
    add("transformer_blocks.0.attn2.to_v.lora_A.weight", &[40]);
    add("transformer_blocks.0.attn2.to_v.lora_B.weight", &[40, 1]);
    add("proj_out.alpha", &[2]);
    add("proj_out.lora_B.bias", &[12]);
    add("proj_out.lora_magnitude_vector", &[12]);
    add("base_model.model.proj_out.lora_A.weight", &[3, 40]);
    let found = mismatch(&lora(&tensors));
    assert_eq!(
        found.absent,
        ["patch_embed.proj", "transformer_blocks.3.attn1.to_q"]
    );
    assert_eq!(
        found.missing,
        [
            "transformer.transformer_blocks.0.attn1.to_k.lora_A.weight",
            "transformer_blocks.0.attn1.to_q.lora_B.weight",
            "transformer_blocks.0.attn1.to_v.lora_A.weight",
            "transformer_blocks.0.attn1.to_v.lora_B.weight",
        ]
    );
    // Of the two names of one factor the first in order of the alphabet is read.
    assert_eq!(
        found.unexpected,
        [
            "proj_out.lora_A.weight",
            "proj_out.lora_B.bias",
            "proj_out.lora_magnitude_vector",
        ]
    );
    let name = |name: &str| format!("transformer_blocks.0.attn2.{name}.weight");
    assert_eq!(
        found.misshapen,
        [
            ("proj_out.alpha".to_owned(), vec![], vec![2]),
            (name("to_k.lora_A"), vec![1, 40], vec![0, 40]),
            (name("to_k.lora_B"), vec![40, 1], vec![40, 0]),
            (name("to_q.lora_A"), vec![2, 40], vec![2, 41]),
            (name("to_q.lora_B"), vec![40, 2], vec![40, 3]),
            (name("to_v.lora_A"), vec![1, 40], vec![40]),
        ]
    );
}

#[test]
fn hostile_files() {
    let open = |bytes: Vec<u8>| {
        Weights::from_bytes("test.safetensors", bytes)
            .map_err(LoraError::from)
            .and_then(Lora::from_weights)
    };
    let whole = bytes(&factors(1.0), &[]);
    let cut = open(whole[..whole.len() - 1].to_vec()).unwrap_err();
    assert!(matches!(
        cut,
        LoraError::Weights(WeightError::Corrupt { .. })
    ));
    let header = b"{}      "; // padded to eight bytes
    let empty = [&(header.len() as u64).to_le_bytes()[..], header].concat();
    let empty = open(empty).unwrap_err();
    assert!(matches!(empty, LoraError::Empty { .. }), "{empty}");
    for metadata in [
        ("lora_alpha", "many"),
        ("lora_alpha", "inf"),
        ("lora_adapter_metadata", "[]"),
        ("lora_adapter_metadata", r#"{"alpha_pattern": {"none": 3}}"#),
    ] {
        let error = open(bytes(&factors(1.0), &[metadata])).unwrap_err();
        assert!(matches!(error, LoraError::Settings { .. }), "{error}");
    }
    let none = Lora::open("no/such.safetensors".as_ref()).unwrap_err();
    assert!(none.to_string().contains("no/such.safetensors"), "{none}");

    let mut integers = factors(1.0);
    integers[0].1 = TensorData::new(vec![1i64; RANK * 40], [RANK, 40]);
    let error = lora(&integers).check(&config(), &device()).unwrap_err();
    assert!(
        matches!(error, LoraError::Weights(WeightError::Dtype { .. })),
        "{error}"
    );
    for scale in [f64::NAN, f64::INFINITY] {
        let error = ScaledLora::new(lora(&factors(1.0)), scale, LoraMode::Unmerged).unwrap_err();
        assert!(matches!(error, LoraError::Scale { .. }), "{error}");
    }
}

/// As with a checkpoint's own weights, the step that it spoils shows it.
#[test]
fn nan_is_loaded() {
    let mut tensors = factors(1.0);
    tensors[0].1 = TensorData::new(vec![f32::NAN; RANK * 40], [RANK, 40]);
    for mode in MODES {
        let ours = with(&[scaled(lora(&tensors), 1.0, mode)]);
        assert!(output(&ours).iter().any(|v| v.is_nan()), "{mode:?}");
    }
}

fn saved(model: &SanaTransformer) -> Weights {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.safetensors");
    save_module(model, &path, &SaveOptions::default()).unwrap();
    Weights::from_bytes("saved", std::fs::read(&path).unwrap()).unwrap()
}

/// Merged weights are the sum in f32, rounded once, also of two LoRAs.
#[test]
fn bf16_weights_stay_bf16() {
    let (one, two) = (factors(1.0), factors(2.0));
    let base = load(&weights(), Some(DType::BF16));
    let before = tensors_of(&saved(&base));
    let ours = base.with_loras(&[
        scaled(lora(&one), 0.7, LoraMode::Merged),
        scaled(lora(&two), -0.4, LoraMode::Merged),
    ]);
    let ours = ours.unwrap();
    let saved = saved(&ours);
    assert_eq!(saved.dtypes().keys().collect::<Vec<_>>(), ["bf16"]);
    let after = tensors_of(&saved);
    let (one, two) = (deltas(&one, 0.7), deltas(&two, -0.4));
    for (name, (_, after)) in &after {
        let (_, before) = &before[name];
        let Some(delta) = one.get(name) else {
            assert_eq!(after, before, "{name}");
            continue;
        };
        let deltas = delta.iter().zip(&two[name]).map(|(one, two)| one + two);
        for ((after, before), delta) in after.iter().zip(before).zip(deltas) {
            let exact = f64::from(*before) + delta;
            // Half a unit in the last of bf16's 8 places, and f32's rounding.
            let allowed = exact.abs() / 256.0 + 1e-6;
            let difference = (f64::from(*after) - exact).abs();
            assert!(difference <= allowed, "{name}: {after}, exact {exact}");
        }
    }
}

#[test]
fn bf16_apart_runs_in_bf16() {
    let base = load(&weights(), Some(DType::BF16)).with_compute_dtype(DType::BF16);
    let plain = output(&base);
    let ours = base.with_loras(&[scaled(lora(&factors(1.0)), 1.0, LoraMode::Unmerged)]);
    let ours = output(&ours.unwrap());
    assert!(ours.iter().all(|value| value.is_finite()));
    assert_ne!(ours, plain);
}

/// Unmerged terms are not parameters: saving writes the base, and nothing else is expected.
#[test]
fn apart_terms_are_not_saved() {
    let plain = model();
    let ours = with(&[scaled(lora(&factors(1.0)), 1.0, LoraMode::Unmerged)]);
    let shapes = |model: &SanaTransformer| parameter_shapes(model, KeyMap::default());
    assert_eq!(shapes(&ours), shapes(&plain));
    assert_eq!(ours.num_params(), plain.num_params());
    assert_eq!(tensors_of(&saved(&ours)), tensors_of(&saved(&plain)));
}

/// The weight trains next to a term, whose part of the input's gradient is there.
#[test]
fn layers_train_next_to_their_terms() {
    let device = Device::flex().autodiff();
    let matrix = |rows, columns, seed| {
        Tensor::<2>::from_data(tensor(&[rows, columns], seed), (&device, DType::F32))
    };
    let mut layer = TorchLinear::new(4, 2, true, &device);
    let _ = layer.forward(matrix(1, 4, 0.0)); // draws the weights, so that both layers have the same
    let plain = layer.clone();
    let term = LowRank {
        down: matrix(3, 4, 1.0),
        up: matrix(2, 3, 2.0),
    };
    layer.low_rank.push(term.clone());
    let gradients = |layer: &TorchLinear| {
        let x = matrix(5, 4, 3.0).require_grad();
        let gradients = layer.forward(x.clone()).sum().backward();
        let weight = layer.weight.val().grad(&gradients).unwrap();
        (values(weight), values(x.grad(&gradients).unwrap()))
    };
    let (weight, input) = gradients(&layer);
    let (plain_weight, plain_input) = gradients(&plain);
    assert_eq!(weight, plain_weight);
    let change = values(term.up.matmul(term.down).sum_dim(0)); // [1, in]
    for (index, (ours, plain)) in input.iter().zip(&plain_input).enumerate() {
        let difference = (ours - plain - change[index % 4]).abs();
        assert!(difference < 1e-5, "{index}: {difference}");
    }

    let inference = layer.valid();
    let x = matrix(5, 4, 3.0).without_autodiff();
    let ours = values(inference.forward(x.clone()));
    assert_ne!(ours, values(plain.valid().forward(x)));
}

#[test]
fn a_pointwise_convolution_on_images_has_its_terms_too() {
    let device = device();
    let mut layer = PointwiseConv::new(4, 2, true, &device);
    let matrix = |rows, columns, seed| {
        Tensor::<2>::from_data(tensor(&[rows, columns], seed), (&device, DType::F32))
    };
    let (down, up) = (matrix(3, 4, 1.0), matrix(2, 3, 2.0));
    let data = tensor(&[2, 4, 3, 5], 4.0);
    let image = Tensor::<4>::from_data(data, (&device, DType::F32));
    let plain = layer.forward_image(image.clone());
    let product = up.clone().matmul(down.clone()); // [out, in]
    let tokens = image.clone().reshape([2, 4, 15]);
    let change = product.unsqueeze::<3>().repeat_dim(0, 2).matmul(tokens);
    let expected = plain + change.reshape([2, 2, 3, 5]);
    layer.low_rank.push(LowRank { down, up });
    let ours = values(layer.forward_image(image));
    assert_close("image", &ours, &values(expected), tolerance());
}
