//! `sana init`: checkpoints of released sizes with random weights.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use sana_pipeline::{init, variants};

use crate::args::Dtype;
use crate::devices::OpenDevice;
use crate::output::output;
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  sana init --variant sana-1600m-512px --out random-512
  sana init --variant sana-sprint-0.6b --out random-sprint --dtype f32

The folder has the published layout and loads with --model, but what it draws is noise: it serves
to measure speed and memory, and to test, at real size.";

/// Write a checkpoint of a released size with random weights
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// Which released model
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(variants::names()))]
    variant: String,
    /// Folder to write; it must not have a checkpoint in it
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Type of the weights in the files
    #[arg(long, value_name = "TYPE", value_enum, default_value = "bf16")]
    dtype: Dtype,
    /// Number that the weights are drawn from
    #[arg(
        long,
        value_name = "S",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    seed: u64,
}

/// Runs `sana init`.
pub fn run(args: InitArgs) -> anyhow::Result<()> {
    let InitArgs {
        variant,
        out,
        dtype,
        seed,
    } = args;
    let device = OpenDevice::open(None)?.device;
    let progress = Progress::bytes("writing");
    init::write_checkpoint(
        &variant,
        &out,
        dtype.into(),
        seed,
        &device,
        &mut |written, all| {
            progress.advance(written, all);
        },
    )?;
    progress.finish();
    writeln!(
        output(),
        "wrote {}: {variant} with random weights",
        out.display()
    )?;
    Ok(())
}
