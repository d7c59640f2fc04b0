//! `sana train`: an autoencoder, a transformer on it, and on from there.

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

/// What cannot work is refused before images are drawn and encoded.
#[test]
fn options_out_of_range() {
    let here = Workplace::new();
    for (option, message) in [
        (["--batch", "0"], "batch must be at least 1, got 0"),
        (["--latent-noise", "NaN"], "latent_noise must be 0 or more"),
        (["--lr", "0"], "learning_rate must be positive, got 0"),
        (["--ema", "1"], "ema_decay must be in [0, 1), got 1"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--replicas", "0"], "replicas must be at least 1, got 0"),
        (
            ["--size", "48"],
            "--size 48 must be a positive multiple of 32",
        ),
        (
            ["--size", "0"],
            "--size 0 must be a positive multiple of 32",
        ),
        (["--data", "nowhere"], "nowhere"),
        (["--from", "nowhere"], "no autoencoder in nowhere"),
    ] {
        // The later of two equal options counts.
        let start = ["train", "autoencoder", "--out", "run", "--device", "flex"];
        let steps = ["--steps", "2", "--size", "64"];
        let kept = steps.chunks(2).filter(|pair| pair[0] != option[0]);
        let kept: Vec<&str> = kept.flatten().copied().collect();
        here.sana(&[&start[..], &kept, &option].concat())
            .fails(1, &[message]);
    }

    autoencoder(&here, "ae", &[]).quiet_success();
    for (option, message) in [
        (
            ["--caption-dropout", "2"],
            "caption_dropout must be in [0, 1], got 2",
        ),
        (["--flow-shift", "0"], "shift"),
        (
            ["--logit-std", "NaN"],
            "logit_std must be 0 or more, got NaN",
        ),
    ] {
        transformer(&here, "run", &option).fails(1, &[message]);
    }
    let sprint = sprint_checkpoint();
    transformer(&here, "run", &["--from", sprint.to_str().unwrap()])
        .fails(1, &["distilled", "Sana-Sprint", "base models"]);
}

#[test]
fn folders_that_cannot_be_written() {
    let here = Workplace::new();
    std::fs::write(here.path("file"), "").unwrap();
    autoencoder(&here, "file", &[]).fails(1, &["cannot access file"]);
    std::fs::create_dir_all(here.path("run/log.csv")).unwrap();
    autoencoder(&here, "run", &[]).fails(1, &["log.csv"]);
}
