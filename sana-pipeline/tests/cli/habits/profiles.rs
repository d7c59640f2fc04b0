//! `--profile` and `sana config`.

use std::fs;

use crate::support::{Outcome, Workplace, checkpoint};

/// Settings in a folder of their own, and `sana` with them.
fn sana(here: &Workplace, arguments: &[&str]) -> Outcome {
    let mut command = here.command(arguments);
    command.env("XDG_CONFIG_HOME", here.path("settings"));
    Outcome::from(command.output().unwrap())
}

fn write(here: &Workplace, text: &str) {
    fs::create_dir_all(here.path("settings/sana")).unwrap();
    fs::write(here.path("settings/sana/config.toml"), text).unwrap();
}

#[test]
fn a_profile_is_below_what_is_typed() {
    let here = Workplace::new();
    let model = checkpoint();
    let text = format!(
        "[profiles.small]\nmodel = '{}'\ndevice = 'flex'\nsize = [96, 64]\nsteps = 2\nseed = 4\n\
         threads = 1\nno_instruction = true\n",
        model.display()
    );
    write(&here, &text);
    sana(
        &here,
        &["generate", "a red circle", "--profile=small", "--steps=1"],
    )
    .quiet_success();
    for (key, value) in [
        ("steps", "1"),
        ("size", "96x64"),
        ("seed", "4"),
        ("no-instruction", "yes"),
    ] {
        assert_eq!(here.text("sana.png", key).as_deref(), Some(value), "{key}");
    }
    let drawn = here.bytes("sana.png");
    here.sana_on_fixture(&[
        "generate",
        "a red circle",
        "--size=96x64",
        "--steps=1",
        "--seed=4",
        "--no-instruction",
    ])
    .quiet_success();
    let pixels = here.image("sana.png");
    fs::write(here.path("profile.png"), drawn).unwrap();
    assert_eq!(here.image("profile.png"), pixels);
    // Options of an image are below those of a profile, and a size excludes an aspect ratio.
    let again = [
        "generate",
        "--from-image=sana.png",
        "--profile=small",
        "--out=again.png",
    ];
    sana(&here, &again).quiet_success();
    assert_eq!(here.text("again.png", "steps").as_deref(), Some("2"));
    // In a file of prompts, too.
    fs::write(here.path("p.jsonl"), r#"{"prompt": "a", "steps": 1}"#).unwrap();
    sana(&here, &["generate", "--prompts=p.jsonl", "--profile=small"]).quiet_success();
    assert_eq!(here.text("images/0001-a.png", "seed").as_deref(), Some("4"));
    assert_eq!(
        here.text("images/0001-a.png", "steps").as_deref(),
        Some("1")
    );
    // The server takes the model from it.
    sana(&here, &["serve", "--profile=small", "--host=192.0.2.1"]).fails(1, &["--api-key-file"]);
    sana(&here, &["serve", "--profile=large"]).fails(1, &["no profile large", "nearest is small"]);
}

#[test]
fn the_file_is_checked() {
    let here = Workplace::new();
    let path = here.path("settings/sana/config.toml").display().to_string();
    let said = sana(&here, &["config", "path"]).quiet_success();
    assert_eq!(said, format!("{path}\n"));
    let said = sana(&here, &["config", "show"]).quiet_success();
    assert_eq!(said, format!("{path} has no profile and no style\n"));
    let generate = ["generate", "a", "--profile=fast"];
    sana(&here, &generate).fails(1, &["no profile fast", &path, "has none"]);
    for (text, expected) in [
        (
            "[profiles.fast]\nstep = 3",
            "unknown key \"step\"; the nearest is \"steps\"",
        ),
        (
            "[profiles.fast]\nsteps = 'x'",
            "invalid value 'x' for '--steps <N>'",
        ),
        ("[profiles.fast]\napg-eta = 1", "--apg"),
        ("[profiles.fast", "line 1"),
        ("[profiles.slow]", "the nearest is slow"),
    ] {
        write(&here, text);
        sana(&here, &generate).fails(1, &[expected, "fast"]);
    }
    let text = "[profiles.fast]\nsteps = 3\nsize = [96, 64]\napg = false\nlow_memory = true\n\
                [styles]\nink = 'ink, {prompt}'\n";
    write(&here, text);
    let said = sana(&here, &["config", "show"]).quiet_success();
    let expected = "profile fast: --low-memory --size 96x64 --steps 3\nstyle ink: ink, {prompt}\n";
    assert_eq!(said, expected);
    // A file that cannot be used matters to those alone who use it.
    write(&here, "?");
    sana(&here, &["config", "show"]).fails(1, &["config.toml", "line 1"]);
    let plain = ["generate", "a", "--size=32", "--steps=1", "--device=flex"];
    sana(&here, &plain).quiet_success();
}
