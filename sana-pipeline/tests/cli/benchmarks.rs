//! `sana metrics geneval`, `dpg` and `image-reward`.

use std::fs;

use sana_pipeline::image::RgbImage;
use serde_json::Value;

use super::support::*;

/// A benchmark's images on the fixtures' checkpoint, 64x64 in one step.
fn generate(here: &Workplace, arguments: &[&str]) -> Outcome {
    let small = ["--size=64x64", "--steps=1"];
    here.sana_on_fixture(&[&["metrics"], arguments, &small].concat())
}

/// Prompts of GenEval, and their lines.
fn geneval_prompts(here: &Workplace) -> [String; 3] {
    let line = |tag: &str, prompt: &str| {
        format!("{{\"tag\": \"{tag}\", \"include\": [], \"prompt\": \"{prompt}\"}}")
    };
    let lines = [
        line("single_object", "a red circle"),
        line("counting", "two blue squares"),
        line("colors", "a green triangle"),
    ];
    fs::write(here.path("prompts.jsonl"), lines.join("\n") + "\n").unwrap();
    lines
}

#[test]
fn geneval_images_are_continued() {
    let here = Workplace::new();
    let lines = geneval_prompts(&here);
    let geneval = |options: &[&str]| {
        let usual = [
            "geneval",
            "generate",
            "prompts.jsonl",
            "--images=2",
            "--seed=7",
        ];
        generate(&here, &[&usual, options].concat())
    };
    // Batches go over prompts.
    let said = geneval(&["--out=all", "--batch=3"]).quiet_success();
    assert!(
        said.contains("6 images of 3 prompts, 0 of them exist"),
        "{said}"
    );
    assert_eq!(here.files_in("all"), ["00000", "00001", "00002"]);
    for (index, line) in lines.iter().enumerate() {
        let folder = format!("all/{index:05}");
        assert_eq!(
            here.files_in(&folder),
            ["grid.png", "metadata.jsonl", "samples"]
        );
        assert_eq!(
            here.files_in(&format!("{folder}/samples")),
            ["0000.png", "0001.png"]
        );
        let metadata = here.bytes(&format!("{folder}/metadata.jsonl"));
        assert_eq!(metadata, format!("{line}\n").as_bytes());
        for image in 0..2 {
            let name = format!("{folder}/samples/{image:04}.png");
            let seed = (7 + 2 * index + image).to_string();
            assert_eq!(here.text(&name, "seed"), Some(seed), "{name}");
        }
    }
    // One after the other, two shards make the same, and a lost image is made again: to the last bit
    // where images are made alone.
    geneval(&["--out=alone", "--batch=1"]).quiet_success();
    for shard in ["2/2", "1/2"] {
        geneval(&["--out=shards", "--batch=1", "--shard", shard]).quiet_success();
    }
    assert_eq!(here.files_in("shards"), here.files_in("all"));
    fs::remove_file(here.path("shards/00001/samples/0001.png")).unwrap();
    let said = geneval(&["--out=shards", "--batch=1"]).quiet_success();
    assert!(said.contains("5 of them exist"), "{said}");
    for index in 0..3 {
        for name in ["samples/0000.png", "samples/0001.png", "grid.png"] {
            let name = format!("{index:05}/{name}");
            let [one, other] =
                ["alone", "shards"].map(|folder| here.image(&format!("{folder}/{name}")));
            assert!(one == other, "{name}");
        }
    }
    geneval(&["--out=all", "--guidance=2"])
        .fails(1, &["all/00000/samples/0000.png", "another guidance"]);
    geneval(&["--out=x", "--shard=3/2"]).fails(2, &["--shard", "1/N"]);
    geneval(&["--out=x", "--count=4"]).fails(1, &["--count 4", "3 prompts"]);
    fs::write(here.path("prompts.jsonl"), "{\"tag\": \"colors\"}\n").unwrap();
    geneval(&["--out=x"]).fails(1, &["prompts.jsonl", "line 1", "prompt"]);
    assert!(!here.path("x").exists());
}

#[test]
fn geneval_scores_are_means_of_tags() {
    let here = Workplace::new();
    geneval_prompts(&here);
    generate(
        &here,
        &[
            "geneval",
            "generate",
            "prompts.jsonl",
            "--out=all",
            "--images=1",
            "--count=1",
        ],
    )
    .quiet_success();
    let line = |tag: &str, correct: bool| {
        format!(
            "{{\"filename\": \"all/00000/samples/0000.png\", \"tag\": \"{tag}\", \"correct\": {correct}}}\n"
        )
    };
    let results = [
        line("counting", true),
        line("counting", false),
        line("colors", true),
    ];
    fs::write(here.path("results.jsonl"), results.concat()).unwrap();
    let score = ["metrics", "geneval", "score", "results.jsonl"];
    let said = here.sana(&score);
    assert_eq!(said.code, Some(0));
    assert!(said.stdout.ends_with("0.7500\n"), "{}", said.stdout);
    assert!(
        said.stderr
            .contains("no images of single_object, two_object, position"),
        "{}",
        said.stderr
    );
    let json = here.sana(&[&score[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["value"], &json["count"]), (&0.75.into(), &3.into()));
    assert_eq!(json["metric"], "geneval");
    assert_eq!(json["seeds"], serde_json::json!(["0", "0", "0"]));
    assert_eq!(json["dtype"], "f32");
    assert!(
        json.get("commit").is_some() && json.get("resize").is_some(),
        "{json}"
    );
    fs::write(here.path("results.jsonl"), "").unwrap();
    here.sana(&score).fails(1, &["results.jsonl", "no results"]);
}

/// The evaluator's crops are the images, and prompts are encoded as they are.
#[test]
fn dpg_grids_are_cut_into_images() {
    let here = Workplace::new();
    fs::create_dir(here.path("prompts")).unwrap();
    for (id, prompt) in [("a1", "a red circle\n"), ("b2", "two blue squares")] {
        fs::write(here.path(&format!("prompts/{id}.txt")), prompt).unwrap();
    }
    let prompts = r#"{"a1": {"prompt": "a red circle"}, "b2": {"prompt": "two blue squares"}}"#;
    fs::write(here.path("prompts.json"), prompts).unwrap();
    let dpg = |options: &[&str]| generate(&here, &[&["dpg", "generate"], options].concat());
    let said = dpg(&["prompts", "--out=all", "--format=png", "--batch=4"]).quiet_success();
    assert!(said.contains("8 images of 2 prompts"), "{said}");
    assert_eq!(here.files_in("all"), ["a1.png", "b2.png"]);
    let grid = here.image("all/b2.png");
    assert_eq!(grid.dimensions(), (128, 128));
    let alone = [
        "generate",
        "two blue squares",
        "--no-instruction",
        "--count=4",
        "--seed=4",
    ];
    let alone = [
        &alone[..],
        &["--size=64x64", "--steps=1", "--out=alone.png"],
    ]
    .concat();
    here.sana_on_fixture(&alone).quiet_success();
    for (index, [left, top]) in [[0, 0], [64, 0], [0, 64], [64, 64]].into_iter().enumerate() {
        let crop = RgbImage::from_fn(64, 64, |x, y| *grid.get_pixel(left + x, top + y));
        assert!(crop == here.image(&format!("alone-{index}.png")), "{index}");
    }

    let said = dpg(&["prompts.json", "--out=jpeg", "--shard=2/2", "--batch=3"]).quiet_success();
    assert!(said.contains("4 images of 1 prompts"), "{said}");
    assert_eq!(here.files_in("jpeg"), ["b2.jpg"]);
    assert_eq!(here.text("jpeg/b2.jpg", "seed").as_deref(), Some("4"));
    let said = dpg(&["prompts.json", "--out=jpeg"]).quiet_success();
    assert!(said.contains("4 of them exist"), "{said}");
    dpg(&["prompts.json", "--out=jpeg", "--seed=1"]).fails(1, &["jpeg/a1.jpg", "another seed"]);
    dpg(&["prompts.json", "--out=jpeg", "--format=png"]).fails(1, &["jpeg/a1.jpg", "both formats"]);
    fs::write(here.path("prompts.json"), r#"{"../a": "a"}"#).unwrap();
    dpg(&["prompts.json", "--out=x"]).fails(1, &["prompts.json", "../a", "no name of a file"]);
    fs::create_dir(here.path("empty")).unwrap();
    dpg(&["empty", "--out=x"]).fails(1, &["empty has no prompts"]);
}

#[test]
fn dpg_scores_follow_the_questions() {
    let here = Workplace::new();
    let questions = "\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
x,,,1,0,,,entity - whole (x),Left out?
a1,,,1,0,,,entity - whole (circle),Is there a circle?
a1,,,2,1,,,\"attribute - color (circle, red)\",\"Is it red, the circle?\"
";
    fs::write(here.path("questions.csv"), questions).unwrap();
    let answers = "\
all/a1.jpg, (0, 0, 64, 64), Is there a circle?, no
all/a1.jpg, (0, 0, 64, 64), Is it red, the circle?, yes
all/a1.jpg, (64, 0, 128, 64), Is there a circle?, yes
all/a1.jpg, (64, 0, 128, 64), Is it red, the circle?, yes
";
    fs::write(here.path("detail.txt"), answers).unwrap();
    let score = [
        "metrics",
        "dpg",
        "score",
        "detail.txt",
        "--questions=questions.csv",
    ];
    let said = here.sana(&score).quiet_success();
    assert!(said.ends_with(" 50.0000\n"), "{said}");
    let json = here
        .sana(&[&score[..], &["--json"]].concat())
        .quiet_success();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["value"], &json["count"]), (&50.0.into(), &2.into()));
    assert_eq!(json["seeds"], serde_json::json!([null]));
    fs::write(here.path("detail.txt"), &answers[..60]).unwrap();
    here.sana(&score).fails(1, &["detail.txt", "line 2"]);
}

#[test]
fn image_reward_has_numbered_images() {
    let here = Workplace::new();
    let prompts = r#"{"000-0": {"id": "000-0", "prompt": "a red circle"}}"#;
    fs::write(here.path("prompts.json"), prompts).unwrap();
    let options = [
        "image-reward",
        "generate",
        "prompts.json",
        "--out=all",
        "--images=2",
    ];
    generate(&here, &options).quiet_success();
    assert_eq!(here.files_in("all"), ["000-0_0.jpg", "000-0_1.jpg"]);
    assert_eq!(here.text("all/000-0_1.jpg", "seed").as_deref(), Some("1"));
}
