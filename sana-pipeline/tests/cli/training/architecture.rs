//! New transformers of a given architecture, and images of several sizes.

use super::*;

const AUTOENCODER: &str = r#"{
    "encoder_block_out_channels": [4, 8, 8], "decoder_block_out_channels": [4, 8, 8],
    "encoder_layers_per_block": [1, 1, 1], "decoder_layers_per_block": [1, 1, 1],
    "encoder_qkv_multiscales": [[], [], []], "decoder_qkv_multiscales": [[], [], []],
    "latent_channels": 4
}"#;

const TRANSFORMER: &str = r#"{
    "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_attention_heads": 2,
    "attention_head_dim": 8, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8,
    "cross_attention_dim": 16, "caption_channels": 24, "sample_size": 8
}"#;

const TEXT_ENCODER: &str = r#"{
    "model_type": "gemma2", "vocab_size": 7, "hidden_size": 24, "intermediate_size": 32,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "query_pre_attn_scalar": 8
}"#;

/// The configs above and an autoencoder in `ae`, which encodes 4 x 4 pixels to a latent.
fn workplace() -> Workplace {
    let here = Workplace::new();
    for (name, json) in [
        ("autoencoder", AUTOENCODER),
        ("transformer", TRANSFORMER),
        ("text", TEXT_ENCODER),
    ] {
        std::fs::write(here.path(name).with_extension("json"), json).unwrap();
    }
    let more = ["--config", "autoencoder.json", "--size", "32"];
    autoencoder_with(&here, "ae", &more).quiet_success();
    here
}

/// [`transformer`] with options in place of the small ones.
fn transformer_with(here: &Workplace, out: &str, more: &[&str]) -> Outcome {
    let start = ["train", "transformer", "--out", out, "--autoencoder", "ae"];
    let kept = SMALL.chunks(2).filter(|pair| !more.contains(&pair[0]));
    let kept: Vec<&str> = kept.flatten().copied().collect();
    here.sana(&[&start, &kept[..], &["--pool", "5"], more].concat())
}

fn json(here: &Workplace, file: &str) -> serde_json::Value {
    serde_json::from_slice(&here.bytes(file)).unwrap()
}

/// The networks are those of the configs, and the tokenizer is made from the captions of the data.
#[test]
fn a_transformer_of_ones_own() {
    let here = workplace();
    std::fs::create_dir(here.path("images")).unwrap();
    for (index, caption) in ["Zyzzyva zyzzyvas", "zyzzyva"].into_iter().enumerate() {
        let image = sana_pipeline::image::RgbImage::new(48, 32);
        let name = here.path(&format!("images/{index}.png"));
        sana_pipeline::image::save_png(&name, &image, &[]).unwrap();
        std::fs::write(name.with_extension("txt"), caption).unwrap();
    }
    let options = [
        "--size",
        "32,64x32",
        "--data",
        "images",
        "--config",
        "transformer.json",
        "--text-config",
        "text.json",
        "--vocab",
        "270",
        "--max-prompt-tokens",
        "20",
    ];
    let said = transformer_with(&here, "model", &options).quiet_success();
    assert!(!said.contains("sample_size"), "{said}");
    assert_eq!(json(&here, "model/state.json")["settings"]["size"], "64x32");
    assert_eq!(
        json(&here, "model/transformer/config.json")["caption_channels"],
        24
    );
    assert_eq!(
        json(&here, "model/transformer/config.json")["num_layers"],
        1
    );
    let text = json(&here, "model/text_encoder/config.json");
    assert_eq!(text["hidden_size"], 24);
    let tokenizer = json(&here, "model/tokenizer/tokenizer.json");
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    assert!((262..=270).contains(&vocab.len()), "{}", vocab.len());
    assert_eq!(text["vocab_size"], vocab.len());
    assert!(vocab.keys().any(|token| token.contains("zy")), "{vocab:?}");
    let index = json(&here, "model/model_index.json");
    assert_eq!(index["_sana"]["max_tokens"], 20);
    assert_eq!(index["_sana"]["variant"], serde_json::Value::Null);
    let model = here.path("model");
    here.sana_on(
        &model,
        &["generate", "zyzzyva", "--steps", "1", "--size", "64x32"],
    )
    .quiet_success();

    // The same command continues it, and another vocabulary is another model.
    let said = transformer_with(&here, "model", &options).quiet_success();
    assert!(said.contains("step 2 of 2"), "{said}");
    let other = [&options[..8], &["--vocab", "265"], &options[10..]].concat();
    transformer_with(&here, "model", &other).fails(1, &["the run of another Denoiser"]);
    let other = [&options[..10], &["--max-prompt-tokens", "9"]].concat();
    transformer_with(&here, "model", &other).fails(1, &["prompts is", "max_tokens"]);
}

/// Steps of several sizes; with one square the size is recorded as it always was.
#[test]
fn several_sizes() {
    let here = workplace();
    let networks = ["--config", "transformer.json", "--text-config", "text.json"];
    let sizes = ["--size", "32x32,64x32,32x64", "--steps", "6"];
    let said = transformer_with(&here, "model", &[&networks[..], &sizes].concat()).quiet_success();
    assert!(!said.contains("sample_size"), "{said}");
    let settings = &json(&here, "model/state.json")["settings"];
    assert_eq!(settings["size"], "32x32,64x32,32x64");
    assert_eq!(settings["pool"], 5);
    let one = ["--size", "64x64"];
    let said = transformer_with(&here, "square", &[&networks[..], &one].concat()).quiet_success();
    assert!(
        said.contains("note: the sample_size of the new transformer is 32 pixels"),
        "{said}"
    );
    assert_eq!(json(&here, "square/state.json")["settings"]["size"], 64);

    let more = ["--from", "ae", "--size", "32,64x32"];
    autoencoder_with(&here, "ae2", &more).quiet_success();
    for (sizes, expected) in [
        ("32,48x32", "--size 48x32 must be a positive multiple of 32"),
        ("32,0x32", "--size 0x32 must be"),
    ] {
        autoencoder_with(&here, "ae3", &["--size", sizes]).fails(1, &[expected]);
    }
    for (sizes, expected) in [
        ("32,32x32", "32 is in the list twice"),
        ("32,", "expected WIDTH"),
    ] {
        autoencoder_with(&here, "ae3", &["--size", sizes]).fails(2, &[expected]);
    }
}

/// The next images after some steps, recorded with the run.
#[test]
fn pools_that_are_renewed() {
    let here = workplace();
    let networks = [
        "--config",
        "transformer.json",
        "--text-config",
        "text.json",
        "--size",
        "32",
    ];
    let with =
        |out: &str, more: &[&str]| transformer_with(&here, out, &[&networks[..], more].concat());
    let renewed = ["--renew-every", "2", "--steps", "5"];
    with("renewed", &renewed).quiet_success();
    with("never", &["--steps", "5"]).quiet_success();
    let losses = |run: &str| -> Vec<String> {
        let log = String::from_utf8(here.bytes(&format!("{run}/log.csv"))).unwrap();
        let lines = log.lines().skip(1);
        let losses = lines.map(|line| line.split(',').nth(1).unwrap().to_owned());
        losses.collect()
    };
    let (renewed_losses, never) = (losses("renewed"), losses("never"));
    assert_eq!(renewed_losses.len(), 5);
    assert_eq!(renewed_losses[..2], never[..2]);
    assert_ne!(renewed_losses[2..], never[2..]);
    let renewal =
        |run: &str| json(&here, &format!("{run}/state.json"))["settings"]["renew_every"].clone();
    assert_eq!(
        (renewal("renewed"), renewal("never")),
        (2.into(), "never".into())
    );
    let more = ["--steps", "6"];
    with("renewed", &more).fails(1, &["renew_every is 2 there and \"never\" here"]);
    with("never", &[&more[..], &["--renew-every", "3"]].concat()).fails(1, &["renew_every is"]);
    with("run", &["--renew-every", "0"]).fails(2, &["--renew-every"]);

    std::fs::create_dir(here.path("images")).unwrap();
    for index in 0..3 {
        let image = sana_pipeline::image::RgbImage::new(32, 32);
        let name = here.path(&format!("images/{index}.png"));
        sana_pipeline::image::save_png(&name, &image, &[]).unwrap();
        std::fs::write(name.with_extension("txt"), "a field").unwrap();
    }
    let folder = ["--data", "images", "--renew-every", "1"];
    with("folder", &folder).fails(1, &["all 3 images of the data", "lower --pool"]);
    // A part of them is renewed.
    let start = [
        "train",
        "transformer",
        "--out",
        "folder",
        "--autoencoder",
        "ae",
        "--pool",
        "2",
    ];
    let small = ["--device", "flex", "--steps", "2", "--batch", "3"];
    here.sana(&[&start[..], &small, &networks, &folder].concat())
        .quiet_success();
}

#[test]
fn networks_that_do_not_fit() {
    let here = workplace();
    let small = ["--size", "32"];
    let with = |more: &[&str]| transformer_with(&here, "run", &[&small[..], more].concat());
    let transformer = ["--config", "transformer.json"];
    let text = ["--text-config", "text.json"];
    let channels = ["caption_channels", "24 channels", "hidden_size", "128"];
    with(&transformer).fails(1, &[&channels[..], &["--text-config"]].concat());
    let wide = ["(latent_channels)", "4 channels", "32 (in_channels)"];
    with(&text).fails(1, &wide);
    with(&[]).fails(1, &wide);
    let edited = |from: &str, to: &str| {
        assert!(TRANSFORMER.contains(from));
        std::fs::write(here.path("edited.json"), TRANSFORMER.replace(from, to)).unwrap();
        with(&[&text[..], &["--config", "edited.json"]].concat())
    };
    edited("\"out_channels\": 4", "\"out_channels\": 8").fails(1, &["gives 8 (out_channels)"]);
    edited(
        "\"sample_size\"",
        "\"guidance_embeds\": true, \"sample_size\"",
    )
    .fails(1, &["guidance_embeds", "not trained"]);
    edited("\"num_layers\": 1", "\"num_layers\": 0").fails(1, &["num_layers", "edited.json"]);
    edited("\"num_layers\": 1,", "\"num_layers\": 1").fails(1, &["edited.json"]);
    let huge = TEXT_ENCODER.replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 1000");
    let huge = huge.replace(
        "\"intermediate_size\": 32",
        "\"intermediate_size\": 2000000",
    );
    std::fs::write(here.path("huge.json"), huge).unwrap();
    with(&[&transformer[..], &["--text-config", "huge.json"]].concat()).fails(
        1,
        &["a text encoder of 144", "takes at least", "--ignore-memory"],
    );

    let both = [&transformer[..], &text].concat();
    for vocab in ["260", "0", "1048577"] {
        with(&[&both[..], &["--vocab", vocab]].concat())
            .fails(1, &["vocab must be in 261..=1048576, got"]);
    }
    with(&[&both[..], &["--max-prompt-tokens", "0"]].concat()).fails(2, &["1..=8192"]);
    for option in [
        &transformer[..],
        &text,
        &["--vocab", "300"],
        &["--max-prompt-tokens", "9"],
    ] {
        with(&[option, &["--from", "ae"]].concat()).fails(2, &[option[0], "--from"]);
    }
    with(&["--config", "none.json"]).fails(1, &["none.json"]);
    with(&["--text-config", "none.json"]).fails(1, &["none.json"]);
}
