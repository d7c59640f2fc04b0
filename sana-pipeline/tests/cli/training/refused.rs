//! Options, folders and files that are refused.

use super::*;

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
    for (form, component) in [("int8", "text_encoder"), ("uint4", "transformer")] {
        let to = format!("{form}:{component}");
        here.sana(&["quantize", "--to", &to, "--out", form])
            .quiet_success();
        let refused = format!("the {component} of {form} is in {form}, which is not trained");
        transformer(&here, "run", &["--from", form]).fails(1, &[&refused]);
    }
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
