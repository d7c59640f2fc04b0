//! `sana inspect`: what a checkpoint folder holds, or how an image was made.

use std::fmt::{self, Display};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use sana_pipeline::describe::Description;
use sana_pipeline::memory::ImageMemory;
use sana_pipeline::{ControlNetFolder, image};
use serde::Serialize;

use crate::args::Size;
use crate::generate::Record;
use crate::model;
use crate::terminal::output;

const EXAMPLES: &str = "\
Examples:
  sana inspect
  sana inspect Sana_1600M_1024px_BF16_diffusers
  sana inspect Sana_1600M_1024px_BF16_diffusers --size 1536x1536
  sana inspect Sana_1600M_1024px_BF16_diffusers --json
  sana inspect Sana_1600M_1024px_BF16_diffusers --check
  sana inspect sana.png";

/// Show what a checkpoint or a ControlNet holds, how much memory a checkpoint needs, or how an
/// image was made
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// Checkpoint folder in the diffusers layout, owner/name on the Hugging Face Hub, which is
    /// downloaded, a ControlNet's folder, or an image that `sana` made [default: the built-in
    /// model]
    path: Option<PathBuf>,
    /// Branch, tag or commit of a model from the Hub [default: main]
    #[arg(long, value_name = "REV", requires = "path")]
    revision: Option<String>,
    /// Weight files of this variant where the folder has them, such as fp16
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Estimate the memory for images of this size [default: what the model was trained at]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Read all weights and list those that are NaN or infinite; then the exit status is 1
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A checkpoint as JSON.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    description: Description,
    memory_for_images: ImageMemory,
}

impl Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n{}", self.description, self.memory_for_images)
    }
}

/// Runs `sana inspect`.
pub fn run(args: InspectArgs) -> anyhow::Result<()> {
    match args.path {
        Some(path) if path.is_file() && args.check => {
            bail!(
                "--check reads a checkpoint folder, {} is a file",
                path.display()
            )
        }
        path if args.check => check_weights(
            path.as_deref(),
            args.revision.as_deref(),
            args.variant.as_deref(),
            args.json,
        ),
        Some(path) if path.is_file() => inspect_image(&path, args.json),
        Some(path) if ControlNetFolder::is_one(&path) => {
            let folder = ControlNetFolder::open(&path)?;
            print(&folder.describe(args.variant.as_deref())?, args.json)?;
            if !args.json {
                let advice = "Use it with --controlnet, and a control image with --control.";
                writeln!(output(), "{advice}")?;
            }
            Ok(())
        }
        path => inspect_checkpoint(
            path.as_deref(),
            args.revision.as_deref(),
            args.variant.as_deref(),
            args.size,
            args.json,
        ),
    }
}

fn inspect_checkpoint(
    folder: Option<&Path>,
    revision: Option<&str>,
    variant: Option<&str>,
    size: Option<Size>,
    json: bool,
) -> anyhow::Result<()> {
    let checkpoint = model::find(folder, revision, variant)?.checkpoint;
    let inspected = Inspected {
        description: checkpoint.describe(variant)?,
        memory_for_images: checkpoint
            .describe_memory(variant, size.map(|Size { width, height }| [width, height]))?,
    };
    print(&inspected, json)
}

fn print(description: &(impl Display + Serialize), json: bool) -> anyhow::Result<()> {
    let mut out = output();
    if json {
        serde_json::to_writer_pretty(&mut out, description)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{description}")?;
    }
    Ok(())
}

fn check_weights(
    folder: Option<&Path>,
    revision: Option<&str>,
    variant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let checkpoint = model::find(folder, revision, variant)?.checkpoint;
    let check = checkpoint.check_weights(variant)?;
    let mut out = output();
    if json {
        serde_json::to_writer_pretty(&mut out, &check)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{check}")?;
    }
    match check.not_finite() {
        0 => Ok(()),
        tensors => bail!("{tensors} tensors of {} hold NaN or infinity", check.origin),
    }
}

fn inspect_image(path: &Path, json: bool) -> anyhow::Result<()> {
    let record = Record(image::read_text(path)?);
    if record.0.is_empty() {
        bail!(
            "{} does not say how it was made: it has no text",
            path.display()
        );
    }
    let mut out = output();
    if json {
        serde_json::to_writer_pretty(&mut out, &record.object())?;
        writeln!(out)?;
        return Ok(());
    }
    for (key, value) in &record.0 {
        writeln!(out, "{:<14} {}", printable(key), printable(value))?;
    }
    if let Some(command) = record.command() {
        writeln!(out, "\n{command}")?;
    }
    Ok(())
}

/// The text without what could steer a terminal.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}
