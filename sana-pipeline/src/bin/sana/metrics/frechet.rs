//! `sana metrics frechet`: the distance of two sets of images by statistics of their features.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use sana_pipeline::metrics::{FeatureStatistics, frechet_distance};
use serde::Serialize;

use super::provenance::{COMMIT, VERSION};
use crate::terminal::output;

const EXAMPLES: &str = "\
Examples:
  sana metrics frechet MJHQ_30K_512px_fid_embeddings_30000.npz generated.npz
  sana metrics frechet real.npz generated.npz --json

With features of FID's Inception-v3 this is FID. Both files must come from the same network and the
same resizing: the numbers say nothing otherwise.";

/// Fréchet distance of two files with the mean and covariance of features
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct FrechetArgs {
    /// Statistics of the reference: an .npz with mu and sigma, as pytorch-fid and others write it
    #[arg(value_name = "REFERENCE.npz")]
    reference: PathBuf,
    /// Statistics of the generated images, of the same kind
    #[arg(value_name = "GENERATED.npz")]
    generated: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Side<'a> {
    file: &'a Path,
    /// Images, where the file says so.
    count: Option<u64>,
}

#[derive(Serialize)]
struct Distance<'a> {
    metric: &'static str,
    value: f64,
    features: usize,
    reference: Side<'a>,
    generated: Side<'a>,
    dtype: &'static str,
    version: &'static str,
    commit: Option<&'static str>,
}

/// Runs `sana metrics frechet`.
pub fn run(args: &FrechetArgs) -> anyhow::Result<()> {
    let reference = FeatureStatistics::load(&args.reference)?;
    let generated = FeatureStatistics::load(&args.generated)?;
    let value = frechet_distance(&reference, &generated)?;
    let mut out = output();
    if !args.json {
        writeln!(out, "{value:.6}")?;
        return Ok(());
    }
    let side = |file, statistics: &FeatureStatistics| Side {
        file,
        count: statistics.count(),
    };
    let distance = Distance {
        metric: "frechet",
        value,
        features: reference.features(),
        reference: side(&args.reference, &reference),
        generated: side(&args.generated, &generated),
        dtype: "f64",
        version: VERSION,
        commit: COMMIT,
    };
    out.json(&distance)?;
    Ok(())
}
