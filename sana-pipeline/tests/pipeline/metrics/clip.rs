use std::path::{Path, PathBuf};

use sana_linear_attn::parity::{
    Fixture, assert_close, built_in_fixture_path, copy_folder, device, edit_tensor_file, tolerance,
    values,
};
use sana_pipeline::image::RgbImage;
use sana_pipeline::metrics::{Clip, MetricsError};
use serde_json::{Value, json};
use tempfile::TempDir;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");
const SIZES: [[u32; 2]; 4] = [[37, 23], [32, 32], [20, 45], [100, 61]];

fn folder() -> PathBuf {
    built_in_fixture_path(CRATE, "metrics/clip")
}

/// The images of the script of the reference outputs.
fn images() -> Vec<RgbImage> {
    let image = |[width, height]: [u32; 2]| {
        RgbImage::from_fn(width, height, |x, y| {
            let value =
                |channel: u32| ((x * 7 + y * 13 + channel * 50 + x * y % 31 * 5) % 256) as u8;
            [value(0), value(1), value(2)].into()
        })
    };
    SIZES.map(image).to_vec()
}

fn reference() -> (Fixture, Vec<String>) {
    let fixture = Fixture::open(CRATE, "metrics/clip.safetensors");
    let texts = fixture.metadata_list("texts");
    assert_eq!(texts.len(), 4);
    (fixture, texts)
}

#[test]
fn tokens_are_transformers() {
    let (fixture, texts) = reference();
    let clip = Clip::load(&folder(), &device()).unwrap();
    for (index, text) in texts.iter().enumerate() {
        let tokens = clip.tokens(text).unwrap();
        let ids: Vec<f64> = tokens.ids.iter().copied().map(f64::from).collect();
        assert_eq!(ids, fixture.values(&format!("ids.{index}")), "{text:?}");
        assert_eq!(tokens.dropped > 0, index == 3, "{text:?}");
    }
}

#[test]
fn features_and_scores_are_transformers() {
    let (fixture, texts) = reference();
    let clip = Clip::load(&folder(), &device()).unwrap();
    let images = images();
    let check = |name: &str, found: Vec<f32>| {
        let expected: Vec<f32> = fixture.values(name).iter().map(|v| *v as f32).collect();
        assert_close(name, &found, &expected, tolerance());
    };
    check("image_embeds", values(clip.image_features(&images)));
    check("text_embeds", values(clip.text_features(&texts).unwrap()));
    let all: Vec<f32> = images
        .iter()
        .flat_map(|image| {
            let copies = vec![image.clone(); texts.len()];
            clip.scores(&copies, &texts).unwrap()
        })
        .collect();
    // One of them is negative, and stays it.
    assert!(all.iter().any(|score| *score < -5.0), "{all:?}");
    check("logits", all);
    assert!((clip.scale() - 100.0).abs() < 1e-3);
    // Alone, a text is not padded.
    let alone = clip.scores(&images[..1], &texts[..1]).unwrap();
    let expected = fixture.values("logits")[0] as f32;
    assert!((alone[0] - expected).abs() < 1e-2, "{alone:?} {expected}");
    assert!(clip.scores::<&str>(&[], &[]).unwrap().is_empty());
    assert!(matches!(
        clip.scores(&images, &texts[..1]),
        Err(MetricsError::Pairs {
            images: 4,
            texts: 1
        })
    ));
}

/// A copy of the checkpoint with one of its files changed.
fn changed(file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&folder(), copy.path());
    edit(&copy.path().join(file), change);
    copy
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// `openai/clip-vit-large-patch14` has 2 as its end token, where the largest id is meant.
#[test]
fn files_of_older_versions() {
    let (fixture, texts) = reference();
    let copy = changed("config.json", |config| {
        config["text_config"]["eos_token_id"] = json!(2);
    });
    edit(&copy.path().join("preprocessor_config.json"), |config| {
        config["size"] = json!(32);
        config["crop_size"] = json!(32);
    });
    let clip = Clip::load(copy.path(), &device()).unwrap();
    let scores = clip.scores(&images(), &texts).unwrap();
    let expected = fixture.values("logits");
    let expected: Vec<f32> = (0..4).map(|index| expected[5 * index] as f32).collect();
    assert_close("scores", &scores, &expected, tolerance());
    assert_eq!(
        clip.resize(),
        "shorter side to 32, bicubic with antialiasing, centre crop 32x32"
    );
}

#[test]
fn checkpoints_that_are_not_usable() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 12] = [
        (
            "config.json",
            |c| c["projection_dim"] = json!(0),
            "projection_dim",
        ),
        (
            "config.json",
            |c| c["projection_dim"] = json!(11),
            "visual_projection.weight",
        ),
        (
            "config.json",
            |c| c["vision_config"]["num_attention_heads"] = json!(5),
            "5 heads",
        ),
        (
            "config.json",
            |c| c["vision_config"]["hidden_act"] = json!("selu"),
            "selu",
        ),
        (
            "config.json",
            |c| c["vision_config"]["num_channels"] = json!(1),
            "num_channels",
        ),
        (
            "config.json",
            |c| c["text_config"]["num_hidden_layers"] = json!(3),
            "layers.2",
        ),
        (
            "config.json",
            |c| c["text_config"]["vocab_size"] = json!(500),
            "vocab_size",
        ),
        (
            "config.json",
            |c| c["text_config"]["layer_norm_eps"] = json!(-1),
            "layer_norm_eps",
        ),
        (
            "preprocessor_config.json",
            |c| c["crop_size"] = json!(31),
            "31x31",
        ),
        (
            "preprocessor_config.json",
            |c| c["size"] = json!(16),
            "16x16",
        ),
        (
            "preprocessor_config.json",
            |c| c["resample"] = json!(0),
            "resample",
        ),
        (
            "preprocessor_config.json",
            |c| c["do_normalize"] = json!(false),
            "do_normalize",
        ),
    ];
    for (file, change, expected) in cases {
        let copy = changed(file, change);
        let error = Clip::load(copy.path(), &device()).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let copy = changed("tokenizer.json", |tokenizer| {
        tokenizer["added_tokens"] = json!([]);
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.remove("<|endoftext|>");
    });
    let error = Clip::load(copy.path(), &device()).unwrap_err();
    assert!(error.to_string().contains("<|endoftext|>"), "{error}");
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        let copy = changed("config.json", |_| {});
        std::fs::write(copy.path().join(file), "{").unwrap();
        let error = Clip::load(copy.path(), &device()).unwrap_err();
        assert!(matches!(error, MetricsError::Model { .. }), "{error}");
        std::fs::remove_file(copy.path().join(file)).unwrap();
        let error = Clip::load(copy.path(), &device()).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn weights_that_are_not_finite() {
    let copy = changed("config.json", |_| {});
    let file = copy.path().join("model.safetensors");
    edit_tensor_file(&file, "visual_projection.weight", |_, _| f32::NAN);
    let clip = Clip::load(copy.path(), &device()).unwrap();
    let error = clip.scores(&images()[..1], &["a"]).unwrap_err();
    assert!(matches!(error, MetricsError::NotFinite { .. }), "{error}");
}
