//! `sana metrics geneval`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use sana_linear_attn::weights::read_text_bounded;
use sana_pipeline::metrics::{GenevalPrompt, GenevalResult, GenevalScore};
use serde_json::json;

use super::args::MakeArgs;
use super::item::{Item, Place};
use super::make;
use crate::args::positive;
use crate::commands::metrics::images;
use crate::commands::metrics::result::{description, result};
use crate::files::Files;
use crate::terminal::{output, warning};

/// Bytes of a file of prompts or results, at most: the official prompts have 110 kB.
const LARGEST: u64 = 256 << 20;

const EXAMPLES: &str = "\
Examples:
  sana metrics geneval generate evaluation_metadata.jsonl --out geneval \\
      --model Sana_1600M_1024px_BF16_diffusers --batch 8
  sana metrics geneval generate evaluation_metadata.jsonl --out geneval --shard 2/4
  sana metrics geneval score results.jsonl

GenEval's own evaluator (djghosh13/geneval, Mask2Former) reads the folder and writes results.jsonl.";

/// Images for GenEval's evaluator, and the score of its results
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct GenevalArgs {
    #[command(subcommand)]
    command: GenevalCommand,
}

#[derive(Debug, Subcommand)]
enum GenevalCommand {
    Generate(Box<GenerateArgs>),
    Score(ScoreArgs),
}

/// Make the images of GenEval's prompts
#[derive(Debug, Args)]
struct GenerateArgs {
    /// evaluation_metadata.jsonl of GenEval
    #[arg(value_name = "FILE.jsonl")]
    prompts: PathBuf,
    /// Images of each prompt
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true, value_parser = positive())]
    images: usize,
    #[command(flatten)]
    make: MakeArgs,
}

/// Score results.jsonl: the mean of the means of six tags, as it is published
#[derive(Debug, Args)]
struct ScoreArgs {
    /// What GenEval's evaluator wrote
    #[arg(value_name = "FILE.jsonl")]
    results: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `sana metrics geneval`.
pub fn run(args: GenevalArgs) -> anyhow::Result<()> {
    match args.command {
        GenevalCommand::Generate(args) => args.make.resources.cpu.run(|| generate(&args)),
        GenevalCommand::Score(args) => score(&args),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    read_text_bounded(path, LARGEST).with_context(|| format!("cannot read {}", path.display()))
}

fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let prompts = GenevalPrompt::read_all(&read(&args.prompts)?)
        .with_context(|| format!("{} is not usable", args.prompts.display()))?;
    if prompts.is_empty() {
        bail!("{} has no prompts", args.prompts.display());
    }
    let mut files = Files::default();
    files.reads(&args.prompts, "the prompts");
    let item = |(index, prompt): (usize, &GenevalPrompt)| {
        let folder = args.make.out.join(format!("{index:05}"));
        let samples = folder.join("samples");
        Item {
            prompt: prompt.prompt.clone(),
            place: Place::Files {
                paths: (0..args.images)
                    .map(|image| samples.join(format!("{image:04}.png")))
                    .collect(),
                text: Some((
                    folder.join("metadata.jsonl"),
                    format!("{}\n", prompt.line.trim()),
                )),
                grid: Some(folder.join("grid.png")),
            },
        }
    };
    let items = prompts.iter().enumerate().map(item).collect();
    make::run(&args.make, items, files, false)
}

fn score(args: &ScoreArgs) -> anyhow::Result<()> {
    let results = GenevalResult::read_all(&read(&args.results)?);
    let scored = results.and_then(|results| Ok((GenevalScore::of(&results)?, results)));
    let (score, results) =
        scored.with_context(|| format!("{} is not usable", args.results.display()))?;
    if !score.missing.is_empty() {
        warning(format!(
            "no images of {}: this is not the score of GenEval's prompts",
            score.missing.join(", ")
        ));
    }
    let mut out = output();
    if !args.json {
        writeln!(out, "{score}")?;
        return Ok(());
    }
    let found = results.iter();
    let found = found.map(|one| images::recorded(Path::new(&one.filename), ["seed", "dtype"]));
    let (seeds, dtypes): (Vec<_>, Vec<_>) = found.map(|[seed, dtype]| (seed, dtype)).unzip();
    let inputs = json!({
        "results": args.results,
        "tags": score.tags,
        "missing": score.missing,
    });
    let described = description("geneval", None, images::common(&dtypes), inputs);
    let count = Some(score.count as u64);
    out.json(&result(described, Some(score.value), count, Some(seeds)))?;
    Ok(())
}
