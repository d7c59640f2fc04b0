//! Weights that other programs quantized, through the command.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::{DType, Device, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use sana_linear_attn::parity::{GgufValue, built_in_fixture_path, gemma2_gguf, gguf_file};
use sana_linear_attn::transformer::NunchakuLayout;
use sana_linear_attn::weights::{parameter_shapes, write_tensors};
use sana_linear_attn::{KeyMap, SanaTransformerConfig, Weights};
use serde_json::Value;

use crate::support::{Workplace, checkpoint};

const BLOCKS: (&str, GgufValue<'static>) = ("gemma2.block_count", GgufValue::U32(2));

/// The text encoder of the fixtures as a GGUF file of floats.
fn write_gguf(here: &Workplace, name: &str, blocks: (&str, GgufValue)) {
    let weights = Weights::open_folder(&checkpoint().join("text_encoder"), "model", None).unwrap();
    let (tensors, _) = gemma2_gguf(&weights, false);
    let metadata = [("general.architecture", GgufValue::Text("gemma2")), blocks];
    fs::write(here.path(name), gguf_file(&metadata, &tensors)).unwrap();
}

/// A component of the fixtures with its matrices in int8, as bitsandbytes saves them, and what they stand for.
fn write_int8(folder: &Path, file: &str) {
    let weights = Weights::open_file(&folder.join(file)).unwrap();
    let (mut stored, mut dense) = (Vec::new(), Vec::new());
    for name in weights.names() {
        let shape = weights.shape(name).unwrap().to_vec();
        let bytes = weights.bytes(name).unwrap();
        let values = bytes.as_chunks::<4>().0.iter();
        let values: Vec<f32> = values.map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let is_layer = name.contains("attn") || name.contains("mlp");
        let layer = name
            .strip_suffix(".weight")
            .filter(|_| is_layer && shape.len() == 2);
        let Some(layer) = layer else {
            stored.push((name.to_owned(), Dtype::F32, shape.clone(), bytes.to_vec()));
            dense.push((name.to_owned(), TensorData::new(values, shape)));
            continue;
        };
        let (mut codes, mut scales, mut meant) = (Vec::new(), Vec::new(), Vec::new());
        for row in values.chunks_exact(shape[1]) {
            let largest = row.iter().fold(0f32, |max, value| max.max(value.abs()));
            scales.extend(largest.to_le_bytes());
            for value in row {
                let code = (value / largest * 127.0).round() as i8;
                codes.push(code.cast_unsigned());
                meant.push(f32::from(code) * largest * (1.0 / 127.0));
            }
        }
        dense.push((name.to_owned(), TensorData::new(meant, shape.clone())));
        stored.push((format!("{layer}.SCB"), Dtype::F32, vec![shape[0]], scales));
        stored.push((format!("{layer}.weight_format"), Dtype::U8, vec![], vec![0]));
        stored.push((name.to_owned(), Dtype::I8, shape, codes));
    }
    let views = stored.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let file_bytes = serialize(views, None).unwrap();
    drop(weights);
    fs::write(folder.join(file), file_bytes).unwrap();
    write_tensors(&folder.join("dense.safetensors"), dense).unwrap();
    let config = folder.join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["quantization_config"] = serde_json::json!({
        "quant_method": "bitsandbytes", "load_in_8bit": true, "load_in_4bit": false, "llm_int8_threshold": 6.0,
    });
    fs::write(config, json.to_string()).unwrap();
}

/// Folders of diffusers and transformers are loaded as any other, and give the image of what they stand for.
#[test]
fn folders_of_bitsandbytes_are_loaded() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("eight");
    let transformer = "diffusion_pytorch_model.safetensors";
    write_int8(&folder.join("transformer"), transformer);
    write_int8(&folder.join("text_encoder"), "model.safetensors");
    let usual = [
        "generate",
        "a red circle",
        "--size",
        "96x64",
        "--steps",
        "2",
        "--seed",
        "1",
        "--out",
    ];
    here.sana_on(&folder, &[&usual[..], &["a.png"]].concat())
        .quiet_success();
    let said = here.sana(&["inspect", "eight"]).quiet_success();
    assert!(said.contains("f32, int8"), "{said}");
    here.sana(&["inspect", "eight", "--check"]).quiet_success();
    let twice = here.sana(&["quantize", "eight", "--to", "int8", "--out", "twice"]);
    twice.fails(1, &["it would be quantized twice"]);
    for (component, file) in [
        ("transformer", transformer),
        ("text_encoder", "model.safetensors"),
    ] {
        let component = folder.join(component);
        fs::rename(component.join("dense.safetensors"), component.join(file)).unwrap();
        let original = checkpoint()
            .join(component.file_name().unwrap())
            .join("config.json");
        fs::copy(original, component.join("config.json")).unwrap();
    }
    here.sana_on(&folder, &[&usual[..], &["b.png"]].concat())
        .quiet_success();
    assert_eq!(here.image("a.png").as_raw(), here.image("b.png").as_raw());
}

/// The older form of nunchaku is a folder of two files; converted, it is an ordinary transformer. In one file with
/// the config it is what the newer form is.
#[test]
fn a_folder_of_nunchaku_is_converted() {
    let here = Workplace::new();
    let folder = here.path("svdq");
    fs::create_dir(&folder).unwrap();
    let blocks =
        built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "quantized/nunchaku.safetensors");
    fs::copy(blocks, folder.join("transformer_blocks.safetensors")).unwrap();
    let config = SanaTransformerConfig {
        in_channels: 4,
        out_channels: Some(4),
        num_attention_heads: 2,
        num_layers: 1,
        num_cross_attention_heads: 4,
        cross_attention_head_dim: 16,
        cross_attention_dim: 64,
        caption_channels: 8,
        ..SanaTransformerConfig::sana_1600m_1024px()
    };
    let model = config.init(&Device::flex());
    let tensors = parameter_shapes(&model, KeyMap::default()).into_iter();
    let tensors = tensors.filter(|(name, _)| !name.starts_with("transformer_blocks."));
    let tensors = tensors.map(|(name, shape)| {
        let elements = shape.iter().product();
        (name, TensorData::new(vec![0.25f32; elements], shape))
    });
    write_tensors(
        &folder.join("unquantized_layers.safetensors"),
        tensors.collect(),
    )
    .unwrap();
    // The blocks do not show their sizes.
    let without = here.sana(&["convert", "svdq", "--out", "dense"]);
    without.fails(1, &["put its config.json next to them"]);
    let mut json = serde_json::to_value(&config).unwrap();
    json["_class_name"] = "SanaTransformer2DModel".into();
    fs::write(folder.join("config.json"), json.to_string()).unwrap();
    here.sana(&["convert", "svdq", "--out", "dense", "--dtype", "f32"])
        .quiet_success();
    let file = "dense/diffusion_pytorch_model.safetensors";
    let dense = Weights::open_file(&here.path(file)).unwrap();
    config.check(&dense, &Device::flex()).unwrap();
    let pair = ["transformer_blocks", "unquantized_layers"]
        .map(|name| folder.join(format!("{name}.safetensors")));
    let weights = Weights::open_files("svdq".to_owned(), &pair).unwrap();
    let layout = NunchakuLayout::of(&weights).unwrap();
    let published = layout.published(&weights, &config, &model).unwrap();
    for name in dense.names() {
        let values =
            |weights: &Weights| weights.with_floats(name, |bytes, dtype| (bytes.to_vec(), dtype));
        let (ours, theirs) = (values(&dense).unwrap(), values(&published).unwrap());
        if theirs.1 == DType::F32 {
            assert!(ours == theirs, "{name}");
        }
    }
    let [blocks, others] = pair.map(|path| fs::read(path).unwrap());
    let tensors = [&blocks, &others].map(|file| SafeTensors::deserialize(file).unwrap());
    let tensors = tensors.iter().flat_map(|file| file.tensors());
    let metadata = HashMap::from([("config".to_owned(), json.to_string())]);
    fs::write(
        here.path("one.safetensors"),
        serialize(tensors, Some(metadata)).unwrap(),
    )
    .unwrap();
    let said = here
        .sana(&["inspect", "one.safetensors", "--json"])
        .quiet_success();
    let said: Value = serde_json::from_str(&said).unwrap();
    // Queries, keys and values are one tensor in the file, which counts once.
    assert_eq!(said["bytes"], weights.total_bytes());
    assert_eq!(said["tensors"], dense.names().count());
}

#[test]
fn a_file_says_what_it_is() {
    let here = Workplace::new();
    write_gguf(&here, "gemma.gguf", BLOCKS);
    let said = here.sana(&["inspect", "gemma.gguf"]).quiet_success();
    for part in [
        "text encoder (Gemma-2) as GGUF",
        "f32 (24)",
        "with --text-encoder",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let fixture = |name: &str| built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), name);
    for (name, kind) in [
        ("quantized/gguf.gguf", "gguf_text_encoder"),
        ("quantized/nunchaku.safetensors", "nunchaku_transformer"),
        ("quantized/bitsandbytes.safetensors", "other"),
        (
            "pipeline/sana/transformer/diffusion_pytorch_model.safetensors",
            "transformer",
        ),
        (
            "pipeline/sana/text_encoder/model.safetensors",
            "text_encoder",
        ),
    ] {
        let path = fixture(name).into_os_string().into_string().unwrap();
        let said = here.sana(&["inspect", &path, "--json"]).quiet_success();
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(json["kind"], kind, "{name}");
    }
    let path = fixture("quantized/bitsandbytes.safetensors");
    let said = here
        .sana(&["inspect", path.to_str().unwrap()])
        .quiet_success();
    assert!(
        said.contains("f32 (3), fp4 (1), int8 (1), nf4 (2)"),
        "{said}"
    );
    assert!(said.contains("no whole network"), "{said}");
}

/// The image is the same to a rounding of the norms, the weights of the folder are not needed, and what was
/// loaded is recorded.
#[test]
fn a_gguf_file_is_the_text_encoder() {
    let here = Workplace::new();
    write_gguf(&here, "gemma.gguf", BLOCKS);
    here.generate(&["--seed", "1", "--out", "a.png"])
        .quiet_success();
    let folder = here.copied_checkpoint("mine");
    fs::remove_file(folder.join("text_encoder/model.safetensors")).unwrap();
    let usual = [
        "generate",
        "a red circle",
        "--size",
        "96x64",
        "--steps",
        "2",
        "--seed",
        "1",
    ];
    let with_file = ["--text-encoder", "gemma.gguf", "--out", "b.png"];
    here.sana_on(&folder, &[&usual[..], &with_file].concat())
        .quiet_success();
    let [a, b] = ["a.png", "b.png"].map(|name| here.image(name));
    let worst = a
        .as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(worst <= Some(1), "{worst:?}");
    assert!(
        here.sana(&["inspect", "b.png"])
            .quiet_success()
            .contains("gemma.gguf")
    );
    let without = here.sana_on(&folder, &usual);
    without.fails(1, &["no weights in"]);

    let said = here.sana(&[
        "inspect",
        "mine",
        "--text-encoder",
        "gemma.gguf",
        "--check",
        "--json",
    ]);
    let json: Value = serde_json::from_str(&said.quiet_success()).unwrap();
    assert_eq!(json["misfits"].as_array().map(Vec::len), Some(0), "{json}");
}

#[test]
fn another_encoder_is_refused() {
    let here = Workplace::new();
    write_gguf(
        &here,
        "other.gguf",
        ("gemma2.block_count", GgufValue::U32(26)),
    );
    let refused = here.generate(&["--text-encoder", "other.gguf"]);
    let reason = "other.gguf is not the text encoder as GGUF: its gemma2.block_count is 26, but";
    refused.fails(1, &[reason]);
    let whole = fs::read(here.path("other.gguf")).unwrap();
    fs::write(here.path("cut.gguf"), &whole[..whole.len() / 2]).unwrap();
    let refused = here.generate(&["--text-encoder", "cut.gguf"]);
    refused.fails(1, &["cut.gguf is not a usable GGUF file: tensor"]);
    here.generate(&["--text-encoder", "none.gguf"])
        .fails(1, &["none.gguf"]);
    // It is no transformer.
    let refused = here.generate(&["--transformer", "other.gguf"]);
    refused.fails(1, &["other.gguf"]);
}
