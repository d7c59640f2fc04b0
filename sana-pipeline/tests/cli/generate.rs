use std::io::{BufRead, BufReader};
use std::process::Stdio;

use sana_linear_attn::Weights;
use sana_linear_attn::parity::write_original;
use sana_pipeline::image::read_text;

use crate::support::{Workplace, checkpoint, lora, sprint_checkpoint};

#[test]
fn an_image_of_the_size_with_its_settings() {
    let here = Workplace::new();
    let said = here
        .generate(&["--seed", "7", "--negative", "größer 🙂", "--guidance", "3"])
        .quiet_success();
    for part in [
        "seed 7",
        "flex",
        "text ",
        "denoise ",
        "decode ",
        " s",
        "wrote sana.png",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert_eq!(here.files(), ["sana.png"]);
    assert_eq!(here.image("sana.png").dimensions(), (96, 64));
    let model = checkpoint();
    let expected = [
        ("prompt", "a red circle"),
        ("negative", "größer 🙂"),
        ("seed", "7"),
        ("steps", "2"),
        ("guidance", "3"),
        ("solver", "flow-dpm"),
        ("size", "96x64"),
        ("model", model.to_str().unwrap()),
        ("device", "flex"),
        ("dtype", "f32"),
        ("Software", concat!("sana ", env!("CARGO_PKG_VERSION"))),
    ];
    for (key, value) in expected {
        assert_eq!(here.text("sana.png", key).as_deref(), Some(value), "{key}");
    }
}

#[test]
fn the_recorded_seed_makes_the_same_file() {
    let here = Workplace::new();
    let said = here.generate(&[]).quiet_success();
    let seed = here.text("sana.png", "seed").unwrap();
    assert!(said.contains(&format!("seed {seed}\n")), "{said}");
    here.generate(&["--seed", &seed, "--out", "again.png"])
        .quiet_success();
    here.generate(&["--out", "other.png"]).quiet_success();
    let bytes = |name: &str| std::fs::read(here.path(name)).unwrap();
    assert_eq!(bytes("again.png"), bytes("sana.png"));
    assert_ne!(bytes("other.png"), bytes("sana.png"));
    assert_ne!(here.text("other.png", "seed").unwrap(), seed);
}

#[test]
fn images_of_a_batch_are_those_made_alone() {
    let here = Workplace::new();
    here.generate(&["--seed", "41", "--count", "3", "--out", "b.png"])
        .quiet_success();
    assert_eq!(here.files(), ["b-0.png", "b-1.png", "b-2.png"]);
    for index in 0..3 {
        let name = format!("b-{index}.png");
        let seed = here.text(&name, "seed").unwrap();
        assert_eq!(seed, (41 + index).to_string());
        here.generate(&["--seed", &seed, "--out", "alone.png"])
            .quiet_success();
        assert_eq!(here.image("alone.png"), here.image(&name), "{name}");
    }
    assert_ne!(here.image("b-0.png"), here.image("b-1.png"));
}

#[test]
fn every_option_changes_the_image_or_leaves_it() {
    let here = Workplace::new();
    here.generate(&["--seed", "1"]).quiet_success();
    let plain = here.image("sana.png");
    let with = |options: &[&str]| {
        let all = [&["--seed", "1", "--out", "with.png"], options].concat();
        here.generate(&all).quiet_success();
        here.image("with.png")
    };
    assert_ne!(with(&["--solver", "flow-euler"]), plain);
    assert_eq!(here.text("with.png", "solver").unwrap(), "flow-euler");
    assert_ne!(with(&["--guidance", "1"]), plain);
    assert_ne!(with(&["--negative", "blue"]), plain);
    assert_ne!(with(&["--no-instruction"]), plain);
    assert_eq!(here.text("with.png", "no-instruction").unwrap(), "yes");
    assert_eq!(with(&["--solver", "flow-dpm"]), plain);
    assert_eq!(with(&["--dtype", "f32"]), plain);
    assert_eq!(with(&["--low-memory"]), plain);
}

#[test]
fn sprint_takes_two_steps_of_scm() {
    let here = Workplace::new();
    let arguments = ["generate", "a cat", "--size", "96x64", "--seed", "3"];
    here.sana_on(&sprint_checkpoint(), &arguments)
        .quiet_success();
    assert_eq!(here.text("sana.png", "steps").unwrap(), "2");
    assert_eq!(here.text("sana.png", "solver").unwrap(), "scm");
}

#[test]
fn a_long_prompt_is_cut_with_a_warning() {
    let here = Workplace::new();
    let prompt = "a red circle left of a blue square, ".repeat(400);
    let outcome = here.sana_on_fixture(&["generate", &prompt, "--size", "96x64", "--steps", "1"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let warning = "warning: the prompt is too long, its last ";
    let rest = outcome.stderr.strip_prefix(warning).expect(&outcome.stderr);
    let (dropped, rest) = rest.split_once(' ').unwrap();
    assert!(dropped.parse::<usize>().unwrap() > 1000, "{dropped}");
    assert_eq!(rest, "tokens were left out\n");
    assert_eq!(here.text("sana.png", "prompt").unwrap(), prompt);
}

#[test]
fn an_old_image_is_replaced() {
    let here = Workplace::new();
    std::fs::write(here.path("sana.png"), "old").unwrap();
    here.generate(&[]).quiet_success();
    assert_eq!(here.image("sana.png").dimensions(), (96, 64));
    assert_eq!(here.files(), ["sana.png"]);
}

#[test]
fn an_interrupted_run_leaves_no_file() {
    let here = Workplace::new();
    let checkpoint = checkpoint();
    let model = ["--model", checkpoint.to_str().unwrap(), "--device", "flex"];
    let arguments = [&["generate", "a", "--steps", "10000"], &model[..]].concat();
    let mut child = here
        .command(&arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert!(line.contains("seed"), "{line}");
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(here.files().is_empty());
}

#[cfg(feature = "scenes-model")]
#[test]
fn the_model_of_the_build_needs_no_option() {
    let here = Workplace::new();
    let arguments = [
        "generate",
        "a red circle left of a blue square",
        "--device",
        "flex",
    ];
    let said = here.sana(&arguments).quiet_success();
    assert!(
        said.starts_with("model built-in, device flex, seed "),
        "{said}"
    );
    let [width, height] = here.image("sana.png").dimensions().into();
    assert_eq!(width, height);
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    assert!(!said.contains("--model"), "{said}");
    let said = here.sana(&["inspect"]).quiet_success();
    assert!(said.contains("scenes"), "{said}");
}

#[test]
fn a_long_negative_prompt_is_cut_with_a_warning() {
    let here = Workplace::new();
    let negative = "a red circle left of a blue square, ".repeat(400);
    let outcome = here.generate(&["--negative", &negative]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let warning = "warning: the negative prompt is too long, its last ";
    assert!(outcome.stderr.starts_with(warning), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}

#[test]
fn the_template_of_the_instruction() {
    let here = Workplace::new();
    let with = |options: &[&str]| {
        here.generate(&[&["--seed", "1"][..], options].concat())
            .quiet_success();
        here.image("sana.png")
    };
    // Published checkpoints have the reference's template.
    let plain = with(&[]);
    assert_eq!(here.text("sana.png", "instruction"), None);
    assert_eq!(with(&["--instruction", "reference"]), plain);
    let none = with(&["--instruction", "none"]);
    assert_eq!(here.text("sana.png", "instruction").unwrap(), "none");
    assert_eq!(with(&["--no-instruction"]), none);
    assert_ne!(none, plain);
    with(&["--instruction", "repository"]);
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    assert!(said.contains(" --instruction repository "), "{said}");
}

/// Runs the command that `sana inspect` prints and compares the images.
#[test]
fn options_of_guidance_are_recorded_and_repeated() {
    let here = Workplace::new();
    here.generate(&["--seed", "1"]).quiet_success();
    let plain = here.image("sana.png");
    assert_eq!(here.text("sana.png", "pag"), None);
    let cases: [(&[&str], &str); 4] = [
        (&["--pag", "3"], "--pag 3 --pag-layers 1"),
        (&["--pag", "3", "--pag-layers", "2,0"], "--pag-layers 0,2"),
        (
            &["--apg", "--apg-norm", "2"],
            "--apg-eta 0 --apg-norm 2 --apg-momentum=-0.5",
        ),
        (
            &["--guidance-interval", "0.8..1"],
            "--guidance-interval 0.8..1",
        ),
    ];
    for (options, recorded) in cases {
        here.generate(&[&["--seed", "1"], options].concat())
            .quiet_success();
        let made = here.image("sana.png");
        assert_ne!(made, plain, "{options:?}");
        let said = here.sana(&["inspect", "sana.png"]).quiet_success();
        let command = said.lines().last().unwrap();
        assert!(command.contains(recorded), "{command}");
        let again: Vec<&str> = command
            .strip_prefix("sana generate 'a red circle' ")
            .expect(command)
            .split(' ')
            .collect();
        let model = again.iter().position(|word| *word == "--model").unwrap();
        let without_model = [&again[..model], &again[model + 2..]].concat();
        let start = ["generate", "a red circle", "--out", "again.png"];
        let mut arguments = [&start[..], &without_model[..]].concat();
        arguments.retain(|word| !["--device", "flex"].contains(word));
        here.sana_on_fixture(&arguments).quiet_success();
        assert_eq!(here.image("again.png"), made, "{command}");
    }
}

#[test]
fn loras_change_the_image_and_are_recorded() {
    let here = Workplace::new();
    let with = |options: &[&str]| {
        here.generate(&[&["--seed", "1"][..], options].concat())
            .quiet_success();
        here.image("sana.png")
    };
    let plain = with(&[]);
    assert_eq!(here.text("sana.png", "lora"), None);
    let whole = with(&["--lora", &lora()]);
    assert_ne!(whole, plain);
    let scaled = |scale: &str| format!("{}:{scale}", lora());
    assert_ne!(with(&["--lora", &scaled("0.5")]), whole);
    let none = here.generate(&["--seed", "1", "--lora", &scaled("0"), "--lora-unmerged"]);
    assert_eq!(none.code, Some(0), "{}", none.stderr);
    assert!(
        none.stderr.contains("has no effect at scale 0"),
        "{}",
        none.stderr
    );
    assert_eq!(here.image("sana.png"), plain);

    let (one, two) = (scaled("0.5"), scaled("0.25"));
    let both = with(&["--lora", &one, "--lora", &two, "--lora-unmerged"]);
    assert_ne!(both, plain);
    let recorded = read_text(&here.path("sana.png")).unwrap();
    let recorded = recorded.iter().filter(|(key, _)| key == "lora");
    let recorded: Vec<&str> = recorded.map(|(_, value)| value.as_str()).collect();
    assert_eq!(recorded, [&one, &two]);
    let said = here.sana(&["inspect", "sana.png"]).quiet_success();
    for option in [" --lora ", &one, &two, " --lora-unmerged"] {
        assert!(said.lines().last().unwrap().contains(option), "{said}");
    }
    let said = here
        .sana(&["inspect", "sana.png", "--json"])
        .quiet_success();
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["lora"], serde_json::json!([one, two]));
    assert_eq!(json["lora-unmerged"], "yes");
}

/// A transformer under the names of the authors' own checkpoints: the same image, and the file
/// is in the command that makes it again.
#[test]
fn a_transformer_of_its_own_file() {
    let here = Workplace::new();
    let published = checkpoint().join("transformer/diffusion_pytorch_model.safetensors");
    let published = Weights::open_file(&published).unwrap();
    write_original(
        &published,
        &here.path("original.safetensors"),
        "state_dict.",
    );
    let seed = ["--seed", "5", "--out"];
    here.generate(&[&seed[..], &["plain.png"]].concat())
        .quiet_success();
    let file = ["own.png", "--transformer", "original.safetensors"];
    let outcome = here.generate(&[&seed[..], &file].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let note = "note: the config of original.safetensors is read off its shapes";
    assert!(outcome.stderr.starts_with(note), "{}", outcome.stderr);
    assert_eq!(here.image("own.png"), here.image("plain.png"));
    let said = here.sana(&["inspect", "own.png"]).quiet_success();
    assert!(
        said.contains(" --transformer original.safetensors"),
        "{said}"
    );
    here.generate(&["--transformer", "none.safetensors"])
        .fails(1, &["none.safetensors"]);
}
