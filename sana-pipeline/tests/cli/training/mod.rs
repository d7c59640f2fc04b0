//! `sana train`: an autoencoder, a transformer on it, and on from there.

mod architecture;
mod refused;
mod sprites;

use sana_pipeline::FolderLock;

use super::support::*;

const SMALL: [&str; 8] = [
    "--device", "flex", "--size", "64", "--steps", "2", "--batch", "3",
];

fn autoencoder(here: &Workplace, out: &str, more: &[&str]) -> Outcome {
    let start = ["train", "autoencoder", "--out", out];
    here.sana(&[&start, &SMALL[..], more].concat())
}

fn transformer(here: &Workplace, out: &str, more: &[&str]) -> Outcome {
    let start = ["train", "transformer", "--out", out, "--autoencoder", "ae"];
    here.sana(&[&start, &SMALL[..], &["--pool", "5"], more].concat())
}

/// What comes out is a checkpoint, and a start for the next run.
#[test]
fn from_nothing_to_an_image() {
    let here = Workplace::new();
    let muon = ["--optimizer", "muon", "--replicas", "8"];
    let said = autoencoder(&here, "ae", &muon).quiet_success();
    assert!(said.contains("step 0 of 2"), "{said}");
    let said = transformer(&here, "model", &["--flow-shift", "2"]).quiet_success();
    assert!(said.ends_with("wrote model\n"), "{said}");
    for file in ["state.safetensors", "state.json", "log.csv", "loss.png"] {
        assert!(here.path("model").join(file).is_file(), "{file}");
    }
    let log = std::fs::read_to_string(here.path("model/log.csv")).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");

    let model = here.path("model");
    here.sana_on(&model, &["generate", "a red circle", "--steps", "2"])
        .quiet_success();
    assert!(here.path("sana.png").is_file());

    // The same command again has nothing left to do; another optimiser is refused.
    let said = transformer(&here, "model", &["--flow-shift", "2"]).quiet_success();
    assert!(said.contains("step 2 of 2"), "{said}");
    transformer(&here, "model", &["--optimizer", "muon"]).fails(1, &["is AdamW, not Muon"]);

    // From there on: the shift is the checkpoint's.
    transformer(&here, "next", &["--from", "model"]).quiet_success();
    let scheduler = std::fs::read_to_string(here.path("next/scheduler/scheduler_config.json"));
    let scheduler: serde_json::Value = serde_json::from_str(&scheduler.unwrap()).unwrap();
    assert_eq!(scheduler["flow_shift"], 2.0);
}

/// The text encoder of a checkpoint stays as it is while the transformer learns.
#[test]
fn the_transformer_alone() {
    let here = Workplace::new();
    autoencoder(&here, "ae", &[]).quiet_success();
    transformer(&here, "model", &[]).quiet_success();
    let frozen = ["--from", "model", "--freeze-text-encoder", "--lr", "0.1"];
    transformer(&here, "next", &frozen).quiet_success();
    let weights = |run: &str, file: &str| std::fs::read(here.path(run).join(file)).unwrap();
    let text_encoder = "text_encoder/model.safetensors";
    assert_eq!(
        weights("model", text_encoder),
        weights("next", text_encoder)
    );
    let transformer_file = "transformer/diffusion_pytorch_model.safetensors";
    assert_ne!(
        weights("model", transformer_file),
        weights("next", transformer_file)
    );

    transformer(&here, "next", &["--from", "model", "--lr", "0.1"])
        .fails(1, &["the run of another Denoiser", "is not trained there"]);
    transformer(&here, "other", &["--freeze-text-encoder"]).fails(2, &["--from"]);
}

/// A better decoder for the same latents: the encoder and the scaling factor stay.
#[test]
fn the_decoder_alone() {
    let here = Workplace::new();
    autoencoder(&here, "ae", &[]).quiet_success();
    let seed = ["--from", "ae", "--decoder-only", "--seed", "5"];
    autoencoder(&here, "better", &seed).quiet_success();
    let config = |run: &str| {
        let text = std::fs::read_to_string(here.path(run).join("vae/config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(config("ae"), config("better"));
    let weights = |run: &str| std::fs::read(here.path(run).join(WEIGHTS)).unwrap();
    assert_ne!(weights("ae"), weights("better"));
}

const WEIGHTS: &str = "vae/diffusion_pytorch_model.safetensors";

#[test]
fn an_architecture_of_ones_own() {
    let here = Workplace::new();
    let narrow = r#"{
        "encoder_block_out_channels": [8, 16, 32], "decoder_block_out_channels": [8, 16, 32],
        "encoder_layers_per_block": [1, 1, 1], "decoder_layers_per_block": [1, 1, 1],
        "encoder_qkv_multiscales": [[], [], []], "decoder_qkv_multiscales": [[], [], []],
        "latent_channels": 4
    }"#;
    std::fs::write(here.path("narrow.json"), narrow).unwrap();
    autoencoder(&here, "ae", &["--config", "narrow.json"]).quiet_success();
    let config = std::fs::read_to_string(here.path("ae/vae/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["latent_channels"], 4);
    autoencoder(&here, "b", &["--config", "none.json"]).fails(1, &["none.json"]);
    autoencoder(&here, "b", &["--config", "narrow.json", "--from", "ae"])
        .fails(2, &["--config", "--from"]);
    autoencoder(&here, "b", &["--decoder-only"]).fails(2, &["--from"]);
}

/// [`autoencoder`], with options in place of the small ones.
fn autoencoder_with(here: &Workplace, out: &str, more: &[&str]) -> Outcome {
    let start = ["train", "autoencoder", "--out", out];
    let kept = SMALL.chunks(2).filter(|pair| !more.contains(&pair[0]));
    let kept: Vec<&str> = kept.flatten().copied().collect();
    here.sana(&[&start, &kept[..], more].concat())
}

/// Other settings are refused with what differs, or recorded; nothing is ignored.
#[test]
fn a_run_keeps_its_settings() {
    let here = Workplace::new();
    autoencoder(&here, "ae", &["--replicas", "2"]).quiet_success();
    for (option, expected) in [
        (["--batch", "2"], "batch is 3 there and 2 here"),
        (["--seed", "7"], "seed is 0 there and 7 here"),
        (["--size", "32"], "size is 64 there and 32 here"),
        (["--lr", "0.1"], "learning_rate is 0.001 there and 0.1 here"),
        (["--ema", "0.5"], "ema_decay is 0.999 there and 0.5 here"),
        (["--replicas", "5"], "replicas is 2 there and 5 here"),
        (
            ["--latent-noise", "0.3"],
            "latent_noise is 0.1 there and 0.3 here",
        ),
    ] {
        autoencoder_with(&here, "ae", &option).fails(1, &[expected, "--accept-changes", "--from"]);
    }
    let more = ["--steps", "3", "--batch", "2", "--accept-changes"];
    let said = autoencoder_with(&here, "ae", &more).quiet_success();
    assert!(said.contains("note: batch changes from 3 to 2"), "{said}");
    let state = std::fs::read_to_string(here.path("ae/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["settings"]["replicas"], 2);
    assert_eq!(state["settings"]["batch"], 2);
    assert_eq!(state["changes"][1]["name"], "batch");

    transformer(&here, "model", &[]).quiet_success();
    transformer(&here, "model", &["--flow-shift", "2"])
        .fails(1, &["flow_shift is 3.0 there and 2.0 here"]);
    transformer(&here, "model", &["--caption-dropout", "0.5"]).fails(1, &["caption_dropout"]);
    autoencoder(&here, "ae2", &["--seed", "9"]).quiet_success();
    let start = [
        "train",
        "transformer",
        "--out",
        "model",
        "--autoencoder",
        "ae2",
    ];
    here.sana(&[&start, &SMALL[..], &["--pool", "5"]].concat())
        .fails(1, &["autoencoder is"]);
}

/// Asked again, a finished run writes what is missing.
#[test]
fn a_finished_run_is_completed() {
    let here = Workplace::new();
    autoencoder(&here, "ae", &[]).quiet_success();
    transformer(&here, "model", &[]).quiet_success();
    let files = [
        "ae/vae/config.json",
        "ae/loss.png",
        "model/model_index.json",
        "model/vae/diffusion_pytorch_model.safetensors",
        "model/transformer/diffusion_pytorch_model.safetensors",
        "model/scheduler/scheduler_config.json",
        "model/loss.png",
    ];
    let before = files.map(|file| here.bytes(file));
    for file in files {
        std::fs::remove_file(here.path(file)).unwrap();
    }
    autoencoder(&here, "ae", &[]).quiet_success();
    let said = transformer(&here, "model", &[]).quiet_success();
    assert!(said.ends_with("wrote model\n"), "{said}");
    for (file, before) in files.into_iter().zip(before) {
        assert!(here.bytes(file) == before, "{file}");
    }
    std::fs::remove_file(here.path("ae/log.csv")).unwrap();
    autoencoder(&here, "ae", &[]).quiet_success();
}

/// A folder of images: each once in the pool, those without a caption named.
#[test]
fn images_of_ones_own() {
    let here = Workplace::new();
    std::fs::create_dir(here.path("images")).unwrap();
    for (index, caption) in ["a", "b", "c"].into_iter().enumerate() {
        let image = sana_pipeline::image::RgbImage::new(64, 64);
        let name = format!("images/{index}.png");
        sana_pipeline::image::save_png(&here.path(&name), &image, &[]).unwrap();
        if index != 1 {
            std::fs::write(here.path(&format!("images/{index}.txt")), caption).unwrap();
        }
    }
    autoencoder(&here, "ae", &[]).quiet_success();
    let outcome = transformer(&here, "model", &["--data", "images"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let warning = "warning: 1 of 3 images are left out, without a caption that can be read:\n  \
                   \"images/1.png\": images/1.txt: ";
    assert!(outcome.stderr.contains(warning), "{}", outcome.stderr);
    let note = "note: the pool has the 2 images of the data, each once";
    assert!(outcome.stdout.contains(note), "{}", outcome.stdout);
}

/// The limit that a model trained in f16 needs is kept, whatever file is loaded and written.
#[test]
fn the_f16_clamp_is_kept() {
    let here = Workplace::new();
    let model = here.copied_checkpoint("model");
    let weights = model.join("transformer/diffusion_pytorch_model.safetensors");
    let f16 = model.join("transformer/diffusion_pytorch_model.fp16.safetensors");
    let clamp = |run: &str| {
        let index = std::fs::read_to_string(here.path(run).join("model_index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let clamp = index["_sana"]["f16_clamp"].as_bool().unwrap_or(false);
        // And where the transformer alone is taken.
        let config = here.path(run).join("transformer/config.json");
        let config = std::fs::read_to_string(config).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(
            config["_sana"]["f16_clamp"].as_bool().unwrap_or(false),
            clamp
        );
        clamp
    };
    let train = |out: &str, from: &str| {
        let start = [
            "train",
            "transformer",
            "--out",
            out,
            "--autoencoder",
            "model",
        ];
        let more = ["--from", from, "--pool", "3", "--replicas", "1"];
        here.sana(&[&start, &SMALL[..], &more].concat())
            .quiet_success();
    };
    train("plain", "model");
    assert!(!clamp("plain"));
    std::fs::copy(weights, f16).unwrap();
    train("limited", "model");
    assert!(clamp("limited"));
    train("again", "limited");
    assert!(clamp("again"));
}
