//! Nunchaku's layout: a block that was packed in Python, whose values are functions of layer, row and column.

use std::collections::HashMap;

use burn::tensor::{DType, Device, Tensor};
use safetensors::tensor::Dtype;
use sana_linear_attn::parity::device;
use sana_linear_attn::transformer::{ConfigError, F16Clamp, NunchakuLayout, TransformerInput};
use sana_linear_attn::weights::parameter_shapes;
use sana_linear_attn::{KeyMap, SanaTransformerConfig, WeightError, Weights};

use super::{Stored, opened, stored};

const RANK: usize = 32;
const WIDTH: usize = 64;
const HIDDEN: usize = 160;

fn config() -> SanaTransformerConfig {
    SanaTransformerConfig {
        in_channels: 4,
        out_channels: Some(4),
        num_attention_heads: WIDTH / 32,
        attention_head_dim: 32,
        num_layers: 1,
        num_cross_attention_heads: 4,
        cross_attention_head_dim: WIDTH / 4,
        cross_attention_dim: WIDTH,
        caption_channels: 8,
        mlp_ratio: HIDDEN as f64 / WIDTH as f64,
        qk_norm: None,
        interpolation_scale: None,
        guidance_embeds: false,
        ..SanaTransformerConfig::sana_1600m_1024px()
    }
}

/// The tensors of the fixture, and those outside the blocks.
fn tensors() -> Vec<Stored> {
    let mut tensors = stored("nunchaku.safetensors");
    let model = config().init(&device());
    for (index, (name, shape)) in parameter_shapes(&model, KeyMap::default())
        .into_iter()
        .enumerate()
    {
        if !name.starts_with("transformer_blocks.") {
            let elements = shape.iter().product::<usize>();
            let values = (0..elements).map(|place| mixed(index, place, 0) % 33);
            let values = values.map(|value| (value as f32 - 16.0) / 64.0);
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            tensors.push((name, Dtype::F32, shape, bytes));
        }
    }
    tensors
}

/// The function of the script.
fn mixed(seed: usize, row: usize, column: usize) -> i64 {
    let part = |number: usize, by: u32| (number as u32).wrapping_mul(by);
    let x = part(row, 73_856_093) ^ part(column, 19_349_663) ^ part(seed, 83_492_791);
    let x = (x ^ (x >> 13)).wrapping_mul(0x5bd1_e995);
    i64::from(x ^ (x >> 15))
}

/// `q * scale / smooth + up down` of the layer `seed`, whose smoothing and down projection are of
/// `shared`.
fn dense(seed: usize, shared: usize, row: usize, column: usize) -> f32 {
    let code = (mixed(seed, row, column) % 16 - 8) as f32;
    let scale = 2f32.powi(-(2 + mixed(seed + 20, row, column / 64) % 3) as i32);
    let smooth = 2f32.powi((mixed(shared + 80, 0, column) % 3 - 1) as i32);
    let low_rank = (0..RANK).map(|rank| {
        let up = (mixed(seed + 40, row, rank) % 9 - 4) as f32 / 8.0;
        let down = (mixed(shared + 100, rank, column) % 9 - 4) as f32 / 8.0;
        up * down
    });
    code * scale / smooth + low_rank.sum::<f32>()
}

fn sixteenths(seed: usize, row: usize, column: usize) -> f32 {
    (mixed(seed, row, column) % 33 - 16) as f32 / 16.0
}

fn published(tensors: &[Stored]) -> Result<Weights, WeightError> {
    let weights = opened(tensors, None)?;
    let layout = NunchakuLayout::of(&weights).expect("the layout");
    layout.published(&weights, &config(), &config().init(&device()))
}

fn values<const D: usize>(weights: &Weights, name: &str) -> Vec<f32> {
    let name = format!("transformer_blocks.0.{name}");
    let tensor = weights.tensor::<D>(&name, DType::F32, &device()).unwrap();
    tensor.into_data().try_into_vec().unwrap()
}

/// All numbers are small dyadic fractions, so that sums are exact in any order.
#[test]
fn a_packed_block_is_unpacked() {
    let weights = published(&tensors()).unwrap();
    for (name, seed, shared) in [
        ("attn1.to_q", 1, 1),
        ("attn1.to_k", 2, 1),
        ("attn1.to_v", 3, 1),
        ("attn1.to_out.0", 4, 4),
        ("attn2.to_q", 5, 5),
        ("attn2.to_out.0", 6, 6),
        ("ff.conv_inverted", 7, 7),
        ("ff.conv_point", 8, 8),
    ] {
        let ours = match name.starts_with("ff.") {
            true => values::<4>(&weights, &format!("{name}.weight")),
            false => values::<2>(&weights, &format!("{name}.weight")),
        };
        let inputs = if seed == 8 { HIDDEN } else { WIDTH };
        let rows = if seed == 7 { 2 * HIDDEN } else { WIDTH };
        assert_eq!(ours.len(), rows * inputs, "{name}");
        for (place, ours) in ours.into_iter().enumerate() {
            let (row, column) = (place / inputs, place % inputs);
            assert_eq!(
                ours,
                dense(seed, shared, row, column),
                "{name} {row} {column}"
            );
        }
    }
    for (name, seed, rows) in [
        ("attn1.to_out.0", 4, WIDTH),
        ("attn2.to_q", 5, WIDTH),
        ("ff.conv_inverted", 7, 2 * HIDDEN),
    ] {
        let ours = values::<1>(&weights, &format!("{name}.bias"));
        let expected: Vec<f32> = (0..rows).map(|row| sixteenths(seed + 60, row, 0)).collect();
        assert_eq!(ours, expected, "{name}");
    }
    // The file has no bias of it.
    assert_eq!(values::<1>(&weights, "attn2.to_out.0.bias"), [0.0; WIDTH]);
    let kv = |first: usize| move |place: usize| sixteenths(9, first + place / WIDTH, place % WIDTH);
    let keys: Vec<f32> = (0..WIDTH * WIDTH).map(kv(0)).collect();
    assert_eq!(values::<2>(&weights, "attn2.to_k.weight"), keys);
    let text_values: Vec<f32> = (0..WIDTH * WIDTH).map(kv(WIDTH)).collect();
    assert_eq!(values::<2>(&weights, "attn2.to_v.weight"), text_values);
    let bias: Vec<f32> = (WIDTH..2 * WIDTH)
        .map(|row| sixteenths(10, row, 0))
        .collect();
    assert_eq!(values::<1>(&weights, "attn2.to_v.bias"), bias);
    let depth: Vec<f32> = (0..2 * HIDDEN * 9)
        .map(|place| sixteenths(11, place / 9, place % 9))
        .collect();
    assert_eq!(values::<4>(&weights, "ff.conv_depth.weight"), depth);
    let bias: Vec<f32> = (0..2 * HIDDEN).map(|row| sixteenths(12, row, 0)).collect();
    assert_eq!(values::<1>(&weights, "ff.conv_depth.bias"), bias);
    assert_eq!(weights.dtypes()["svdq-int4"], 8);
}

/// The newer form is one file that carries its config; it is loaded as any other.
#[test]
fn one_file_is_a_transformer() {
    let json = serde_json::to_string(&config()).unwrap();
    let class = "NunchakuSanaTransformer2DModel".to_owned();
    let metadata = HashMap::from([
        ("config".to_owned(), json),
        ("model_class".to_owned(), class),
    ]);
    let weights = opened(&tensors(), Some(metadata.clone())).unwrap();
    let base = SanaTransformerConfig::sana_600m_1024px();
    let inferred = SanaTransformerConfig::infer(&weights, &base).unwrap();
    assert_eq!(inferred.config, config());
    assert!(inferred.assumed.is_empty());
    let load = |weights: &Weights, dtype| {
        let loaded = config().load(weights, Some(dtype), F16Clamp::Off, &device());
        loaded.unwrap()
    };
    let run = |weights: &Weights| {
        let device: Device = device();
        let model = load(weights, DType::F32);
        let latents = Tensor::ones([1, 4, 2, 3], &device);
        let context = model.text_context(Tensor::ones([1, 2, 8], &device), None);
        let input = TransformerInput::new(latents, Tensor::full([1], 500.0, &device), &context);
        model.forward(input).velocity.into_data()
    };
    let unpacked = published(&tensors()).unwrap();
    assert_eq!(run(&weights), run(&unpacked));
    assert_eq!(load(&weights, DType::BF16).dtype(), DType::BF16);

    let without = opened(&tensors(), None).unwrap();
    let error = SanaTransformerConfig::infer(&without, &base).unwrap_err();
    assert!(matches!(&error, ConfigError::NotInferred { .. }));
    assert!(error.to_string().contains("config.json"), "{error}");
    let other = HashMap::from([(
        "model_class".to_owned(),
        "NunchakuFluxTransformer2dModel".to_owned(),
    )]);
    let other = opened(&tensors(), Some(other)).unwrap();
    let error = SanaTransformerConfig::infer(&other, &base).unwrap_err();
    assert!(error.to_string().contains("Flux"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |change: &dyn Fn(&mut Vec<Stored>)| {
        let mut tensors = tensors();
        change(&mut tensors);
        published(&tensors).unwrap_err().to_string()
    };
    let edit = |name: &str, edit: &dyn Fn(&mut Stored)| {
        refused(&|tensors| {
            let name = format!("transformer_blocks.0.{name}");
            let found = tensors.iter_mut().find(|(found, ..)| *found == name);
            edit(found.unwrap_or_else(|| panic!("no {name}")));
        })
    };
    // NVFP4 has scales of 8 bits, for groups of 16.
    let error = edit("attn.out_proj.wscales", &|(_, dtype, shape, _)| {
        *dtype = Dtype::F8_E4M3;
        *shape = vec![4, 128];
    });
    assert!(
        error.contains("NVFP4") && error.contains("int4 file"),
        "{error}"
    );
    let error = edit("ff.point_conv.smooth", &|(_, _, shape, bytes)| {
        *shape = vec![128];
        bytes.truncate(256);
    });
    assert!(
        error.contains("smooth has the shape [128], expected 256 times 1"),
        "{error}"
    );
    let error = edit("attn.qkv_proj.qweight", &|(_, _, shape, bytes)| {
        *shape = vec![256, 64];
        bytes.truncate(256 * 64);
    });
    assert!(error.contains("wscales has the shape"), "{error}");
    let error = edit("attn.out_proj.lora_down", &|(_, _, shape, bytes)| {
        *shape = vec![0, 1 << 60];
        bytes.clear();
    });
    assert!(error.contains("lora_down has the shape"), "{error}");
    let error = edit("attn.qkv_proj.bias", &|(_, _, _, bytes)| bytes[0] = 1);
    assert!(
        error.contains("unexpected 1: transformer_blocks.0.attn.qkv_proj.bias"),
        "{error}"
    );
    let error = edit("ff.inverted_conv.lora_up", &|(name, ..)| name.push('x'));
    assert!(error.contains("one half of its low-rank part"), "{error}");
    let error = edit("ff.inverted_conv.qweight", &|(name, ..)| name.push('x'));
    assert!(
        error.contains("missing 1: transformer_blocks.0.ff.inverted_conv.qweight"),
        "{error}"
    );
    let error = edit("ff.depth_conv.bias", &|(_, dtype, ..)| *dtype = Dtype::I16);
    assert!(error.contains("I16"), "{error}");

    let weights = opened(&tensors(), None).unwrap();
    let layout = NunchakuLayout::of(&weights).unwrap();
    let wide = SanaTransformerConfig {
        num_attention_heads: 6,
        ..config()
    };
    let error = layout
        .published(&weights, &wide, &wide.init(&device()))
        .unwrap_err();
    assert!(error.to_string().contains("with its padding"), "{error}");

    // A factor of zero would be a weight without a value.
    let mut tensors = tensors();
    let smooth = tensors
        .iter_mut()
        .find(|(name, ..)| name.ends_with("q_linear.smooth"))
        .unwrap();
    smooth.3.fill(0);
    let weights = published(&tensors).unwrap();
    let name = "transformer_blocks.0.attn2.to_q.weight";
    let error = weights
        .tensor::<2>(name, DType::F32, &device())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("smoothing factor of input 0 is 0"),
        "{error}"
    );
}
