//! `sana metrics frechet`: the distance of two sets of images by statistics of their features.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use sana_pipeline::metrics::{FeatureStatistics, frechet_distance};
use serde_json::json;

use super::result::{description, result};
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
    let inputs = json!({
        "features": reference.features(),
        "reference": { "file": args.reference, "count": reference.count() },
        "generated": { "file": args.generated, "count": generated.count() },
    });
    let described = description("frechet", None, Some("f64".to_owned()), inputs);
    out.json(&result(described, Some(value), generated.count(), None))?;
    Ok(())
}
