//! `sana generate --prompts --shard`: one job by several processes.

use std::fs;
use std::process::Stdio;

use sana_pipeline::FolderLock;

use crate::support::{Outcome, Workplace, checkpoint};

/// Five images of three prompts.
const LINES: &str = r#"
{"prompt": "a red circle", "count": 3}
{"prompt": "a blue square"}
{"prompt": "two green triangles"}
"#;

fn arguments<'a>(model: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let usual = [
        "generate",
        "--prompts=prompts.jsonl",
        "--size=64",
        "--steps=1",
    ];
    [&usual, &["--device=flex", "--model", model][..], options].concat()
}

#[test]
fn processes_share_a_file_of_prompts() {
    let here = Workplace::new();
    fs::write(here.path("prompts.jsonl"), LINES).unwrap();
    let model = checkpoint();
    let model = model.to_str().unwrap();
    here.sana(&arguments(model, &["--out=alone"]))
        .quiet_success();
    let start = |shard: &str| {
        let mut command = here.command(&arguments(model, &["--out=shared", "--shard", shard]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let said = [start("1/2"), start("2/2")].map(|process| {
        let outcome = Outcome::from(process.wait_with_output().unwrap());
        outcome.quiet_success()
    });
    assert!(said[0].contains("share 1/2: 3 of 5 images of 3 prompts, 0 of them exist"));
    assert!(said[1].contains("share 2/2: 2 of 5 images of 3 prompts, 0 of them exist"));
    let files = here.files_in("alone");
    assert_eq!(files.len(), 5);
    assert_eq!(here.files_in("shared"), files);
    for file in &files {
        let [alone, shared] = ["alone", "shared"].map(|folder| format!("{folder}/{file}"));
        assert_eq!(here.bytes(&alone), here.bytes(&shared), "{file}");
    }
    // Continued where it stopped: only what is missing of its own share.
    for file in &files[..2] {
        fs::remove_file(here.path(&format!("shared/{file}"))).unwrap();
    }
    let said = here.sana(&arguments(model, &["--out=shared", "--shard=1/2"]));
    let said = said.quiet_success();
    assert!(
        said.contains("made 1 images in ") && said.contains("skipped 2 that existed"),
        "{said}"
    );
    assert_eq!(here.files_in("shared").len(), 4);
}

#[test]
fn no_file_has_two_writers() {
    let here = Workplace::new();
    fs::write(here.path("prompts.jsonl"), LINES).unwrap();
    fs::create_dir(here.path("images")).unwrap();
    let model = checkpoint();
    let run = |options: &[&str]| here.sana(&arguments(model.to_str().unwrap(), options));
    let folder = here.path("images");
    let held = FolderLock::take_shard(&folder, 1, 3).unwrap();
    let process = format!("process {}", std::process::id());
    run(&["--shard=1/3"]).fails(1, &["another sana", &process, "wait until it has ended"]);
    for options in [&["--shard=1/2"][..], &[]] {
        run(options).fails(1, &["another sana, of a job in 3 shares,"]);
    }
    assert_eq!(
        here.files_in("images")
            .iter()
            .filter(|name| name.ends_with("png"))
            .count(),
        0
    );
    run(&["--shard=3/3"]).quiet_success();
    drop(held);
    assert_eq!(here.files_in("images").len(), 1);
    for (options, expected) in [
        (&["--shard=0/3"][..], "from 1/N to N/N"),
        (&["--shard=1/2", "--grid"], "cannot be used with"),
    ] {
        run(options).fails(2, &[expected]);
    }
    here.sana(&["generate", "a", "--shard=1/2"])
        .fails(2, &["--shard <I/N>", "cannot be used with"]);
}
