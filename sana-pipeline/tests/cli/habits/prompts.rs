//! Styles and wildcards in prompts.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{Outcome, Workplace, checkpoint};

/// `sana generate` on the fixtures' checkpoint, 64x64 in one step, with settings of its own.
fn generate(here: &Workplace, arguments: &[&str]) -> Outcome {
    let model = checkpoint();
    let usual = [
        "generate",
        "--size=64",
        "--steps=1",
        "--device=flex",
        "--model",
    ];
    let usual = [&usual[..], &[model.to_str().unwrap()], arguments].concat();
    let mut command = here.command(&usual);
    command.env("XDG_CONFIG_HOME", here.path("settings"));
    Outcome::from(command.output().unwrap())
}

#[test]
fn each_image_has_its_own_choices() {
    let here = Workplace::new();
    let prompt = "a {red|blue|green|yellow} {circle|square}";
    generate(
        &here,
        &[prompt, "--seed=5", "--count=4", "--negative={x|y}"],
    )
    .quiet_success();
    let mut prompts = BTreeSet::new();
    for (image, seed) in ["5", "6", "7", "8"].iter().enumerate() {
        let file = format!("sana-{image}.png");
        let made = here.text(&file, "prompt").unwrap();
        assert!(!made.contains(['{', '|']), "{made}");
        assert_eq!(here.text(&file, "prompt-template").as_deref(), Some(prompt));
        // Alone it is the same, whether its seed chooses again or its record is followed.
        generate(
            &here,
            &[prompt, "--negative={x|y}", "--seed", seed, "--out=one.png"],
        )
        .quiet_success();
        assert_eq!(here.text("one.png", "prompt").as_ref(), Some(&made));
        let again = ["generate", "--from-image", &file, "--out=again.png"];
        here.sana(&again).quiet_success();
        assert_eq!(here.text("again.png", "prompt").as_ref(), Some(&made));
        assert_eq!(here.image("again.png"), here.image("one.png"));
        prompts.insert(made);
    }
    assert!(prompts.len() > 1, "{prompts:?}");
    // The command that is printed makes it again.
    let said = here.sana(&["inspect", "sana-0.png"]).quiet_success();
    assert!(said.contains("prompt-template"), "{said}");
    assert!(
        said.lines()
            .last()
            .unwrap()
            .starts_with("sana generate 'a "),
        "{said}"
    );
}

/// What a record says is what was used, to the letter.
#[test]
fn text_that_looks_like_a_choice() {
    let here = Workplace::new();
    let typed = r"a \{red\|blue\} {circle} \__x__";
    let used = "a {red|blue} {circle} __x__";
    generate(&here, &[typed, "--seed=1"]).quiet_success();
    assert_eq!(here.text("sana.png", "prompt").as_deref(), Some(used));
    here.sana(&["generate", "--from-image=sana.png"])
        .quiet_success();
    assert_eq!(here.text("sana-again.png", "prompt").as_deref(), Some(used));
    assert_eq!(here.image("sana-again.png"), here.image("sana.png"));
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    assert!(
        said.contains(r"sana generate 'a \{red\|blue\} \{circle\} \__x\__'"),
        "{said}"
    );
}

#[test]
fn styles_and_files() {
    let here = Workplace::new();
    let folder = here.path("settings/sana/wildcards");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("colour.txt"), "red\nred\n").unwrap();
    let config = "[styles]\nink = 'an ink drawing of {prompt}'\n";
    fs::write(here.path("settings/sana/config.toml"), config).unwrap();
    generate(&here, &["a __colour__ cat", "--style=ink"]).quiet_success();
    let made = "an ink drawing of a red cat";
    assert_eq!(here.text("sana.png", "prompt").as_deref(), Some(made));
    assert_eq!(here.text("sana.png", "style"), None);
    generate(&here, &["a", "--style=inc"]).fails(1, &["no style inc", "the nearest is ink"]);
    generate(&here, &["a __color__ cat"]).fails(1, &["color.txt", r"write \__color__"]);
    generate(&here, &["{|}", "--seed=1"]).fails(1, &["seed 1 makes nothing"]);
    // On the lines of a file, whose problems are found before anything is made.
    let lines = "{\"prompt\": \"a {b|b}\", \"style\": \"ink\", \"name\": \"one\"}\n\
                 {\"prompt\": \"__shape__\"}\n{\"prompt\": \"c\", \"style\": \"inc\"}\n";
    fs::write(here.path("p.jsonl"), lines).unwrap();
    generate(&here, &["--prompts=p.jsonl"]).fails(
        1,
        &[
            "nothing was made",
            "line 2: ",
            "shape.txt",
            "line 3: no style inc",
        ],
    );
    fs::write(here.path("p.jsonl"), lines.lines().next().unwrap()).unwrap();
    generate(&here, &["--prompts=p.jsonl"]).quiet_success();
    let made = here.text("images/one.png", "prompt").unwrap();
    assert_eq!(made, "an ink drawing of a b");
}
