use std::process::Stdio;

use serde_json::Value;

use crate::support::{Workplace, checkpoint};

#[test]
fn help_has_examples() {
    let here = Workplace::new();
    let mut commands = vec![
        "generate", "inspect", "convert", "encode", "decode", "evaluate", "init", "grow", "prune",
        "train", "bench", "devices",
    ];
    if cfg!(feature = "metrics") {
        commands.push("metrics");
    }
    if cfg!(feature = "serve") {
        commands.push("serve");
    }
    let help = here.sana(&["--help"]).quiet_success();
    for command in commands {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} in {help}"
        );
        let help = here.sana(&[command, "--help"]).quiet_success();
        assert!(help.contains(&format!("Usage: sana {command}")), "{help}");
        let examples = help.split("Examples:").nth(1);
        assert!(
            examples.is_some_and(|text| text.contains(&format!("  sana {command}"))),
            "{help}"
        );
    }
    let version = here.sana(&["--version"]).quiet_success();
    assert_eq!(version, format!("sana {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn inspect_a_checkpoint() {
    let here = Workplace::new();
    let folder = checkpoint();
    let folder = folder.to_str().unwrap();
    let said = here.sana(&["inspect", folder]).quiet_success();
    for part in [
        folder,
        "SanaPipeline",
        "flow-dpm",
        "Gemma2Model",
        "AutoencoderDC",
        "f32",
        "memory",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let json: Value =
        serde_json::from_str(&here.sana(&["inspect", folder, "--json"]).quiet_success()).unwrap();
    assert_eq!(json["pipeline"], "SanaPipeline");
    assert_eq!(json["parts"].as_array().unwrap().len(), 5);
    here.sana(&["inspect", "none"])
        .fails(1, &["no folder none"]);
}

#[test]
fn inspect_an_image() {
    let here = Workplace::new();
    here.generate(&["--seed", "9", "--no-instruction"])
        .quiet_success();
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    let command = "sana generate 'a red circle' --seed 9 --steps 2 --guidance 4.5 --solver flow-dpm \
                   --size 96x64 --no-instruction --model ";
    assert!(said.contains(command), "{said}");
    let command = "/pipeline/sana --device flex --dtype f32\n";
    assert!(said.replace('\'', "").ends_with(command), "{said}");
    assert!(said.contains("Software       sana "), "{said}");
    let json = here
        .sana(&["inspect", "sana.png", "--json"])
        .quiet_success();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["prompt"], "a red circle");
    assert_eq!(json["seed"], "9");

    let bare = sana_pipeline::image::RgbImage::new(2, 2);
    sana_pipeline::image::save_png(&here.path("bare.png"), &bare, &[]).unwrap();
    here.sana(&["inspect", "bare.png"])
        .fails(1, &["bare.png does not say how it was made"]);
    std::fs::write(here.path("text.txt"), "hello").unwrap();
    here.sana(&["inspect", "text.txt"]).fails(1, &["text.txt"]);
}

#[test]
fn evaluate_scores_any_model() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("small");
    let config = folder.join("transformer/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let smaller = text.replace("\"sample_size\": 32", "\"sample_size\": 2");
    assert_ne!(smaller, text);
    std::fs::write(&config, smaller).unwrap();

    let evaluate = |options: &[&str]| {
        let usual = ["evaluate", "--prompts", "2", "--steps", "1"];
        here.sana_on(&folder, &[&usual, options].concat())
            .quiet_success()
    };
    let json: Value = serde_json::from_str(&evaluate(&["--json"])).unwrap();
    let categories = json["categories"].as_array().unwrap();
    assert_eq!(categories.len(), 6);
    assert!(
        categories.iter().all(|category| category["total"] == 2),
        "{json}"
    );
    let table = evaluate(&["--batch", "5"]);
    assert!(table.contains("attribute binding"), "{table}");
    assert!(table.contains("overall"), "{table}");
    let reconstructed = here
        .sana_on(
            &folder,
            &["evaluate", "--prompts", "1", "--autoencoder", "--json"],
        )
        .quiet_success();
    let json: Value = serde_json::from_str(&reconstructed).unwrap();
    assert!(json["psnr"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(json["categories"].as_array().unwrap().len(), 6);
    here.sana_on_fixture(&["evaluate", "--prompts", "0"])
        .fails(2, &["--prompts", "1..=10000"]);
    here.sana_on(&folder, &["evaluate", "--steps", "0"])
        .fails(2, &["--steps", "1..=10000"]);
}

#[test]
fn evaluate_scores_scenes_of_sprites() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("small");
    let config = folder.join("transformer/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let smaller = text.replace("\"sample_size\": 32", "\"sample_size\": 2");
    std::fs::write(&config, smaller).unwrap();
    crate::support::write_sprites(&here.path("sheet"));
    let evaluate = |options: &[&str]| {
        let usual = ["evaluate", "--sprites", "sheet", "--prompts", "4"];
        here.sana_on(&folder, &[&usual, options].concat())
            .quiet_success()
    };
    let json: Value = serde_json::from_str(&evaluate(&["--steps", "1", "--json"])).unwrap();
    let categories = json["categories"].as_array().unwrap();
    assert_eq!(categories.len(), 5);
    let totals = |name: &str| {
        let mut found = categories.iter();
        let found = found.find(|found| found["category"] == name).unwrap();
        found["total"].as_u64().unwrap()
    };
    // One prompt in four has a relation.
    assert_eq!((totals("all"), totals("position")), (4, 1), "{json}");
    assert!(
        categories[0]["interval"][1].as_f64().unwrap() > 0.0,
        "{json}"
    );
    let table = evaluate(&["--autoencoder"]);
    assert!(table.contains("backdrop"), "{table}");
    assert!(table.contains("PSNR"), "{table}");
    let listed = evaluate(&["--list-prompts"]);
    assert_eq!(listed.lines().count(), 4);
    assert!(listed.contains("\"name\":\"sprites-0\""), "{listed}");
    here.sana_on(&folder, &["evaluate", "--sprites", "nowhere"])
        .fails(1, &["nowhere", "docs/tools/sprites/fetch"]);
}

#[test]
fn init_knows_its_variants() {
    let here = Workplace::new();
    here.sana(&["init", "--variant", "sana-9b", "--out", "a"])
        .fails(2, &["sana-9b", "sana-1600m-512px", "sana-sprint-0.6b"]);
    here.sana(&["init", "--out", "a"]).fails(2, &["--variant"]);
    assert!(here.files().is_empty());
}

#[cfg(feature = "scenes-model")]
#[test]
fn init_leaves_checkpoints_alone() {
    let here = Workplace::new();
    here.copied_checkpoint("mine");
    here.sana(&["init", "--variant", "sana-600m-512px", "--out", "mine"])
        .fails(1, &["mine holds a checkpoint already"]);
    assert_eq!(here.files(), ["mine"]);
}

#[cfg(not(feature = "scenes-model"))]
#[test]
fn init_needs_the_tokenizer_of_the_built_in_model() {
    let here = Workplace::new();
    here.sana(&["init", "--variant", "sana-600m-512px", "--out", "a"])
        .fails(1, &["tokenizer", "scenes-model"]);
}

/// A reader that goes away is no error, and no reason to stop.
#[test]
fn a_closed_pipe_stops_nothing() {
    let here = Workplace::new();
    let folder = checkpoint();
    let folder = folder.to_str().unwrap();
    let generate = [
        "generate", "a", "--size", "32x32", "--steps", "1", "--model", folder,
    ];
    for arguments in [
        &["inspect", folder][..],
        &[&generate[..], &["--device", "flex"]].concat(),
    ] {
        let mut child = here
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert!(output.status.success());
    }
    assert_eq!(here.files(), ["sana.png"]);
}

#[test]
fn prompts_of_the_evaluation_are_listed() {
    let here = Workplace::new();
    let said = here
        .sana(&["evaluate", "--prompts=2", "--list-prompts"])
        .quiet_success();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[0]["name"], "single-object-0");
    assert_eq!(lines[11]["name"], "attribute-binding-1");
}
