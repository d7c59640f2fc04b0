//! `sana inspect`: what a checkpoint folder holds, or how an image was made.

use std::fmt::{self, Display};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use sana_pipeline::checkpoint::check::{LoadedWith, Misfit};
use sana_pipeline::checkpoint::describe::Description;
use sana_pipeline::checkpoint::weight_file::{WeightFileDescription, WeightFileKind};
use sana_pipeline::checkpoint::{ControlNetFolder, LoraFile};
use sana_pipeline::memory::ImageMemory;
use sana_pipeline::{Checkpoint, Request, image};
use serde::Serialize;

use crate::args::{ScaledPath, Size};
use crate::generate::{Record, quoted};
use crate::model;
use crate::terminal::output;

const EXAMPLES: &str = "\
Examples:
  sana inspect
  sana inspect Sana_1600M_1024px_BF16_diffusers
  sana inspect Sana_1600M_1024px_BF16_diffusers --size 1536x1536
  sana inspect Sana_1600M_1024px_BF16_diffusers --json
  sana inspect Sana_1600M_1024px_BF16_diffusers --check
  sana inspect Sana_1600M_1024px_BF16_diffusers --lora style.safetensors
  sana inspect gemma-2-2b-it-Q6_K.gguf
  sana inspect sana.png";

/// Show what a checkpoint, a ControlNet or a file of weights holds, how much memory a checkpoint needs, or
/// how an image was made
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InspectArgs {
    /// Checkpoint folder in the diffusers layout, owner/name on the Hugging Face Hub, which is
    /// downloaded, a ControlNet's folder, a safetensors, GGUF or PyTorch file, or an image that `sana` made
    /// [default: the built-in model]
    path: Option<PathBuf>,
    /// Branch, tag or commit of a model from the Hub [default: main]
    #[arg(long, value_name = "REV", requires = "path")]
    revision: Option<String>,
    /// Weight files of this variant where the folder has them, such as fp16
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// A transformer in place of the checkpoint's, as for generate
    #[arg(long, value_name = "FILE")]
    transformer: Option<PathBuf>,
    /// A text encoder in place of the checkpoint's, as for generate
    #[arg(long, value_name = "FILE")]
    text_encoder: Option<PathBuf>,
    /// A ControlNet's folder that is to fit the checkpoint
    #[arg(long, value_name = "DIR")]
    controlnet: Option<PathBuf>,
    /// A LoRA that is to fit the checkpoint; several may be given
    #[arg(long, value_name = "FILE")]
    lora: Vec<ScaledPath>,
    /// Estimate the memory for images of this size [default: what the model was trained at]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Read all weights and list those that are NaN or infinite or do not fit; then the exit status
    /// is 1. Files from the Hub are compared with their hashes, and damaged ones downloaded again
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
    misfits: Vec<Misfit>,
}

impl Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n{}", self.description, self.memory_for_images)?;
        for (index, misfit) in self.misfits.iter().enumerate() {
            let space = if index == 0 { "\n\n" } else { "\n" };
            write!(f, "{space}{misfit}")?;
        }
        Ok(())
    }
}

/// Runs `sana inspect`.
pub fn run(args: InspectArgs) -> anyhow::Result<()> {
    match &args.path {
        Some(path) if path.is_file() && args.check => {
            bail!(
                "--check reads a checkpoint folder, {} is a file",
                path.display()
            )
        }
        _ if args.check => check_weights(&args),
        Some(path) if WeightFileDescription::is_one(path) => inspect_weights(path, args.json),
        Some(path) if path.is_file() => inspect_image(path, args.json),
        Some(path) if ControlNetFolder::is_one(path) => inspect_controlnet(path, &args),
        _ => inspect_checkpoint(&args),
    }
}

fn inspect_weights(path: &Path, json: bool) -> anyhow::Result<()> {
    let file = WeightFileDescription::open(path)?;
    print(&file, json)?;
    let option = match file.kind {
        WeightFileKind::Transformer
        | WeightFileKind::OriginalTransformer
        | WeightFileKind::NunchakuTransformer => "--transformer",
        WeightFileKind::TextEncoder | WeightFileKind::GgufTextEncoder => "--text-encoder",
        WeightFileKind::OtherGguf | WeightFileKind::Other => return Ok(()),
    };
    if !json {
        writeln!(output(), "\nUse it with {option}, next to a checkpoint.")?;
    }
    Ok(())
}

fn inspect_controlnet(path: &Path, args: &InspectArgs) -> anyhow::Result<()> {
    let folder = ControlNetFolder::open(path)?;
    print(&folder.describe(args.variant.as_deref())?, args.json)?;
    if !args.json {
        let advice = "Use it with --controlnet, and a control image with --control.";
        writeln!(output(), "{advice}")?;
    }
    Ok(())
}

impl InspectArgs {
    fn checkpoint(&self) -> anyhow::Result<Checkpoint> {
        let variant = self.variant.as_deref();
        let revision = self.revision.as_deref();
        let found = model::find_with(self.path.as_deref(), revision, variant, self.check)?;
        let checkpoint = match &self.transformer {
            Some(file) => found.checkpoint.with_transformer(file, variant)?,
            None => found.checkpoint,
        };
        Ok(match &self.text_encoder {
            Some(file) => checkpoint.with_text_encoder(file, variant)?,
            None => checkpoint,
        })
    }

    fn loaded_with(&self) -> LoadedWith {
        let loras = self.lora.iter();
        LoadedWith {
            variant: self.variant.clone(),
            controlnet: self.controlnet.clone(),
            loras: loras.map(|file| LoraFile::new(&file.path)).collect(),
        }
    }
}

fn inspect_checkpoint(args: &InspectArgs) -> anyhow::Result<()> {
    let checkpoint = args.checkpoint()?;
    let variant = args.variant.as_deref();
    let size = args.size.map(|Size { width, height }| [width, height]);
    let with = args.loaded_with();
    let inspected = Inspected {
        description: checkpoint.describe(variant)?,
        misfits: checkpoint.misfits(&with)?,
        memory_for_images: {
            if let Some([width, height]) = size {
                Request::new("")
                    .size(width, height)
                    .validate(&checkpoint.spec()?)?;
            }
            checkpoint.describe_memory(variant, size)?
        },
    };
    print(&inspected, args.json)?;
    check_misfits(&checkpoint, &inspected.misfits)
}

fn check_misfits(checkpoint: &Checkpoint, misfits: &[Misfit]) -> anyhow::Result<()> {
    let parts: Vec<&str> = misfits.iter().map(|misfit| misfit.part.as_str()).collect();
    match parts.as_slice() {
        [] => Ok(()),
        parts => bail!("{} does not fit: {}", checkpoint.origin(), parts.join(", ")),
    }
}

fn print(description: &(impl Display + Serialize), json: bool) -> anyhow::Result<()> {
    let mut out = output();
    if json {
        out.json(description)?;
    } else {
        writeln!(out, "{description}")?;
    }
    Ok(())
}

fn check_weights(args: &InspectArgs) -> anyhow::Result<()> {
    let checkpoint = args.checkpoint()?;
    let check = checkpoint.check_weights_with(&args.loaded_with())?;
    print(&check, args.json)?;
    match check.not_finite() {
        0 => check_misfits(&checkpoint, &check.misfits),
        tensors => bail!("{tensors} tensors of {} hold NaN or infinity", check.origin),
    }
}

fn inspect_image(path: &Path, json: bool) -> anyhow::Result<()> {
    let record = Record(image::read_text(path)?);
    let source = record.source_type();
    let has_texts = record.own().next().is_some() || record.parameters_text().is_some();
    // Of XMP nothing else is shown.
    if !has_texts && source.is_none() {
        bail!("{} does not say how it was made", path.display());
    }
    // Ours says the same, and more.
    let foreign = record.parameters().filter(|_| !record.is_ours());
    let other = record.other_parameters();
    let mut out = output();
    if json {
        let mut object = record.object();
        object.extend(other.map(|text| (image::PARAMETERS.to_owned(), text.into())));
        if let Some(foreign) = &foreign {
            object.remove("UserComment");
            object.insert("parameters".to_owned(), foreign.object().into());
        }
        object.extend(source.map(|source| ("source-type".to_owned(), source.into())));
        out.json(&object)?;
        return Ok(());
    }
    let read = foreign.is_some();
    for (key, value) in record
        .own()
        .filter(|(key, _)| !(read && key == "UserComment"))
    {
        // A key of somebody else could look like the command below.
        let key = match Record::knows(key) {
            true => key.clone(),
            false => format!("{key:?}"),
        };
        out.line(format_args!("{key:<14} {value}"))?;
    }
    if let Some(text) = other {
        let key = format!("{:?}", image::PARAMETERS);
        out.line(format_args!("{key:<14} {text}"))?;
    }
    if let Some(source) = source {
        out.line(format_args!("{:<14} {source}", "source-type"))?;
    }
    if let Some(foreign) = &foreign {
        writeln!(out, "as AUTOMATIC1111's web UI writes it:")?;
        for (key, value) in foreign.lines() {
            out.line(format_args!("  {key:<18} {value}"))?;
        }
    }
    let command = match record.command() {
        Some(command) => command,
        None if record.is_ours() => format!(
            "(no command, since the text is not plain: sana generate --from-image {} repeats the image)",
            quoted(&path.to_string_lossy())
        ),
        None => return Ok(()),
    };
    writeln!(out)?;
    out.line(command)?;
    Ok(())
}
