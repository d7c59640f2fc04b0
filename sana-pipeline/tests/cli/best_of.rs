//! `sana generate --best-of`.

use std::fs;

use serde_json::Value;

use super::support::*;

fn table(here: &Workplace, name: &str) -> Value {
    serde_json::from_slice(&here.bytes(name)).unwrap()
}

/// A program that rates images by its own count, and notes whom it was asked about.
fn verifier(here: &Workplace, answer: &str) -> String {
    let script = format!(
        "n=0\nwhile read -r line; do n=$((n + 1)); echo \"$line\" >> asked; {answer}; done\n"
    );
    fs::write(here.path("rate.sh"), script).unwrap();
    "--verifier=command:sh rate.sh".to_owned()
}

fn asked(here: &Workplace) -> usize {
    let asked = fs::read_to_string(here.path("asked")).unwrap_or_default();
    asked.lines().count()
}

#[cfg(unix)]
#[test]
fn the_best_images_are_kept_and_made_again_alone() {
    let here = Workplace::new();
    // The later, the better: seeds 5 to 9.
    let rate = verifier(&here, "echo \"{\\\"score\\\": $n}\"");
    let options = ["--best-of=5", "--keep=2", "--seed=5", "--batch=2", &rate];
    let said = here.generate(&options).quiet_success();
    assert!(said.contains("0 of 5 images are rated"), "{said}");
    assert!(
        said.contains("wrote sana-0.png: seed 9, score 5\n"),
        "{said}"
    );
    assert!(
        said.contains("wrote sana-1.png: seed 8, score 4\n"),
        "{said}"
    );
    let candidates = ["5.png", "6.png", "7.png", "8.png", "9.png"];
    assert_eq!(here.files_in("sana-candidates"), candidates);
    let found = table(&here, "sana-best-of.json");
    assert_eq!(found["kept"], serde_json::json!([9, 8]));
    assert_eq!(found["prompt"], "a red circle");
    assert_eq!(found["candidates"][2]["seed"], 7);
    assert_eq!(found["candidates"][2]["rating"]["score"], 3.0);
    let questions = fs::read_to_string(here.path("asked")).unwrap();
    let first: Value = serde_json::from_str(questions.lines().next().unwrap()).unwrap();
    assert_eq!(first["prompt"], "a red circle");
    assert_eq!(first["image"], "sana-candidates/5.png");

    // The winner alone.
    assert_eq!(here.text("sana-0.png", "seed").as_deref(), Some("9"));
    here.generate(&["--seed=9", "--out=alone.png"])
        .quiet_success();
    assert_eq!(here.image("alone.png"), here.image("sana-0.png"));
    here.sana(&["generate", "--from-image=sana-0.png", "--out=again.png"])
        .quiet_success();
    assert_eq!(here.image("again.png"), here.image("sana-0.png"));
}

#[cfg(unix)]
#[test]
fn a_stopped_run_continues_and_asks_about_no_image_twice() {
    let here = Workplace::new();
    let stops = verifier(
        &here,
        "[ $n = 3 ] && exit 1; echo \"{\\\"yes\\\": $n, \\\"no\\\": 0}\"",
    );
    let options = ["--best-of=4", "--seed=1", &stops];
    here.generate(&options).fails(1, &["gave no answer"]);
    assert!(!here.path("sana.png").exists());
    let whole = table(&here, "sana-best-of.json");
    assert_eq!(whole["candidates"].as_array().unwrap().len(), 2);
    assert_eq!(asked(&here), 3);

    let made = here.bytes("sana-candidates/1.png");
    verifier(&here, "echo \"{\\\"yes\\\": 0, \\\"no\\\": $n}\"");
    let said = here.generate(&options).quiet_success();
    assert!(said.contains("2 of 4 images are rated"), "{said}");
    // Yes of seed 2 was 2, and the two rated now are no.
    assert!(
        said.contains("wrote sana.png: seed 2, yes 2, no 0\n"),
        "{said}"
    );
    assert_eq!(asked(&here), 5);
    assert_eq!(here.bytes("sana-candidates/1.png"), made);
    let said = here.generate(&options).quiet_success();
    assert!(said.contains("4 of 4 images are rated"), "{said}");
    assert_eq!(asked(&here), 5);

    // More of them, in pairs: six are compared as four.
    let more = ["--best-of=6", "--seed=1", &stops];
    let said = here.generate(&more).quiet_success();
    assert!(said.contains("4 of 6 are compared and 1 kept"), "{said}");
    assert_eq!(asked(&here), 7);
    assert_eq!(table(&here, "sana-best-of.json")["compared"], 4);

    // Other settings are other images.
    let other = ["--best-of=2", "--seed=1", "--guidance=2", &stops];
    here.generate(&other).quiet_success();
    assert_eq!(asked(&here), 9);
    assert_ne!(here.bytes("sana-candidates/1.png"), made);

    // Their ratings are not those of images that a stopped run made in their place.
    let other = ["--best-of=2", "--seed=1", "--guidance=3", &stops];
    verifier(&here, "exit 1");
    here.generate(&other).fails(1, &["gave no answer"]);
    assert_eq!(asked(&here), 10);
    verifier(&here, "echo \"{\\\"yes\\\": $n, \\\"no\\\": 0}\"");
    let said = here.generate(&other).quiet_success();
    assert!(said.contains("0 of 2 images are rated"), "{said}");
    assert_eq!(asked(&here), 12);
}

#[cfg(feature = "scenes-model")]
#[test]
fn scenes_are_rated_by_their_evaluator() {
    let here = Workplace::new();
    let options = [
        "--best-of=3",
        "--verifier=scenes",
        "--seed=0",
        "--steps=8",
        "--device=flex",
    ];
    let said = here.sana(&[&["generate", "a red circle", "--out=a.png"][..], &options].concat());
    let said = said.quiet_success();
    let found = table(&here, "a-best-of.json");
    let scores: Vec<f64> = found["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["rating"]["score"].as_f64().unwrap())
        .collect();
    assert_eq!(scores.len(), 3);
    let best = scores.iter().position(|score| *score == 1.0).unwrap_or(0);
    assert!(
        said.contains(&format!("wrote a.png: seed {best}, score")),
        "{said}"
    );
    assert_eq!(
        here.bytes("a.png"),
        here.bytes(&format!("a-candidates/{best}.png"))
    );
}

#[test]
fn little_things_are_rated_by_their_evaluator() {
    let here = Workplace::new();
    crate::support::write_sprites(&here.path("sheet"));
    let verifier = "--verifier=sprites:sheet";
    let generate = |prompt, options: &[&str]| {
        here.sana_on_fixture(&[&["generate", prompt, "--best-of=2", verifier], options].concat())
    };
    generate("a cat", &[]).fails(
        1,
        &["cannot rate images of \"a cat\"", "the name of a thing"],
    );
    let options = ["--steps=1", "--size=64", "--seed=0"];
    generate("a disc left of a bar", &options).quiet_success();
    let found = table(&here, "sana-best-of.json");
    assert_eq!(found["verifier"], "sprites:sheet");
    // Noise shows no things.
    for one in found["candidates"].as_array().unwrap() {
        assert_eq!(one["rating"]["score"], 0.0, "{one}");
    }
    here.sana_on_fixture(&[
        "generate",
        "a disc",
        "--best-of=2",
        "--verifier=sprites:none",
    ])
    .fails(1, &["none/sprites.json", "docs/tools/sprites/fetch"]);
}

/// The scores are those of `sana metrics clip-score`.
#[cfg(feature = "metrics")]
#[test]
fn clip_rates_images() {
    let here = Workplace::new();
    let clip =
        sana_linear_attn::parity::built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "metrics/clip");
    let clip = clip.to_str().unwrap();
    let verifier = format!("--verifier=clip:{clip}");
    let options = ["--best-of=3", "--keep=3", "--seed=4", &verifier];
    here.generate(&options).quiet_success();
    let found = table(&here, "sana-best-of.json");
    let prompts = r#"{"4": "a red circle", "5": "a red circle", "6": "a red circle"}"#;
    fs::write(here.path("prompts.json"), prompts).unwrap();
    let measured = [
        "metrics",
        "clip-score",
        "--clip",
        clip,
        "--prompts=prompts.json",
        "--images=sana-candidates",
        "--out=scores.jsonl",
        "--device=flex",
    ];
    here.sana(&measured).quiet_success();
    let lines = fs::read_to_string(here.path("scores.jsonl")).unwrap();
    let scores: Vec<Value> = lines
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let score = |seed: &Value| {
        let mut all = scores.iter();
        let found = all
            .find(|one| one["seed"] == seed.to_string().as_str())
            .unwrap();
        found["score"].as_f64().unwrap()
    };
    for one in found["candidates"].as_array().unwrap() {
        let rating = one["rating"]["score"].as_f64().unwrap();
        assert!((rating - score(&one["seed"])).abs() < 1e-3, "{one}");
    }
    let kept: Vec<f64> = found["kept"]
        .as_array()
        .unwrap()
        .iter()
        .map(score)
        .collect();
    assert!(
        kept[0] >= kept[1] && kept[1] >= kept[2] && kept[0] > kept[2],
        "{kept:?}"
    );
}

#[test]
fn what_is_refused() {
    let here = Workplace::new();
    let scenes = "--verifier=scenes";
    here.generate(&["--best-of=2"]).fails(2, &["--verifier"]);
    here.generate(&[scenes]).fails(2, &["--best-of"]);
    here.generate(&["--best-of=0", scenes])
        .fails(2, &["--best-of"]);
    here.generate(&["--best-of=2", "--count=2", scenes])
        .fails(2, &["--count"]);
    here.generate(&["--best-of=2", "--keep=3", scenes])
        .fails(1, &["--keep 3 is more than", "--best-of 2"]);
    for wrong in [
        "--verifier=command:",
        "--verifier=sprites:",
        "--verifier=clip:",
        "--verifier=magic",
    ] {
        here.generate(&["--best-of=2", wrong])
            .fails(2, &["clip:DIR", "command:PROGRAM"]);
    }
    #[cfg(feature = "metrics")]
    here.generate(&["--best-of=2", "--verifier=clip:folder"])
        .fails(1, &["folder/config.json"]);
    here.sana_on_fixture(&["generate", "a cat", "--best-of=2", scenes])
        .fails(1, &["cannot rate images of \"a cat\""]);
    here.generate(&["--best-of=2", "--verifier=command:./none"])
        .fails(1, &["cannot start the verifier ./none"]);
    assert!(!here.path("sana.png").exists());
}
