//! `sana generate --json`.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Outcome, Workplace};

/// The events of a run: all that is on standard output.
#[track_caller]
fn events(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["event"].as_str().unwrap());
    names.collect()
}

#[test]
fn a_run_in_events() {
    let here = Workplace::new();
    let options = [
        "--seed=3",
        "--count=2",
        "--json",
        "--grid",
        "--background=black",
    ];
    let run = here.generate(&options);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let events = events(&run);
    let expected = ["started", "notes", "step", "step", "image", "image", "done"];
    assert_eq!(names(&events), expected);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        events[0],
        json!({"event": "started", "schema": 1, "version": version, "model": "sana",
               "device": "flex", "images": 2, "existing": 0})
    );
    let notes = events[1]["notes"].as_array().unwrap();
    assert!(
        notes[1]
            .as_str()
            .unwrap()
            .contains("--background has no effect"),
        "{notes:?}"
    );
    for step in [1, 2] {
        let expected = json!({"event": "step", "step": step, "steps": 2, "pass": 1, "passes": 1,
                              "images": [0, 1]});
        assert_eq!(events[step + 1], expected);
    }
    for image in [0, 1] {
        let path = format!("sana-{image}.png");
        let expected = json!({"event": "image", "image": image, "path": path, "seed": 3 + image,
                              "prompt": "a red circle", "width": 96, "height": 64});
        assert_eq!(events[4 + image], expected);
    }
    let done = &events[6];
    assert_eq!((&done["images"], &done["skipped"]), (&json!(2), &json!(0)));
    assert_eq!(done["grid"], "sana-grid.png");
    assert!(done["seconds"].as_f64().unwrap() > 0.0);
    let stages = done["stages"].as_array().unwrap().iter();
    let stages: Vec<&str> = stages
        .map(|stage| stage["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, ["text", "denoise", "decode"]);
    // What people read is on the other stream, and the images are the same.
    for part in [
        "model sana, device flex, seed 3\n",
        "note: --background",
        "wrote sana-1.png\n",
    ] {
        assert!(run.stderr.contains(part), "{part:?} in {}", run.stderr);
    }
    let before = here.bytes("sana-1.png");
    here.generate(&["--seed=3", "--count=2"]).quiet_success();
    assert_eq!(here.bytes("sana-1.png"), before);
}

#[test]
fn a_failed_run_ends_with_an_error() {
    let here = Workplace::new();
    let run = here.sana_on_fixture(&["generate", "a", "--json", "--size=100x64"]);
    run.fails(1, &["multiples of 32"]);
    let of_size = events(&run);
    assert_eq!(names(&of_size), ["error"]);
    let message = of_size[0]["message"].as_str().unwrap();
    assert!(message.contains("multiples of 32"), "{message}");
    assert_eq!(of_size[0]["causes"], json!([]));
    let run = here.generate(&["--json", "--image", "\x1b[2J.png"]);
    let [event] = &events(&run)[..] else {
        panic!("{}", run.stdout)
    };
    assert!(!event["causes"].as_array().unwrap().is_empty(), "{event}");
    assert!(!run.stdout.contains('\x1b'));
    // An error that stands for another one is said once.
    let run = here.sana_on_fixture(&[
        "generate",
        "a",
        "--json",
        "--size=64",
        "--steps=1",
        "--hires=2",
    ]);
    run.fails(1, &["runs none of 1 steps"]);
    assert_eq!(events(&run)[0]["causes"], json!([]));
    // Of the command line itself there are no events.
    let run = here.generate(&["--json", "--seed=none"]);
    run.fails(2, &["--seed"]);
    assert_eq!(run.stdout, "");
}

#[test]
fn a_batch_in_events() {
    let here = Workplace::new();
    let lines = "a red circle\n{a|a} blue square\n";
    fs::write(here.path("prompts.txt"), lines).unwrap();
    let run = || {
        let usual = [
            "generate",
            "--prompts=prompts.txt",
            "--size=64",
            "--steps=1",
            "--json",
        ];
        let run = here.sana_on_fixture(&usual);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        events(&run)
    };
    let first = run();
    assert_eq!(
        names(&first),
        ["started", "notes", "step", "image", "step", "image", "done"]
    );
    assert_eq!(first[4]["images"], json!([1]));
    let path = "images/0002-a-a-blue-square.png";
    assert_eq!(
        first[5],
        json!({"event": "image", "image": 1, "path": path, "seed": 1, "line": 2,
               "prompt": "a blue square", "width": 64, "height": 64})
    );
    fs::remove_file(here.path(path)).unwrap();
    let second = run();
    assert_eq!(
        names(&second),
        ["started", "notes", "step", "image", "done"]
    );
    assert_eq!(
        (&second[0]["images"], &second[0]["existing"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(second[3]["image"], 1);
    assert_eq!(
        (&second[4]["images"], &second[4]["skipped"]),
        (&json!(1), &json!(1))
    );
}
