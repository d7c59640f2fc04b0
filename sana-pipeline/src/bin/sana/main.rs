//! The `sana` command: images from text, and models inspected, evaluated and
//! trained.

#![forbid(unsafe_code)]
// Their macros panic where a stream is closed or full, and show whatever they are given: `terminal`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod cli;
mod commands;
mod device;
mod files;
mod generate;
mod model;
mod preview;
mod terminal;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use sana_pipeline::escaped;

use crate::cli::{Cli, advice};
use crate::terminal::{Lines, complain};

/// Every tensor operation on the CPU allocates its result. The system's allocator gives large blocks
/// back at once and has the kernel clear new ones; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    let verbose = cli.verbose;
    let options = cli.options();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&describe(&error, &options, verbose));
            ExitCode::FAILURE
        }
    }
}

/// Prints help, the version, or what is wrong with the arguments. These may be names of files, of
/// anybody: they are quoted escaped.
fn usage(error: clap::Error) -> ExitCode {
    let arguments: Vec<String> = env::args_os()
        .map(|argument| escaped(&argument.to_string_lossy()).into_owned())
        .collect();
    let escaped = Cli::try_parse_from(arguments);
    let error = escaped.err().unwrap_or(error);
    // Nobody may be there to read it.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The error and its causes, one per line, without those that the line above them quotes, and what to
/// do in options of the command.
fn describe(error: &anyhow::Error, options: &[String], verbose: bool) -> String {
    let mut causes = error.chain().map(shown);
    let mut last = causes.next().unwrap_or_default();
    let mut text = format!("error: {last}\n");
    for cause in causes {
        if !last.contains(&cause) {
            text += &format!("  because: {cause}\n");
            last = cause;
        }
    }
    if let Some((short, long)) = advice::all_names(error) {
        match verbose {
            true => text = text.replace(&*escaped(&short), &escaped(&long)),
            false => text += "  --verbose lists all names\n",
        }
    }
    if let Some(advice) = advice::advice(error, options) {
        text += &format!("  {advice}\n");
    }
    text
}

/// An error in one line, except for lines of ours.
fn shown(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<Lines>() {
        Some(lines) => lines.to_string(),
        None => escaped(&error.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn lines_are_ours() {
        let hostile = "a\n  because: b\x1b[2J\u{202e}";
        let error = anyhow!(hostile).context("c\nerror: d");
        assert_eq!(
            describe(&error, &[], false),
            "error: c\\nerror: d\n  because: a\\n  because: b\\u{1b}[2J\\u{202e}\n"
        );
        let error = anyhow::Error::new(Lines::new("a", ["line 1: b\nc"]));
        assert_eq!(describe(&error, &[], false), "error: a\n  line 1: b\\nc\n");
    }

    #[test]
    fn causes_are_reported_once() {
        let error = anyhow!("no such file")
            .context("cannot read weights.safetensors")
            .context("transformer: cannot read weights.safetensors");
        assert_eq!(
            describe(&error, &[], false),
            "error: transformer: cannot read weights.safetensors\n  because: no such file\n"
        );
    }
}
