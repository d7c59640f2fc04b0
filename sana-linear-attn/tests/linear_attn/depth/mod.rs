//! Networks of another depth: that new blocks change nothing, and what their weights are.

mod importance;
mod plan;

use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::parity::{Fixture, device, fixture_path, values, weights_folder};
use sana_linear_attn::transformer::depth::{DepthPlan, GrowthOptions, GrowthStrategy};
use sana_linear_attn::transformer::{F16Clamp, TransformerInput};
use sana_linear_attn::weights::write_tensors;
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, WeightError, Weights};

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
const STEM: &str = "diffusion_pytorch_model";

struct Model {
    config: SanaTransformerConfig,
    weights: Weights,
    io: Fixture,
}

impl Model {
    fn open(name: &str) -> Self {
        let folder = fixture_path(CRATE, &format!("transformer/{name}"));
        Self {
            config: SanaTransformerConfig::from_file(&folder.join("config.json")).unwrap(),
            weights: Weights::open_folder(&weights_folder(&folder), STEM, None).unwrap(),
            io: Fixture::open(CRATE, &format!("transformer/{name}/io.safetensors")),
        }
    }

    /// The network of the plan, from the file that is written.
    fn written(&self, plan: &DepthPlan, dtype: Option<DType>) -> (Weights, SanaTransformer) {
        let folder = tempfile::tempdir().unwrap();
        let device = device();
        let ignore = &mut |_, _| ();
        plan.write(&self.weights, folder.path(), dtype, &device, ignore)
            .unwrap();
        let bytes = std::fs::read(folder.path().join(format!("{STEM}.safetensors"))).unwrap();
        let weights = Weights::from_bytes("grown", bytes).unwrap();
        let load = plan.config().load(&weights, None, F16Clamp::Auto, &device);
        let model = load.unwrap();
        (weights, model)
    }

    fn output(&self, model: &SanaTransformer) -> Vec<f32> {
        let device = device();
        let tensor = |name: &str| -> Tensor<3> { self.io.tensor(name, &device) };
        let mask = self.io.tensor("caption_mask", &device);
        let context = model.text_context(tensor("caption"), Some(mask));
        let latents = self.io.tensor("input", &device);
        let timestep = self.io.tensor("timestep", &device);
        values(
            model
                .forward(TransformerInput::new(latents, timestep, &context))
                .velocity,
        )
    }
}

/// New blocks are the identity, to the last bit, in f32 and in bf16, with query and key norms that
/// were there, that are added, and without.
#[test]
fn new_blocks_change_nothing() {
    for (name, add_qk_norm) in [("sana_1_5", true), ("sana", true), ("sana", false)] {
        let model = Model::open(name);
        for dtype in [DType::F32, DType::BF16] {
            let options = GrowthOptions::new(6).keep(2).add_qk_norm(add_qk_norm);
            let plan = model.config.grow(&options).unwrap();
            let (weights, large) = model.written(&plan, Some(dtype));
            // The kept blocks alone, with the same norms: the beginning of the grown ones.
            let kept = plan.config().keep_blocks(&[0, 1]).unwrap();
            let (_, small) = Model {
                weights,
                ..Model::open(name)
            }
            .written(&kept, None);
            assert_eq!(small.config().num_layers, 2);
            let expected = model.output(&small);
            assert!(expected.iter().all(|value| value.is_finite()));
            assert_eq!(model.output(&large), expected, "{name}, {dtype:?}");
        }
    }
}

/// With all blocks and no other norms, the grown network is the first one.
#[test]
fn all_blocks_kept_give_the_same_output() {
    for name in ["sana", "sana_1_5", "sana_patch2", "sana_2k"] {
        let model = Model::open(name);
        let options = GrowthOptions::new(5).keep(3).add_qk_norm(false);
        let (_, large) = model.written(&model.config.grow(&options).unwrap(), None);
        let load = model
            .config
            .load(&model.weights, None, F16Clamp::Auto, &device());
        assert_eq!(model.output(&large), model.output(&load.unwrap()), "{name}");
    }
}

fn read(weights: &Weights, name: &str) -> Vec<f32> {
    let bytes = weights.bytes(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(weights.dtype(name), Some(DType::F32), "{name}");
    let (values, _) = bytes.as_chunks::<4>();
    values.iter().copied().map(f32::from_le_bytes).collect()
}

fn deviation(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let count = values.clone().count() as f32;
    (values.map(|value| value * value).sum::<f32>() / count).sqrt()
}

/// The three projections are zero, the norms one, the rest as the authors' code draws it; another
/// seed gives other numbers, the same seed the same.
#[test]
fn how_new_blocks_begin() {
    let model = Model::open("sana");
    let plan = |seed| {
        model
            .config
            .grow(&GrowthOptions::new(4).seed(seed))
            .unwrap()
    };
    let (weights, _) = model.written(&plan(1), None);
    let tensor = |name: &str| read(&weights, &format!("transformer_blocks.2.{name}"));
    for name in [
        "attn1.to_out.0.weight",
        "attn1.to_out.0.bias",
        "attn2.to_out.0.weight",
        "attn2.to_out.0.bias",
        "attn2.to_q.bias",
        "attn2.to_k.bias",
        "attn2.to_v.bias",
        "ff.conv_point.weight",
    ] {
        assert!(tensor(name).iter().all(|value| *value == 0.0), "{name}");
    }
    for name in [
        "attn1.norm_q",
        "attn1.norm_k",
        "attn2.norm_q",
        "attn2.norm_k",
    ] {
        for block in [0, 2] {
            let name = format!("transformer_blocks.{block}.{name}.weight");
            assert!(
                read(&weights, &name).iter().all(|value| *value == 1.0),
                "{name}"
            );
        }
    }
    for (name, expected) in [
        ("attn1.to_q.weight", 0.02),
        ("attn2.to_k.weight", 0.02),
        ("ff.conv_inverted.weight", 0.02),
        ("ff.conv_depth.weight", 0.2),
        ("scale_shift_table", 0.02),
    ] {
        let found = deviation(tensor(name).into_iter());
        assert!((found / expected - 1.0).abs() < 0.2, "{name}: {found}");
    }
    let name = "transformer_blocks.2.attn1.to_q.weight";
    assert_ne!(
        read(&weights, name),
        read(&weights, "transformer_blocks.3.attn1.to_q.weight")
    );
    assert_eq!(
        read(&model.written(&plan(1), None).0, name),
        read(&weights, name)
    );
    assert_ne!(
        read(&model.written(&plan(2), None).0, name),
        read(&weights, name)
    );
}

#[test]
fn values_of_the_other_strategies() {
    let model = Model::open("sana_1_5");
    let written = |strategy| {
        let plan = model
            .config
            .grow(&GrowthOptions::new(6).strategy(strategy))
            .unwrap();
        model.written(&plan, None).0
    };
    let block = |weights: &Weights, index: usize, tail: &str| {
        read(weights, &format!("transformer_blocks.{index}.{tail}"))
    };
    for tail in [
        "attn1.to_q.weight",
        "attn1.norm_q.weight",
        "scale_shift_table",
    ] {
        let before: Vec<Vec<f32>> = (0..3)
            .map(|index| block(&model.weights, index, tail))
            .collect();
        let cyclic = written(GrowthStrategy::Cyclic);
        let doubled = written(GrowthStrategy::Block);
        for index in 0..6 {
            assert_eq!(block(&cyclic, index, tail), before[index % 3]);
            assert_eq!(block(&doubled, index, tail), before[index / 2]);
        }
        let interpolated = block(&written(GrowthStrategy::Interpolation), 1, tail);
        for (index, value) in interpolated.iter().enumerate() {
            let middle = (before[0][index] + before[1][index]) / 2.0;
            assert!((value - middle).abs() < 1e-6, "{tail}: {value}, {middle}");
        }
        // A third of the way.
        let options = GrowthOptions::new(9).strategy(GrowthStrategy::Interpolation);
        let plan = model.config.grow(&options).unwrap();
        let third = block(&model.written(&plan, None).0, 1, tail);
        for (index, value) in third.iter().enumerate() {
            let expected = before[0][index] * 2.0 / 3.0 + before[1][index] / 3.0;
            assert!(
                (value - expected).abs() < 1e-6,
                "{tail}: {value}, {expected}"
            );
        }
        // A walk away from the last block, a step of 0.01 each.
        let progressive = written(GrowthStrategy::Progressive);
        assert_eq!(block(&progressive, 2, tail), before[2]);
        let chain: Vec<Vec<f32>> = (2..6)
            .map(|index| block(&progressive, index, tail))
            .collect();
        for pair in chain.windows(2) {
            let step = deviation(pair[0].iter().zip(&pair[1]).map(|(a, b)| b - a));
            assert!((0.006..0.014).contains(&step), "{tail}: {step}");
        }
    }
}

/// What is outside the blocks, and blocks that are copies, keep their bytes.
#[test]
fn kept_blocks_keep_their_bytes() {
    let model = Model::open("sana");
    let plan = model.config.keep_blocks(&[0, 2]).unwrap();
    let (weights, _) = model.written(&plan, None);
    for name in weights.names() {
        let before = name.replace("transformer_blocks.1.", "transformer_blocks.2.");
        assert_eq!(weights.bytes(name), model.weights.bytes(&before), "{name}");
    }
}

#[test]
fn weights_of_another_network_are_refused() {
    let model = Model::open("sana");
    let other = Model::open("sana_1_5").config;
    let plan = other.grow(&GrowthOptions::new(6)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |folder: &Path| plan.write(&model.weights, folder, None, &device(), &mut |_, _| ());
    let error = write(folder.path()).unwrap_err();
    assert!(matches!(error, WeightError::Mismatch { .. }), "{error}");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

/// Each copy has the dtype of what it is a copy of, and what is not the network's is left out.
#[test]
fn blocks_of_another_dtype_and_heads_of_training() {
    let model = Model::open("sana");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.safetensors");
    let names = model.weights.names();
    let mut tensors: Vec<(String, TensorData)> = names
        .map(|name| {
            let dtype = match name.starts_with("transformer_blocks.2.") {
                true => DType::BF16,
                false => DType::F32,
            };
            let shape = model.weights.shape(name).unwrap().to_vec();
            let data = TensorData::new(read(&model.weights, name), shape);
            (name.to_owned(), data.convert_dtype(dtype))
        })
        .collect();
    let head = TensorData::new(vec![0.5f32; 40], [1, 40]);
    tensors.push(("logvar_linear.weight".to_owned(), head));
    tensors.push((
        "logvar_linear.bias".to_owned(),
        TensorData::new(vec![0.5f32], [1]),
    ));
    write_tensors(&path, tensors).unwrap();
    let mixed = Model {
        weights: Weights::open_file(&path).unwrap(),
        ..model
    };
    let plan = mixed.config.keep_blocks(&[0, 2]).unwrap();
    let (weights, _) = mixed.written(&plan, None);
    let mut of_bf16 = 0;
    for name in weights.names() {
        let before = name.replace("transformer_blocks.1.", "transformer_blocks.2.");
        assert_eq!(weights.dtype(name), mixed.weights.dtype(&before), "{name}");
        assert_eq!(weights.bytes(name), mixed.weights.bytes(&before), "{name}");
        of_bf16 += usize::from(weights.dtype(name) == Some(DType::BF16));
    }
    assert!(of_bf16 > 10);
}
