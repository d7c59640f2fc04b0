//! `sana train`: an autoencoder, a transformer on it, and on from there.

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
        (
            ["--flow-shift", "0"],
            "flow_shift must be in [1e-6, 1e6], got 0",
        ),
        (["--flow-shift", "1e7"], "flow_shift must be in [1e-6, 1e6]"),
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

const HUGE: &str = "4611686018427387904";

/// What cannot fit into memory is refused, and no allocation aborts.
#[test]
fn beyond_memory() {
    let here = Workplace::new();
    for (option, expected) in [
        (
            ["--batch", HUGE],
            "a batch of 4611686018427387904 images of 64 x 64 pixels takes",
        ),
        (["--batch", "100000000"], "--ignore-memory"),
        (
            ["--size", HUGE],
            "a batch of 3 images of 4611686018427387904 x",
        ),
        (["--size", "1048576"], "--ignore-memory"),
    ] {
        autoencoder_with(&here, "run", &option).fails(1, &[expected, "lower it"]);
    }
    autoencoder(&here, "ae", &[]).quiet_success();
    for option in [
        ["--batch", HUGE],
        ["--size", HUGE],
        ["--pool", HUGE],
        ["--pool", "100000000000000"],
    ] {
        let start = [
            "train",
            "transformer",
            "--out",
            "run",
            "--autoencoder",
            "ae",
        ];
        let kept = SMALL.chunks(2).filter(|pair| pair[0] != option[0]);
        let kept: Vec<&str> = kept.flatten().copied().collect();
        here.sana(&[&start[..], &kept, &option].concat())
            .fails(1, &["takes at least", "lower it"]);
    }
    // With --ignore-memory the batch that cannot be addressed is still an error.
    autoencoder_with(&here, "run", &["--batch", HUGE, "--ignore-memory"]).fails(1, &["lower it"]);
}

/// [`autoencoder`], with options in place of the small ones.
fn autoencoder_with(here: &Workplace, out: &str, more: &[&str]) -> Outcome {
    let start = ["train", "autoencoder", "--out", out];
    let kept = SMALL.chunks(2).filter(|pair| !more.contains(&pair[0]));
    let kept: Vec<&str> = kept.flatten().copied().collect();
    here.sana(&[&start, &kept[..], more].concat())
}

/// A learning rate that ends in infinity: an error of the step, and the last good state stays.
#[test]
fn a_run_that_diverges() {
    let here = Workplace::new();
    autoencoder(&here, "ae", &[]).quiet_success();
    let saved = here.bytes("ae/state.safetensors");
    for rate in ["1e4", "1e20", "1e38", "1e39", "1e300"] {
        let more = [
            "--steps",
            "6",
            "--warmup",
            "0",
            "--lr",
            rate,
            "--accept-changes",
        ];
        let outcome = autoencoder_with(&here, "ae", &more);
        if outcome.code != Some(0) {
            outcome.fails(1, &["diverged at step", "the last saved state is kept"]);
            assert_eq!(here.bytes("ae/state.safetensors"), saved, "{rate}");
        } else {
            assert_eq!(rate, "1e4", "{}", outcome.stdout);
            break;
        }
    }
    let outcome = autoencoder_with(&here, "new", &["--warmup", "0", "--lr", "1e30"]);
    outcome.fails(1, &["diverged at step"]);
    assert!(!here.path("new/state.safetensors").exists());
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

/// A checkpoint is not trained over, and two processes do not train in one folder.
#[test]
fn folders_of_others() {
    let here = Workplace::new();
    let model = here.copied_checkpoint("model");
    let index = here.bytes("model/model_index.json");
    autoencoder(&here, "model", &[]).fails(1, &["model_index.json", "--overwrite"]);
    assert_eq!(here.bytes("model/model_index.json"), index);
    assert!(!model.join("state.json").exists());
    autoencoder(&here, "model", &["--overwrite"]).quiet_success();
    // It is a run from then on; --overwrite starts it again.
    let said = autoencoder(&here, "model", &[]).quiet_success();
    assert!(said.contains("step 2 of 2"), "{said}");
    let said = autoencoder(&here, "model", &["--overwrite", "--seed", "4"]).quiet_success();
    assert!(said.contains("step 0 of 2"), "{said}");
    let log = std::fs::read_to_string(here.path("model/log.csv")).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");

    let _lock = FolderLock::take(&here.path("model")).unwrap();
    let owner = format!("another sana, process {},", std::process::id());
    autoencoder(&here, "model", &[]).fails(1, &["cannot train in the folder model", &owner]);
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

/// Whatever is given as the architecture is an error that names the file.
#[test]
fn any_json_as_the_architecture() {
    let here = Workplace::new();
    for json in [
        "",
        "null",
        "[]",
        "3",
        "\"x\"",
        "[[[[[[",
        "{\"latent_channels\": 0}",
        "{\"latent_channels\": -1}",
        "{\"latent_channels\": 1e300}",
        "{\"latent_channels\": 18446744073709551615}",
        "{\"in_channels\": 4}",
        "{\"scaling_factor\": 0}",
        "{\"encoder_block_out_channels\": []}",
        "{\"attention_head_dim\": 0}",
        "{\"encoder_layers_per_block\": [1, 1]}",
    ] {
        std::fs::write(here.path("config.json"), json).unwrap();
        let outcome = autoencoder(&here, "ae", &["--config", "config.json"]);
        outcome.fails(1, &[]);
    }
}

/// A log that leads to a device is refused before anything is written.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_is_not_a_file() {
    let here = Workplace::new();
    std::fs::create_dir(here.path("run")).unwrap();
    std::os::unix::fs::symlink("/dev/full", here.path("run/log.csv")).unwrap();
    autoencoder(&here, "run", &[]).fails(1, &["run/log.csv", "not a regular file"]);
}
