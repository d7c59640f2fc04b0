//! `sana latent-rgb`: the colours that previews show, fitted to a model's autoencoder.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use sana_pipeline::image::{self, FileFormat, RgbImage};

use crate::args::{ModelArgs, ResourceArgs};
use crate::files::Files;
use crate::model::Model;
use crate::preview;
use crate::terminal::output;

const EXAMPLES: &str = "\
Examples:
  sana latent-rgb --model runs/mine
  sana latent-rgb --model runs/mine --images photos
  sana latent-rgb --model runs/mine --out latent_rgb.json

The published autoencoders of Sana need no such file, nor does the built-in model. For others
previews fit the colours at the start of each run; with the file they begin at once.";

/// Fit the colours that previews show to a model's autoencoder, and keep them with its weights
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LatentRgbArgs {
    /// Folder of images to fit on, PNG, JPEG or WebP [default: shapes that are drawn]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// File to write [default: latent_rgb.json in the folder vae of the model]
    #[arg(short, long, value_name = "PATH")]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// Runs `sana latent-rgb`.
pub fn run(args: LatentRgbArgs) -> anyhow::Result<()> {
    let mut model = Model::open(&args.model, &args.resources)?;
    let own = model
        .pipeline
        .checkpoint()
        .and_then(|checkpoint| checkpoint.latent_rgb_path());
    let Some(out) = args.out.clone().or(own) else {
        bail!("the built-in model has its colours: name another file with --out");
    };
    if args.out.is_some() {
        let mut files = Files::default();
        args.model.add_files(&mut files);
        files.writes(&out, "--out", "the colours of latents")?;
    }
    image::check_writable(&out).context(
        "the colours cannot be kept there: name another file with --out, or keep none, since previews \
         fit them at the start of a run",
    )?;
    let psnr = match &args.images {
        Some(folder) => fit_on(folder, &mut model)?,
        None => preview::fit(&mut model)?,
    };
    model.print_notes();
    let latent_rgb = model.pipeline.latent_rgb().context("no colours")?;
    latent_rgb.save(&out)?;
    let mut printed = output();
    writeln!(
        printed,
        "PSNR {psnr:.2} dB of the colours of latents that were held out"
    )?;
    printed.line(format_args!("wrote {}", out.display()))?;
    Ok(())
}

/// Fits on the images in a folder, by name.
fn fit_on(folder: &Path, model: &mut Model) -> anyhow::Result<f64> {
    let read = || format!("cannot read the folder {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(read)? {
        let path = entry.with_context(read)?.path();
        if FileFormat::of(&path).is_ok() && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let failed = Cell::new(None);
    let loaded = |path: &PathBuf| -> Option<RgbImage> {
        image::load(path)
            .map_err(|error| failed.set(Some(error)))
            .ok()
    };
    let fitted = model
        .pipeline
        .fit_latent_rgb("images of a folder", paths.iter().map_while(loaded));
    if let Some(error) = failed.take() {
        return Err(error.into());
    }
    Ok(fitted
        .with_context(|| format!("on {} images in {}", paths.len(), folder.display()))?
        .psnr)
}
