//! `sana metrics dpg`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use sana_linear_attn::weights::read_text_bounded;
use sana_pipeline::metrics::{DpgQuestions, DpgScore};
use serde_json::json;

use super::args::MakeArgs;
use super::item::{Item, Place};
use super::make;
use crate::commands::metrics::images;
use crate::commands::metrics::prompts::{self, Prompt};
use crate::commands::metrics::result::{description, result};
use crate::files::Files;
use crate::generate::args::FormatName;
use crate::terminal::{output, warning};

/// Images of each prompt: the evaluator cuts a grid of two rows and two columns.
const IMAGES: usize = 4;
/// Bytes of questions or answers, at most: the official questions have 4 MB.
const LARGEST: u64 = 1 << 30;
/// Bytes of a prompt in a file of its own, at most.
const LARGEST_PROMPT: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  sana metrics dpg generate ELLA/dpg_bench/prompts --out dpg --batch 8 \\
      --model Sana_1600M_1024px_BF16_diffusers
  sana metrics dpg generate dpg_prompts.json --out dpg --shard 2/4
  sana metrics dpg score dpg-bench_results_detail.txt --questions ELLA/dpg_bench/dpg_bench.csv

The official evaluator (compute_dpg_bench.py of TencentQQGYLab/ELLA, mPLUG-large, --pic-num 4 and
--resolution the width of one image) reads the folder and writes the answers.";

/// Images for DPG-Bench's evaluator, and the score of its answers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct DpgArgs {
    #[command(subcommand)]
    command: DpgCommand,
}

#[derive(Debug, Subcommand)]
enum DpgCommand {
    Generate(Box<GenerateArgs>),
    Score(ScoreArgs),
}

/// Make the images of DPG-Bench's prompts, four on a grid; prompts are encoded without instruction
#[derive(Debug, Args)]
struct GenerateArgs {
    /// Folder of the prompts, ID.txt each, or a file {"ID": {"prompt": "..."}}
    #[arg(value_name = "PATH")]
    prompts: PathBuf,
    /// Format of the grids
    #[arg(long, value_enum, default_value = "jpeg")]
    format: FormatName,
    #[command(flatten)]
    make: MakeArgs,
}

/// Score the answers to the questions about the images
#[derive(Debug, Args)]
struct ScoreArgs {
    /// What the evaluator wrote of each question: ..._detail.txt
    #[arg(value_name = "DETAIL.txt")]
    answers: PathBuf,
    /// The questions, dpg_bench.csv
    #[arg(long, value_name = "FILE.csv")]
    questions: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `sana metrics dpg`.
pub fn run(args: DpgArgs) -> anyhow::Result<()> {
    match args.command {
        DpgCommand::Generate(args) => args.make.resources.cpu.run(|| generate(&args)),
        DpgCommand::Score(args) => score(&args),
    }
}

fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let prompts = match args.prompts.is_dir() {
        true => read_folder(&args.prompts)?,
        false => prompts::read(&args.prompts, None)?,
    };
    prompts::check_names(&args.prompts, &prompts)?;
    let mut files = Files::default();
    files.reads(&args.prompts, "the prompts");
    let ending = args.format.ending();
    for prompt in &prompts {
        for other in ["jpg", "jpeg", "png", "webp"] {
            let path = args.make.out.join(format!("{}.{other}", prompt.key));
            if other != ending && path.exists() {
                bail!(
                    "{} is there: the evaluator would count both formats, so remove it or name another \
                     folder with --out",
                    path.display()
                );
            }
        }
    }
    let item = |prompt: Prompt| Item {
        place: Place::Sheet {
            path: args.make.out.join(format!("{}.{ending}", prompt.key)),
            images: IMAGES,
        },
        prompt: prompt.text,
    };
    let items = prompts.into_iter().map(item).collect();
    make::run(&args.make, items, files, true)
}

/// The prompts of a folder by name.
fn read_folder(folder: &Path) -> anyhow::Result<Vec<Prompt>> {
    let failed = || format!("cannot read {}", folder.display());
    let mut prompts = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.extension().is_none_or(|ending| ending != "txt") {
            continue;
        }
        let text = read_text_bounded(&path, LARGEST_PROMPT)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has no name in UTF-8", path.display()))?;
        prompts.push(Prompt {
            key: name.to_owned(),
            text: text.trim().to_owned(),
        });
    }
    prompts.sort_by(|one, other| one.key.cmp(&other.key));
    if prompts.is_empty() {
        bail!("{} has no prompts: no file ends in .txt", folder.display());
    }
    Ok(prompts)
}

fn score(args: &ScoreArgs) -> anyhow::Result<()> {
    let read = |path: &Path| {
        read_text_bounded(path, LARGEST).with_context(|| format!("cannot read {}", path.display()))
    };
    let not_usable = |path: &Path| format!("{} is not usable", path.display());
    let questions =
        DpgQuestions::read(&read(&args.questions)?).with_context(|| not_usable(&args.questions))?;
    let answers = read(&args.answers)?;
    let score =
        DpgScore::of_answers(&questions, &answers).with_context(|| not_usable(&args.answers))?;
    for path in &score.left_out {
        warning(format!(
            "{path} is left out: a question about it depends on one that is not there"
        ));
    }
    let mut out = output();
    if !args.json {
        writeln!(out, "{score}")?;
        return Ok(());
    }
    let found = score.grids.iter();
    let found = found.map(|path| images::recorded(Path::new(path), ["seed", "dtype"]));
    let (seeds, dtypes): (Vec<_>, Vec<_>) = found.map(|[seed, dtype]| (seed, dtype)).unzip();
    let inputs = json!({
        "answers": args.answers,
        "questions": args.questions,
        "prompts": score.grids.len(),
        "categories": score.categories,
        "left_out": score.left_out,
    });
    let described = description("dpg", None, images::common(&dtypes), inputs);
    let count = Some(score.count as u64);
    // Of each grid that of its first image.
    out.json(&result(described, Some(score.value), count, Some(seeds)))?;
    Ok(())
}
