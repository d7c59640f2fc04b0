//! `sana grow`: checkpoints of another depth.

use std::fs;

use sana_linear_attn::{SanaTransformerConfig, Weights};
use sana_pipeline::FolderLock;

use super::support::*;

fn layers(here: &Workplace, model: &str) -> usize {
    let config = here.path(model).join("transformer/config.json");
    SanaTransformerConfig::from_file(&config)
        .unwrap()
        .num_layers
}

/// The whole checkpoint is there, and with all blocks kept it makes the same image.
#[test]
fn a_grown_model_begins_with_the_same_images() {
    let here = Workplace::new();
    let model = checkpoint();
    let model = model.to_str().unwrap();
    let grow = [
        "grow",
        model,
        "--layers",
        "5",
        "--keep",
        "3",
        "--no-qk-norm",
    ];
    let said = here.sana(&[&grow[..], &["--out", "grown"]].concat());
    let said = said.quiet_success();
    let expected = "wrote grown: sana with 5 blocks instead of 3, 3 of them copies\n";
    assert_eq!(said, expected);
    assert_eq!(layers(&here, "grown"), 5);
    let folders = [
        "model_index.json",
        "scheduler",
        "text_encoder",
        "tokenizer",
        "transformer",
    ];
    assert_eq!(here.files_in("grown"), [&folders[..], &["vae"]].concat());
    let tokenizer = "tokenizer/tokenizer.json";
    let before = fs::read(checkpoint().join(tokenizer)).unwrap();
    assert_eq!(here.bytes(&format!("grown/{tokenizer}")), before);
    let inspected = here.sana(&["inspect", "grown"]).quiet_success();
    assert!(inspected.contains("with 5 blocks"), "{inspected}");

    let options = [
        "generate",
        "a red circle",
        "--size",
        "96x64",
        "--steps",
        "2",
    ];
    let options = [&options[..], &["--seed", "3"]].concat();
    here.sana_on_fixture(&[&options[..], &["--out", "small.png"]].concat())
        .quiet_success();
    let out = [&options[..], &["--out", "large.png"]].concat();
    here.sana_on(&here.path("grown"), &out).quiet_success();
    assert_eq!(here.image("small.png"), here.image("large.png"));
}

/// The built-in model grows in each way, and training continues from it.
#[test]
fn the_built_in_model_grows_and_is_trained() {
    let here = Workplace::new();
    let grow = |out: &str, more: &[&str]| {
        here.sana(&[&["grow", "--layers", "14", "--out", out][..], more].concat())
    };
    let said = grow("partial", &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.starts_with("note: the model has no norms"),
        "{}",
        said.stderr
    );
    assert!(
        said.stdout.contains("14 blocks instead of 7, 5 of them"),
        "{}",
        said.stdout
    );
    for strategy in ["cyclic", "block", "interpolation", "progressive"] {
        grow(strategy, &["--strategy", strategy, "--no-qk-norm"]).quiet_success();
        assert_eq!(layers(&here, strategy), 14);
    }
    let train = [
        "train",
        "transformer",
        "--from",
        "partial",
        "--autoencoder",
        "partial",
    ];
    let small = [
        "--steps", "2", "--batch", "2", "--pool", "3", "--size", "64",
    ];
    let rest = ["--freeze-text-encoder", "--out", "next", "--device", "flex"];
    here.sana(&[&train[..], &small, &rest].concat())
        .quiet_success();
    assert_eq!(layers(&here, "next"), 14);
    let inspected = here.sana(&["inspect", "next"]).quiet_success();
    assert!(inspected.contains("with 14 blocks"), "{inspected}");
}

#[test]
fn depths_and_folders_that_are_refused() {
    let here = Workplace::new();
    let grow = |more: &[&str]| here.sana(&[&["grow", "--out", "new"][..], more].concat());
    grow(&["--layers", "5"]).fails(1, &["cannot grow to 5 blocks", "at least 6"]);
    grow(&["--layers", "9", "--keep", "8"]).fails(1, &["cannot keep 8", "1 to 7"]);
    grow(&["--layers", "9", "--strategy", "block"]).fails(1, &["such as 14"]);
    grow(&["none", "--layers", "9"]).fails(1, &["none"]);
    grow(&["--layers", "0"]).fails(2, &["--layers"]);
    assert_eq!(here.files_in("new"), Vec::<String>::new());

    let model = here.copied_checkpoint("model");
    let model = model.to_str().unwrap();
    let onto = |out: &str| here.sana(&["grow", model, "--layers", "6", "--out", out]);
    onto("model").fails(1, &["model holds a checkpoint already"]);
    onto("model/transformer").fails(1, &["holds a checkpoint already"]);
    let lock = FolderLock::take(&here.path("new")).unwrap();
    onto("new").fails(1, &["new", "another sana"]);
    drop(lock);
    assert_eq!(layers(&here, "model"), 3);
}

/// The most important blocks, as they were: with all of them, the model is the same.
#[test]
fn a_pruned_model_has_the_blocks_that_matter() {
    let here = Workplace::new();
    fs::write(
        here.path("p.txt"),
        "a red circle\n\nthree blue squares\na cat\n",
    )
    .unwrap();
    let prune = |keep: &str, out: &str, more: &[&str]| {
        let model = checkpoint();
        let start = [
            "prune",
            model.to_str().unwrap(),
            "--prompts",
            "p.txt",
            "--steps",
            "2",
        ];
        let rest = ["--keep", keep, "--out", out, "--device", "flex"];
        here.sana(&[&start[..], &rest, more].concat())
    };
    let said = prune("2", "pruned", &[]).quiet_success();
    assert!(said.starts_with("block  importance\n    0 "), "{said}");
    assert_eq!(said.matches("left out").count(), 1, "{said}");
    assert!(
        said.ends_with("wrote pruned: sana with 2 of 3 blocks\n"),
        "{said}"
    );
    assert_eq!(layers(&here, "pruned"), 2);
    let table = fs::read_to_string(here.path("pruned/block_importance.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(rows[0], ["block", "importance", "kept"]);
    assert_eq!(rows.len(), 4);
    let value = |row: &[&str]| -> f64 { row[1].parse().unwrap() };
    let least = rows[1..]
        .iter()
        .min_by(|a, b| value(a).total_cmp(&value(b)))
        .unwrap();
    for row in &rows[1..] {
        assert!(value(row) > 0.0 && value(row) < 2.0, "{table}");
        assert_eq!(row[2] == "false", row == least, "{table}");
    }
    // The size of a batch changes nothing but rounding, and the result loads.
    let said = prune("2", "again", &["--batch", "1"]).quiet_success();
    assert_eq!(said.matches("left out").count(), 1, "{said}");
    let weights = "transformer/diffusion_pytorch_model.safetensors";
    assert_eq!(
        here.bytes(&format!("pruned/{weights}")),
        here.bytes(&format!("again/{weights}"))
    );
    let options = [
        "generate",
        "a red circle",
        "--size",
        "96x64",
        "--steps",
        "2",
    ];
    here.sana_on(&here.path("pruned"), &options).quiet_success();

    prune("3", "all", &[]).quiet_success();
    let open = |path: &std::path::Path| Weights::open_file(path).unwrap();
    let before = open(&checkpoint().join(weights));
    let all = open(&here.path("all").join(weights));
    assert_eq!(all.names().count(), before.names().count());
    for name in before.names() {
        assert_eq!(all.bytes(name), before.bytes(name), "{name}");
    }
    prune("2", "all", &[]).fails(1, &["holds a checkpoint already"]);
    prune("4", "more", &[]).fails(1, &["3"]);
    fs::write(here.path("p.txt"), "\n").unwrap();
    prune("2", "none", &[]).fails(1, &["p.txt holds no prompt"]);
    fs::rename(here.path("p.txt"), here.path("p.txt.old")).unwrap();
    prune("2", "none", &[]).fails(1, &["cannot read p.txt"]);
    assert!(!here.path("none").exists() && !here.path("more").exists());
}

/// What a line of prompts asks for besides its prompt would have no effect.
#[test]
fn prompts_to_prune_by_have_no_options() {
    let here = Workplace::new();
    let lines = "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"steps\": 3}\n";
    fs::write(here.path("p.jsonl"), lines).unwrap();
    here.sana(&[
        "prune",
        "--prompts",
        "p.jsonl",
        "--keep",
        "2",
        "--out",
        "new",
    ])
    .fails(1, &["options have no effect", "2"]);
    assert!(!here.path("new").exists());
}
