//! `sana metrics`: the measures that papers report of generated images.

mod args;
mod benchmark;
mod clip_score;
mod fid;
mod frechet;
mod images;
mod prompts;
mod result;
mod result_file;

use clap::{Args, Subcommand};

use self::benchmark::{DpgArgs, GenevalArgs, ImageRewardArgs};
use self::clip_score::ClipScoreArgs;
use self::fid::FidArgs;
use self::frechet::FrechetArgs;

const EXAMPLES: &str = "\
Examples:
  sana metrics clip-score --clip clip-vit-large-patch14 --prompts meta_data.json --images generated
  sana metrics fid --inception fid_inception.safetensors --images generated --reference real.npz
  sana metrics frechet real.npz generated.npz
  sana metrics geneval generate evaluation_metadata.jsonl --out geneval
  sana metrics geneval score results.jsonl

`sana metrics MEASURE --help` prints the options of a measure, with examples.";

/// Measure generated images as papers do
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct MetricsArgs {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    ClipScore(Box<ClipScoreArgs>),
    Fid(Box<FidArgs>),
    Frechet(FrechetArgs),
    Geneval(GenevalArgs),
    Dpg(DpgArgs),
    ImageReward(ImageRewardArgs),
}

/// Runs `sana metrics`.
pub fn run(args: MetricsArgs) -> anyhow::Result<()> {
    match args.measure {
        Measure::ClipScore(args) => args.measure.cpu.run(|| clip_score::run(&args)),
        Measure::Fid(args) => args.measure.cpu.run(|| fid::run(&args)),
        Measure::Frechet(args) => frechet::run(&args),
        Measure::Geneval(args) => benchmark::run_geneval(args),
        Measure::Dpg(args) => benchmark::run_dpg(args),
        Measure::ImageReward(args) => benchmark::run_image_reward(args),
    }
}
