//! `sana metrics fid`: how far a set of images is from another by the features of Inception-v3.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use rayon::prelude::*;
use sana_pipeline::image;
use sana_pipeline::metrics::{
    FeatureAccumulator, FeatureStatistics, FidInception, FidResize, frechet_distance,
};
use serde_json::json;

use super::args::MeasureArgs;
use super::result::{description, result};
use super::{images, prompts};
use crate::args::many;
use crate::device::OpenDevice;
use crate::files::Files;
use crate::terminal::{Progress, output};

const EXAMPLES: &str = "\
Examples:
  sana metrics fid --inception fid_inception.safetensors --images MJHQ-30K/imgs --save real.npz
  sana metrics fid --inception fid_inception.safetensors --images generated --reference real.npz
  sana metrics fid --inception fid_inception.safetensors --images generated --reference real.npz \\
      --resize none

The images of both sets have to be resized in the same way: --resize 512 is that of Sana's numbers,
none that of pytorch-fid.";

/// FID of a folder of images, or the statistics of its features
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("result").required(true).multiple(true))]
pub struct FidArgs {
    /// Weights of FID's Inception-v3 of 2015: safetensors under torchvision's names, or
    /// pt_inception-2015-12-05-6726825d.pth
    #[arg(long, value_name = "FILE")]
    inception: PathBuf,
    /// Folder of the images, with its folders
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Statistics of the reference images
    #[arg(long, value_name = "FILE.npz", group = "result")]
    reference: Option<PathBuf>,
    /// Write the statistics of these images
    #[arg(long, value_name = "FILE.npz", group = "result")]
    save: Option<PathBuf>,
    /// Shorter side that images are resized to before the network resizes them to 299, or none
    #[arg(long, value_name = "PIXELS|none", default_value = "512")]
    resize: Resize,
    /// Take the images of this file's keys, as for clip-score [default: all, by name]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Take the first N images [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = many())]
    count: Option<usize>,
    #[command(flatten)]
    pub measure: MeasureArgs,
}

#[derive(Debug, Clone, Copy)]
struct Resize(FidResize);

impl FromStr for Resize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(FidResize::Whole));
        }
        let side: Option<u32> = text.parse().ok();
        match side.filter(|side| (1..=image::LARGEST_SIDE as u32).contains(side)) {
            Some(side) => Ok(Self(FidResize::ShorterSide(side))),
            None => Err(format!(
                "expected 1 to {} pixels, or none",
                image::LARGEST_SIDE
            )),
        }
    }
}

/// Runs `sana metrics fid`.
pub fn run(args: &FidArgs) -> anyhow::Result<()> {
    let reference = args.reference.as_deref().map(FeatureStatistics::load);
    let reference = reference.transpose()?;
    if let Some(reference) = &reference
        && reference.features() != FidInception::FEATURES
    {
        bail!(
            "--reference has {} features, and Inception-v3 gives {}",
            reference.features(),
            FidInception::FEATURES
        );
    }
    let mut files = Files::default();
    files.reads(&args.inception, "the weights");
    for (path, what) in [
        (&args.reference, "the reference"),
        (&args.prompts, "the prompts"),
    ] {
        if let Some(path) = path {
            files.reads(path, what);
        }
    }
    if let Some(path) = &args.save {
        files.writes(path, "--save", "the statistics")?;
        image::check_writable(path)?;
    }
    let paths = paths(args)?;
    let device = OpenDevice::open(args.measure.device)?;
    let network = FidInception::load(&args.inception, &device.device)?;
    let (statistics, seeds) = statistics(args, &network, &paths)?;
    if let Some(path) = &args.save {
        statistics.save(path)?;
    }
    let distance = reference
        .as_ref()
        .map(|reference| frechet_distance(reference, &statistics))
        .transpose()?;
    let mut out = output();
    if args.measure.json {
        let inputs = json!({
            "reference": {
                "file": args.reference,
                "count": reference.as_ref().and_then(FeatureStatistics::count),
            },
            "images": args.images,
            "inception": args.inception,
        });
        // The distance is computed in f64.
        let dtype = Some("f32".to_owned());
        let described = description("fid", Some(args.resize.0.to_string()), dtype, inputs);
        let count = Some(paths.len() as u64);
        let result = result(described, distance, count, Some(seeds));
        out.json(&result)?;
        return Ok(());
    }
    if let Some(path) = &args.save {
        out.line(format_args!(
            "wrote {} of {} images",
            path.display(),
            paths.len()
        ))?;
    }
    if let Some(distance) = distance {
        writeln!(out, "{distance:.6}")?;
    }
    Ok(())
}

/// Statistics of the features, and the seeds that the images record.
fn statistics(
    args: &FidArgs,
    network: &FidInception,
    paths: &[PathBuf],
) -> anyhow::Result<(FeatureStatistics, Vec<Option<String>>)> {
    let mut seeds = Vec::with_capacity(paths.len());
    let mut sums = FeatureAccumulator::new(FidInception::FEATURES)?;
    let progress = Progress::new(paths.len(), "reading features");
    for batch in paths.chunks(args.measure.batch) {
        let read: anyhow::Result<Vec<_>> =
            batch.par_iter().map(|path| images::read(path)).collect();
        let (pixels, found): (Vec<_>, Vec<_>) = read?.into_iter().unzip();
        seeds.extend(found);
        for features in network.features(&pixels, args.resize.0)? {
            sums.push(&features)?;
        }
        progress.advance(sums.count(), paths.len() as u64);
    }
    progress.finish();
    Ok((sums.statistics()?, seeds))
}

/// The images to read: those of the prompts' keys in their order, or all by name.
fn paths(args: &FidArgs) -> anyhow::Result<Vec<PathBuf>> {
    if args.count == Some(1) {
        bail!("--count 1: a covariance needs at least 2 images");
    }
    let mut paths = match &args.prompts {
        Some(file) => prompts::read(file, args.count)?
            .iter()
            .map(|prompt| images::of_key(&args.images, &prompt.key))
            .collect::<anyhow::Result<_>>()?,
        None => {
            let mut found = Vec::new();
            collect(&args.images, &mut found)?;
            found.sort();
            found
        }
    };
    if let Some(count) = args.count {
        if paths.len() < count {
            bail!(
                "{} has {} images, not {count}",
                args.images.display(),
                paths.len()
            );
        }
        paths.truncate(count);
    }
    if paths.len() < 2 {
        bail!(
            "{} has {} images, and a covariance needs at least 2",
            args.images.display(),
            paths.len()
        );
    }
    Ok(paths)
}

/// Adds the images of a folder and of its folders. Links to folders are not followed.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let failed = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let path = entry.path();
        if entry.file_type().with_context(failed)?.is_dir() {
            collect(&path, found)?;
        } else if images::is_image(&path) {
            found.push(path);
        }
    }
    Ok(())
}
