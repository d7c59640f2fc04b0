//! `sana prune`: the blocks that matter least are left out.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use sana_linear_attn::weights::replace_file;
use sana_pipeline::transformer::depth::BlockImportance;
use sana_pipeline::{Request, StepAction, image};

use super::{OutArgs, SourceArgs};
use crate::args::{Dtype, ModelArgs, ResourceArgs, positive};
use crate::device::DeviceName;
use crate::files::Files;
use crate::generate;
use crate::model::Model;
use crate::terminal::{Progress, output};

const EXAMPLES: &str = "\
Examples:
  sana prune --prompts prompts.txt --keep 5 --out pruned
  sana prune SANA1.5_4.8B_1024px_diffusers --prompts prompts.txt --keep 20 --out pruned
  sana train transformer --from pruned --autoencoder pruned --out runs/pruned --steps 100

The importance of every block is measured while the prompts are denoised: one minus the cosine
between its input and its output. It is printed, and written to block_importance.csv in the folder.";

/// Name of the table in the folder.
const TABLE: &str = "block_importance.csv";
/// Width of the longest bar of the printed table.
const BAR: f64 = 40.0;

/// Write a checkpoint of the transformer's most important blocks, to be trained on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PruneArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Prompts, one a line, as for `sana generate --prompts`; 100 different ones do
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Blocks to keep
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    keep: usize,
    /// Steps of the solver [default: 20, for Sana-Sprint 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    steps: Option<usize>,
    /// Classifier-free guidance scale [default: 4.5]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// Prompts denoised at a time: fewer take less memory
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true, value_parser = positive())]
    batch: usize,
    /// Seed of the noise of the first prompt; the others follow
    #[arg(
        long,
        value_name = "S",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    seed: u64,
    #[command(flatten)]
    out: OutArgs,
    /// Where to compute, as for `sana generate`
    #[arg(short, long, value_name = "DEVICE")]
    device: Option<DeviceName>,
    /// Type of the weights in memory, as for `sana generate`
    #[arg(long, value_name = "TYPE", value_enum)]
    dtype: Option<Dtype>,
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// Runs `sana prune`.
pub fn run(args: PruneArgs) -> anyhow::Result<()> {
    let prompts = generate::read_prompts(&args.prompts)?;
    let mut files = Files::default();
    files.reads(&args.prompts, "the prompts");
    let table = args.out.folder().join(TABLE);
    files.writes(&table, "--out", "the table of the blocks")?;
    let model_args = ModelArgs {
        model: args.source.model.clone(),
        revision: args.source.revision.clone(),
        variant: args.source.variant.clone(),
        device: args.device,
        dtype: args.dtype,
        ..ModelArgs::default()
    };
    let mut model = Model::open(&model_args, &args.resources)?;
    let config = model.pipeline.spec().transformer.clone();
    let blocks = config.num_layers;
    // What cannot be kept is known before the work.
    config.keep_blocks(&(0..args.keep).collect::<Vec<_>>())?;
    let _lock = args.out.lock()?;
    image::check_writable(&table)?;

    let importance = measure(&args, &mut model, &prompts, blocks)?;
    model.print_notes();
    let kept = importance.most_important(args.keep)?;
    let rows = rows(&importance, &kept);
    write!(output(), "{}", printed(&rows))?;
    let mut csv = String::from("block,importance,kept\n");
    for Row { block, value, kept } in &rows {
        let _ = writeln!(csv, "{block},{value},{kept}");
    }
    replace_file(&table, |file| file.write_all(csv.as_bytes()))
        .with_context(|| format!("cannot write {}", table.display()))?;

    let plan = config.keep_blocks(&kept)?;
    let checkpoint = model.pipeline.checkpoint().context("no checkpoint")?;
    args.out
        .write(checkpoint, args.source.variant.as_deref(), &plan)?;
    output().line(format_args!(
        "wrote {}: {} with {} of {blocks} blocks",
        args.out.folder().display(),
        model.name,
        args.keep
    ))?;
    Ok(())
}

/// The importance over all steps of all prompts.
fn measure(
    args: &PruneArgs,
    model: &mut Model,
    prompts: &[String],
    blocks: usize,
) -> anyhow::Result<BlockImportance> {
    let mut importance = BlockImportance::new(blocks);
    let progress = Progress::new(prompts.len(), "measuring");
    for (batch, first) in prompts.chunks(args.batch).zip((0..).step_by(args.batch)) {
        let seed = args.seed.wrapping_add(first);
        let mut request = Request::batch(batch.iter().map(String::as_str)).seed(seed);
        if let Some(steps) = args.steps {
            request = request.steps(steps);
        }
        if let Some(guidance) = args.guidance {
            request = request.guidance(guidance);
        }
        importance = model
            .pipeline
            .add_block_importance(importance, &request, &mut |_| StepAction::Continue)?;
        progress.advance(first + batch.len() as u64, prompts.len() as u64);
    }
    progress.finish();
    Ok(importance)
}

/// A line of the table.
struct Row {
    block: usize,
    value: f64,
    kept: bool,
}

fn rows(importance: &BlockImportance, kept: &[usize]) -> Vec<Row> {
    let values = importance.values().into_iter().enumerate();
    let row = |(block, value): (usize, Option<f64>)| Row {
        block,
        value: value.unwrap_or(f64::NAN),
        kept: kept.contains(&block),
    };
    values.map(row).collect()
}

/// The table with a bar for each block.
fn printed(rows: &[Row]) -> String {
    let largest = rows
        .iter()
        .fold(f64::MIN_POSITIVE, |most, row| most.max(row.value));
    let mut text = String::from("block  importance\n");
    for Row { block, value, kept } in rows {
        let bar = "#".repeat((value / largest * BAR).round().max(0.0) as usize);
        let what = if *kept { "" } else { "  left out" };
        let _ = writeln!(text, "{block:>5}  {value:>10.5}  {bar}{what}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_largest_allows() {
        let row = |block, value, kept| Row { block, value, kept };
        let text = printed(&[row(0, 0.5, true), row(1, 0.0, false), row(2, 0.25, true)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("    0     0.50000  {}", "#".repeat(40)));
        assert_eq!(lines[2], "    1     0.00000    left out");
        assert_eq!(lines[3], format!("    2     0.25000  {}", "#".repeat(20)));
    }
}
