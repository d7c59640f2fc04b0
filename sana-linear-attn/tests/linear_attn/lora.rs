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
    let plain = lora.kinds().iter().all(|kind| *kind == LoraKind::Lora);
    let mode = MODES[usize::from(plain)];
    let applied = scaled(lora.clone(), 1.0, mode);
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
    add("proj_out.other.weight", &[12]);
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
            "proj_out.other.weight",
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

/// Rows of a matrix, `[rows, columns]`, in f64.
type Matrix = Vec<Vec<f64>>;

fn matrix(data: &TensorData) -> Matrix {
    let columns = data.shape()[1];
    let values = data.as_slice::<f32>().unwrap();
    let rows = values.chunks(columns);
    rows.map(|row| row.iter().map(|value| f64::from(*value)).collect())
        .collect()
}

fn matmul(a: &Matrix, b: &Matrix) -> Matrix {
    let cell = |row: &[f64], column: usize| row.iter().zip(b).map(|(a, b)| a * b[column]).sum();
    let row = |row: &Vec<f64>| (0..b[0].len()).map(|column| cell(row, column)).collect();
    a.iter().map(row).collect()
}

fn pairwise(a: &Matrix, b: &Matrix, f: impl Fn(f64, f64) -> f64) -> Matrix {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect();
    a.iter().zip(b).map(row).collect()
}

fn base_weight(layer: &str) -> Matrix {
    let (shape, values) = tensors_of(&weights())[&format!("{layer}.weight")].clone();
    matrix(&TensorData::new(values, [shape[0], shape[1]]))
}

fn assert_changes(name: &str, tensors: &Tensors, scale: f64, changes: &[(&str, Matrix)]) {
    let changes = changes
        .iter()
        .map(|(layer, change)| (format!("{layer}.weight"), change.concat()));
    let expected = changed_by(&[changes.collect()]);
    let ours = with(&[scaled(lora(tensors), scale, LoraMode::Merged)]);
    assert_same(name, &ours, &expected);
    assert_ne!(output(&ours), output(&model()), "{name}");
}

fn named(layer: &str, word: &str, data: &TensorData) -> (String, TensorData) {
    (format!("{layer}.{word}"), data.clone())
}

fn alpha(layer: &str, value: f32) -> (String, TensorData) {
    named(layer, "alpha", &TensorData::new(vec![value], [0usize; 0]))
}

fn refused_unmerged(tensors: &Tensors, kind: &str) {
    let error = ScaledLora::new(lora(tensors), 1.0, LoraMode::Unmerged).unwrap_err();
    assert!(matches!(error, LoraError::NotLowRank { .. }), "{error}");
    assert!(error.to_string().contains(kind), "{error}");
}

/// `W' = m (W + s B A) / |W + s B A|`, with one length for each output, or for each input.
#[test]
fn dora_is_merged_exactly() {
    const CONV: &str = "transformer_blocks.1.ff.conv_point"; // [40, 100]
    const LINEAR: &str = "transformer_blocks.0.attn2.to_k"; // [40, 40]
    // The tensor's name, its layer and shape, and whether the lengths are those of the outputs.
    let cases: [(&str, &str, &[usize], bool); 7] = [
        ("lora_magnitude_vector", LINEAR, &[40], true),
        ("lora_magnitude_vector.default.weight", LINEAR, &[40], true),
        ("lora_magnitude_vector.weight", CONV, &[1, 40, 1, 1], true),
        ("dora_scale", LINEAR, &[40, 1], true),
        ("dora_scale", LINEAR, &[1, 40], false),
        ("dora_scale", CONV, &[40, 1, 1, 1], true),
        ("dora_scale", CONV, &[1, 100, 1, 1], false),
    ];
    for (word, layer, shape, outputs) in cases {
        let weight = base_weight(layer);
        let (d_output, d_input) = (weight.len(), weight[0].len());
        let (down, up) = (
            tensor(&[RANK, d_input], 1.0),
            tensor(&[d_output, RANK], 2.0),
        );
        let lengths: Vec<f32> = numbers(shape.iter().product(), 3.0)
            .iter()
            .map(|value| value + 1.0)
            .collect();
        let s = 0.7 * 6.0 / RANK as f64;
        let product = matmul(&matrix(&up), &matrix(&down));
        let changed = pairwise(&weight, &product, |weight, change| weight + s * change);
        let mut change = changed.clone();
        for row in 0..d_output {
            for column in 0..d_input {
                let squares: f64 = match outputs {
                    true => changed[row].iter().map(|value| value * value).sum(),
                    false => changed.iter().map(|row| row[column] * row[column]).sum(),
                };
                let length = f64::from(lengths[if outputs { row } else { column }]);
                let new = length * changed[row][column] / squares.sqrt();
                change[row][column] = new - weight[row][column];
            }
        }
        let tensors = vec![
            named(layer, "lora_A.weight", &down),
            named(layer, "lora_B.weight", &up),
            named(layer, word, &TensorData::new(lengths, shape.to_vec())),
            alpha(layer, 6.0),
        ];
        assert_changes(
            &format!("{word} {shape:?}"),
            &tensors,
            0.7,
            &[(layer, change)],
        );
        refused_unmerged(&tensors, "DoRA");
    }
    let mut wrong = factors(1.0);
    wrong.push((
        "proj_out.lora_magnitude_vector".to_owned(),
        tensor(&[13], 0.0),
    ));
    let found = mismatch(&lora(&wrong));
    let name = "proj_out.lora_magnitude_vector".to_owned();
    assert_eq!(found.misshapen, [(name, vec![12], vec![13])]);
}

/// The element-wise product of two matmuls.
#[test]
fn loha_is_merged_exactly() {
    let layer = "transformer_blocks.1.ff.conv_point"; // [40, 100]
    let factors = [
        ("hada_w1_a", tensor(&[40, 2], 1.0)),
        ("hada_w1_b", tensor(&[2, 100], 2.0)),
        ("hada_w2_a", tensor(&[40, 2], 3.0)),
        ("hada_w2_b", tensor(&[2, 100], 4.0)),
    ];
    let [a1, b1, a2, b2] = [0, 1, 2, 3].map(|index| matrix(&factors[index].1));
    let s = 2.5 * 8.0 / 2.0;
    let change = pairwise(&matmul(&a1, &b1), &matmul(&a2, &b2), |one, other| {
        s * one * other
    });
    let mut tensors: Tensors = factors
        .iter()
        .map(|(word, data)| named(layer, word, data))
        .collect();
    tensors.push(alpha(layer, 8.0));
    assert_changes("loha", &tensors, 2.5, &[(layer, change)]);
    refused_unmerged(&tensors, "LoHa");
    tensors.remove(3);
    let missing = mismatch(&lora(&tensors)).missing;
    assert_eq!(missing, [format!("{layer}.hada_w2_b")]);
}

/// A Kronecker product; alpha counts where a factor is a matmul.
#[test]
fn lokr_is_merged_exactly() {
    let layer = "transformer_blocks.1.ff.conv_point"; // [40, 100]
    let (w1, w2) = (tensor(&[4, 5], 1.0), tensor(&[10, 20], 2.0));
    let (w1_a, w1_b) = (tensor(&[4, 2], 3.0), tensor(&[2, 5], 4.0));
    let (w2_a, w2_b) = (tensor(&[10, 2], 5.0), tensor(&[2, 20], 6.0));
    let first = [
        vec![("lokr_w1", &w1)],
        vec![("lokr_w1_a", &w1_a), ("lokr_w1_b", &w1_b)],
    ];
    let second = [
        vec![("lokr_w2", &w2)],
        vec![("lokr_w2_a", &w2_a), ("lokr_w2_b", &w2_b)],
    ];
    let value = |factors: &[(&str, &TensorData)]| match factors {
        [(_, whole)] => matrix(whole),
        [(_, a), (_, b), ..] => matmul(&matrix(a), &matrix(b)),
        [] => unreachable!(),
    };
    for first in &first {
        for second in &second {
            let whole = first.len() + second.len() == 2;
            let s = if whole { 0.9 } else { 0.9 * 5.0 / 2.0 };
            let (one, two) = (value(first), value(second));
            let cell = |row: usize, column: usize| {
                s * one[row / 10][column / 20] * two[row % 10][column % 20]
            };
            let row = |row: usize| (0..100).map(|column| cell(row, column)).collect();
            let change: Matrix = (0..40).map(row).collect();
            let mut tensors: Tensors = first
                .iter()
                .chain(second)
                .map(|(word, data)| named(layer, word, data))
                .collect();
            tensors.push(alpha(layer, 5.0));
            assert_changes("lokr", &tensors, 0.9, &[(layer, change)]);
            refused_unmerged(&tensors, "LoKr");
        }
    }
    let wrong = vec![named(layer, "lokr_w1", &w1), named(layer, "lokr_w2", &w1)];
    let found = mismatch(&lora(&wrong));
    let name = format!("{layer}.lokr_w2");
    assert_eq!(found.misshapen, [(name, vec![10, 20], vec![4, 5])]);
    let half = vec![
        named(layer, "lokr_w1", &w1),
        named(layer, "lokr_w2_a", &w2_a),
    ];
    let missing = mismatch(&lora(&half)).missing;
    assert_eq!(missing, [format!("{layer}.lokr_w2_b")]);
}

/// The same factors by the names of other trainers.
#[test]
fn names_of_other_trainers() {
    let plain = factors(1.0);
    let expected = output(&with(&[scaled(lora(&plain), 1.0, LoraMode::Merged)]));
    for (prefix, underscores) in [
        ("transformer.", false),
        ("diffusion_model.", false),
        ("lora_transformer_", true),
        ("lora_unet_", true),
        ("lycoris_", true),
    ] {
        let mut renamed: Tensors = Vec::new();
        for (name, data) in &plain {
            let (layer, word) = name.split_once(".lora_").unwrap();
            let layer = match underscores {
                true => format!("{prefix}{}", layer.replace('.', "_")),
                false => format!("{prefix}{layer}"),
            };
            let down = word.starts_with('A');
            let word = if down {
                "lora_down.weight"
            } else {
                "lora_up.weight"
            };
            renamed.push(named(&layer, word, data));
            if down {
                renamed.push(alpha(&layer, RANK as f32));
            }
        }
        renamed.push((
            "lora_te_model_layers_0_q_proj.lora_down.weight".to_owned(),
            tensor(&[2, 3], 0.0),
        ));
        let renamed = lora(&renamed);
        assert_eq!(renamed.text_encoder_tensors(), 1);
        for mode in MODES {
            let ours = with(&[scaled(renamed.clone(), 1.0, mode)]);
            assert_close(prefix, &output(&ours), &expected, tolerance());
        }
    }
}

#[test]
fn a_folder_of_peft() {
    let plain = factors(1.0);
    let folder = tempfile::tempdir().unwrap();
    let renamed: Tensors = plain
        .iter()
        .map(|(name, data)| (format!("base_model.model.{name}"), data.clone()))
        .collect();
    let file = folder.path().join("adapter_model.safetensors");
    std::fs::write(file, bytes(&renamed, &[])).unwrap();
    std::fs::write(
        folder.path().join("adapter_config.json"),
        r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 6, "rank_pattern": {},
            "alpha_pattern": {"proj_out": 3}}"#,
    )
    .unwrap();
    let mut changes = deltas(&plain, 2.0);
    let last = deltas(&plain, 1.0).remove("proj_out.weight").unwrap();
    changes.insert("proj_out.weight".to_owned(), last);
    let ours = with(&[scaled(
        Lora::open(folder.path()).unwrap(),
        1.0,
        LoraMode::Merged,
    )]);
    assert_same("folder", &ours, &changed_by(&[changes]));
    let empty = tempfile::tempdir().unwrap();
    let error = Lora::open(empty.path()).unwrap_err().to_string();
    assert!(error.contains("adapter_model.safetensors"), "{error}");
}

#[test]
fn other_kinds_are_named() {
    let open = |name: &str| {
        let tensors = [(name.to_owned(), tensor(&[2, 2], 0.0))];
        let weights = Weights::from_bytes("test.safetensors", bytes(&tensors, &[])).unwrap();
        Lora::from_weights(weights).unwrap_err().to_string()
    };
    for (name, kind) in [
        ("proj_out.lora_mid.weight", "LoCon with a Tucker core"),
        ("proj_out.hada_t1", "LoHa with a Tucker core"),
        ("proj_out.lokr_t2", "LoKr with a Tucker core"),
        ("proj_out.oft_blocks", "OFT"),
        ("proj_out.diff", "difference of whole weights"),
        ("text_encoder.layers.0.lora_A.weight", "only a text encoder"),
    ] {
        let text = open(name);
        assert!(text.contains(kind), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}
