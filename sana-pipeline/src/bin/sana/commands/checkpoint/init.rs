//! `sana init`: checkpoints of released sizes with random weights, and ControlNets to train.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use sana_pipeline::Checkpoint;
use sana_pipeline::checkpoint::{create, variants};

use crate::args::{Dtype, positive};
use crate::device::OpenDevice;
use crate::files::check_empty;
use crate::model;
use crate::terminal::{Progress, output};

const EXAMPLES: &str = "\
Examples:
  sana init --variant sana-1600m-512px --out random-512
  sana init --variant sana-sprint-0.6b --out random-sprint --dtype f32
  sana init --controlnet-from Sana_600M_512px_diffusers --out new-controlnet

The folder has the published layout and loads with --model, but the images are noise: it serves
to measure speed and memory, and to test, at real size.

With --controlnet-from it is the ControlNet that training starts from: a copy of the model's first
blocks that changes no image yet.";

/// Write a checkpoint of a released size with random weights, or a ControlNet to train
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// Which released model
    #[arg(
        long,
        value_name = "NAME",
        value_parser = PossibleValuesParser::new(variants::names()),
        required_unless_present = "controlnet_from"
    )]
    variant: Option<String>,
    /// Checkpoint folder to make a ControlNet of, instead of a checkpoint of random weights
    #[arg(long, value_name = "DIR", conflicts_with = "variant")]
    controlnet_from: Option<PathBuf>,
    /// Blocks of the ControlNet, fewer than the model has
    #[arg(
        long,
        value_name = "N",
        default_value_t = 7,
        allow_negative_numbers = true,
        value_parser = positive(),
        conflicts_with = "variant"
    )]
    layers: usize,
    /// Folder to write; it must not have a checkpoint in it
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Type of the weights in the files [default: bf16, of a ControlNet the model's]
    #[arg(long, value_name = "TYPE", value_enum)]
    dtype: Option<Dtype>,
    /// Seed of the weights
    #[arg(
        long,
        value_name = "S",
        default_value_t = 0,
        allow_negative_numbers = true,
        conflicts_with = "controlnet_from"
    )]
    seed: u64,
}

/// Runs `sana init`.
pub fn run(args: InitArgs) -> anyhow::Result<()> {
    let InitArgs {
        variant,
        controlnet_from,
        layers,
        out,
        dtype,
        seed,
    } = args;
    check_empty(&out)?;
    if let Some(from) = controlnet_from {
        return write_controlnet(&from, layers, &out, dtype);
    }
    let variant = variant.unwrap_or_default();
    let dtype = dtype.unwrap_or(Dtype::Bf16);
    let device = OpenDevice::open(None)?.device;
    let progress = Progress::bytes("writing");
    create::write_checkpoint(
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
    output().line(format_args!(
        "wrote {}: {variant} with random weights",
        out.display()
    ))?;
    Ok(())
}

fn write_controlnet(
    from: &Path,
    layers: usize,
    out: &Path,
    dtype: Option<Dtype>,
) -> anyhow::Result<()> {
    model::check_accessible(from)?;
    let checkpoint = Checkpoint::open(from)?;
    let device = OpenDevice::open(None)?.device;
    let dtype = dtype.map(Into::into);
    create::write_controlnet(&checkpoint, None, layers, out, dtype, &device)?;
    output().line(format_args!(
        "wrote {}: a ControlNet of the first {layers} blocks of {}, not trained yet",
        out.display(),
        from.display()
    ))?;
    Ok(())
}
