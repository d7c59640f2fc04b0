//! Standard output and standard error that are closed, full, or read by nobody.

#![cfg(unix)]

use std::fs::OpenOptions;
use std::process::{Child, Command, Stdio};

use crate::support::Workplace;

/// `sana` with these arguments, by a shell that gives it other streams.
fn by_shell(here: &Workplace, arguments: &[&str], streams: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("exec \"$0\" \"$@\" {streams}");
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_sana")])
        .args(arguments)
        .current_dir(here.path(""))
        .stdin(Stdio::null());
    command
}

/// Runs it with standard error read by nobody.
fn unread(mut command: Command) -> Option<i32> {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child: Child = command
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    child.wait().unwrap().code()
}

/// A prompt that is cut gives a warning, and a scheduler's note is on standard error too.
fn long_prompt() -> String {
    "a red circle ".repeat(200)
}

#[test]
fn nobody_reads_errors() {
    let here = Workplace::new();
    let prompt = long_prompt();
    let draw = |out: &str| {
        let model = crate::support::checkpoint().display().to_string();
        let words = [
            "generate",
            &prompt,
            "--model",
            &model,
            "--device=flex",
            "--seed=1",
            "--size=32x32",
            "--steps=1",
            "--out",
            out,
        ];
        words.map(str::to_owned)
    };
    fn words(owned: &[String]) -> Vec<&str> {
        owned.iter().map(String::as_str).collect()
    }
    let said = here.sana(&words(&draw("said.png")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("warning: the prompt is too long"),
        "{}",
        said.stderr
    );

    assert_eq!(
        unread(by_shell(&here, &words(&draw("unread.png")), "")),
        Some(0)
    );
    let closed = by_shell(&here, &words(&draw("closed.png")), "2>&-")
        .output()
        .unwrap();
    assert_eq!(closed.status.code(), Some(0));
    let image = here.image("said.png");
    assert_eq!(here.image("unread.png"), image);
    assert_eq!(here.image("closed.png"), image);

    // An error is one, whether anybody reads it or not.
    let nope = ["inspect", "nope"];
    assert_eq!(unread(by_shell(&here, &nope, "")), Some(1));
    let closed = by_shell(&here, &nope, "2>&-").output().unwrap();
    assert_eq!(closed.status.code(), Some(1));
    assert_eq!(unread(by_shell(&here, &["nope"], "")), Some(2));
}

#[test]
#[cfg(target_os = "linux")]
fn streams_that_are_full() {
    let here = Workplace::new();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = here
        .command(&["inspect", "nope"])
        .stderr(full())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    let train = [
        "train",
        "autoencoder",
        "--out=run",
        "--steps=1",
        "--data=none",
    ];
    let status = here.command(&train).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
    // What was asked for is printed: where it cannot be, that is an error.
    let output = here.command(&["inspect"]).stdout(full()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("error: cannot write to standard output"),
        "{stderr}"
    );
}

#[test]
fn standard_output_that_nobody_reads() {
    let here = Workplace::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let train = [
        "train",
        "autoencoder",
        "--out=run",
        "--steps=1",
        "--size=32",
        "--batch=1",
        "--replicas=1",
    ];
    let output = here.command(&train).stdout(writer).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(here.path("run/vae/config.json").exists());
}
