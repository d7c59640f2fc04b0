//! Text of others, which never reaches the terminal as it is.

use std::fs;

use sana_pipeline::image::{RgbImage, save_png};

use crate::support::{Outcome, Workplace};

/// Clears the screen, moves the cursor, reverses the order of reading, and ends the line.
const HOSTILE: &str = "x\x1b[2J\u{9b}1A\u{202e}y\r\nerror: forged";
const SHOWN: &str = r"x\u{1b}[2J\u{9b}1A\u{202e}y\r\nerror: forged";

impl Outcome {
    /// Asserts that nothing acts on a terminal, and that no line is forged.
    #[track_caller]
    fn is_harmless(&self) {
        for text in [&self.stdout, &self.stderr] {
            let acts =
                |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..'\u{202f}').contains(&c));
            assert!(!text.contains(acts), "{text:?}");
            assert!(!text.contains("\nerror: forged"), "{text:?}");
            assert!(!text.contains("\nsana generate forged"), "{text:?}");
        }
    }
}

fn with_text(here: &Workplace, name: &str, text: &[(&str, &str)]) {
    save_png(&here.path(name), &RgbImage::new(32, 32), text).unwrap();
}

#[test]
fn records_of_images() {
    let here = Workplace::new();
    let forged = [
        ("sana generate forged; rm -r ~", "\nsana generate forged"),
        ("prompt", HOSTILE),
        ("negative", "a\nsana generate forged"),
        ("Software", "sana 0.1.0"),
    ];
    with_text(&here, "a.png", &forged);
    let shown = here.sana(&["inspect", "a.png"]);
    shown.is_harmless();
    let said = shown.quiet_success();
    assert!(
        said.starts_with("\"sana generate forged; rm -r ~\" \\nsana"),
        "{said}"
    );
    assert!(
        said.contains(&format!("prompt         {SHOWN}\n")),
        "{said}"
    );
    assert!(
        said.contains("no command") && said.contains("--from-image a.png"),
        "{said}"
    );

    let json = here.sana(&["inspect", "a.png", "--json"]);
    json.is_harmless();
    let json: serde_json::Value = serde_json::from_str(&json.quiet_success()).unwrap();
    assert_eq!(json["prompt"], HOSTILE);

    // The prompt is not shown there, and the model that is not there is.
    let forged = [
        ("prompt", "a"),
        ("model", "./none\u{202e}"),
        ("negative", HOSTILE),
        ("Software", "sana 0.1.0"),
    ];
    with_text(&here, "b.png", &forged);
    let outcome = here.sana(&["generate", "--from-image", "b.png"]);
    outcome.is_harmless();
    outcome.fails(1, &[r"none\u{202e}"]);
    let outcome = here.sana(&["generate", "--from-image", "b.png", "--without", HOSTILE]);
    outcome.is_harmless();
    outcome.fails(1, &[SHOWN]);
    // A prompt of plain text gives a command.
    let plain = [("prompt", "it's a cat"), ("Software", "sana 0.1.0")];
    with_text(&here, "c.png", &plain);
    let said = here.sana(&["inspect", "c.png"]).quiet_success();
    assert!(
        said.ends_with("\n\nsana generate 'it'\\''s a cat'\n"),
        "{said}"
    );
}

/// Names of files are of whoever made them, and a shell's `*` hands them over.
#[test]
#[cfg(unix)]
fn names_of_files() {
    let here = Workplace::new();
    with_text(&here, HOSTILE, &[("Comment", "a")]);
    for arguments in [
        &["inspect", HOSTILE, "--check"][..],
        &["inspect", "none\x1b[2J\nerror: forged"],
        &["decode", HOSTILE],
        &["encode", HOSTILE, "--out", HOSTILE],
        &["generate", "--from-image", HOSTILE],
        &["generate", "--prompts", "none\nerror: forged"],
        &["generate", "a", "--lora", HOSTILE],
        &["init", "--controlnet-from", HOSTILE, "--out", "new"],
    ] {
        let outcome = here.sana(arguments);
        outcome.is_harmless();
        outcome.fails(1, &["forged"]);
    }
    for arguments in [
        &["inspect", "a", HOSTILE][..],
        &["generate", "a", "--size", HOSTILE],
        &[HOSTILE],
    ] {
        let outcome = here.sana(arguments);
        outcome.is_harmless();
        outcome.fails(2, &["forged"]);
    }
    let made = here.generate(&["--out", "b\nerror: forged.png"]);
    made.is_harmless();
    assert!(
        made.quiet_success()
            .contains("wrote b\\nerror: forged.png\n")
    );
}

#[test]
fn configs_and_prompt_files() {
    let here = Workplace::new();
    let folder = here.copied_checkpoint("mine");
    let index = folder.join("model_index.json");
    let text = fs::read_to_string(&index).unwrap();
    let hostile = serde_json::to_string(HOSTILE).unwrap();
    let changed = text
        .replace("\"Gemma2Model\"", &hostile)
        .replace("\"DPMSolverMultistepScheduler\"", &hostile);
    assert_ne!(changed, text);
    fs::write(&index, changed).unwrap();
    for arguments in [&["inspect", "mine"][..], &["inspect", "mine", "--json"]] {
        here.sana(arguments).is_harmless();
    }
    let scheduler = folder.join("scheduler/scheduler_config.json");
    let text = fs::read_to_string(&scheduler).unwrap();
    fs::write(
        &scheduler,
        text.replace("\"DPMSolverMultistepScheduler\"", &hostile),
    )
    .unwrap();
    let outcome = here.sana(&["inspect", "mine"]);
    outcome.is_harmless();
    outcome.fails(1, &["forged"]);

    let lines = format!("{{{hostile}: 1}}\n{{\"prompt\": \"a\", \"size\": {hostile}}}\n");
    fs::write(here.path("prompts.jsonl"), lines).unwrap();
    let outcome = here.sana(&["generate", "--prompts", "prompts.jsonl"]);
    outcome.is_harmless();
    outcome.fails(1, &["\n  line 1: ", "\n  line 2: "]);
}

#[test]
fn names_of_tensors() {
    let here = Workplace::new();
    // A header of its own, and four bytes.
    let name = serde_json::to_string(HOSTILE).unwrap();
    let header = format!("{{{name}:{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 4]);
    fs::write(here.path("t.safetensors"), &bytes).unwrap();
    for arguments in [
        &["decode", "t.safetensors"][..],
        &["generate", "a", "--lora", "t.safetensors", "--device=flex"],
        &[
            "generate",
            "a",
            "--transformer",
            "t.safetensors",
            "--device=flex",
        ],
    ] {
        let outcome = here.sana(arguments);
        outcome.is_harmless();
        outcome.fails(1, &["t.safetensors"]);
    }
    let folder = here.copied_checkpoint("mine");
    let file = folder.join("vae/diffusion_pytorch_model.safetensors");
    let weights = fs::read(&file).unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(weights[8..8 + length].to_vec()).unwrap();
    let name = "decoder.conv_in.bias";
    assert!(header.contains(name));
    let header = header.replacen(name, &hostile_name(), 1);
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&weights[8 + length..]);
    fs::write(&file, changed).unwrap();
    here.sana(&["inspect", "mine", "--check"]).is_harmless();
    let outcome = here.sana(&[
        "generate",
        "a",
        "--model=mine",
        "--device=flex",
        "--steps=1",
    ]);
    outcome.is_harmless();
    assert_eq!(outcome.code, Some(1));
}

/// As JSON, without its quotes.
fn hostile_name() -> String {
    let name = serde_json::to_string(HOSTILE).unwrap();
    name.trim_matches('"').to_owned()
}
