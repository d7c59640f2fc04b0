//! The `sana` command: images from text, and models inspected, evaluated and
//! trained.

#![forbid(unsafe_code)]

mod advice;
mod args;
mod bench;
mod cli;
mod convert;
mod depth;
mod device;
mod devices;
mod encode;
mod evaluate;
mod files;
mod generate;
mod hub;
mod init;
mod inspect;
#[cfg(feature = "metrics")]
mod metrics;
mod model;
mod terminal;
mod train;

use std::process::ExitCode;

use clap::Parser;

/// Every tensor operation on the CPU allocates its result. The system's allocator gives large blocks
/// back at once and has the kernel clear new ones; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let verbose = cli.verbose;
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", describe(&error, verbose));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, one per line, without those that the line above them quotes.
fn describe(error: &anyhow::Error, verbose: bool) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !last.contains(&cause) {
            text += &format!("  because: {cause}\n");
            last = cause;
        }
    }
    if let Some((short, long)) = advice::all_names(error) {
        match verbose {
            true => text = text.replace(&short, &long),
            false => text += "  --verbose lists all names\n",
        }
    }
    if let Some(advice) = advice::advice(error) {
        text += &format!("  {advice}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn causes_are_reported_once() {
        let error = anyhow!("no such file")
            .context("cannot read weights.safetensors")
            .context("transformer: cannot read weights.safetensors");
        assert_eq!(
            describe(&error, false),
            "error: transformer: cannot read weights.safetensors\n  because: no such file\n"
        );
    }
}
