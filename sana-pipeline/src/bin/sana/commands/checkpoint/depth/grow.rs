//! `sana grow`: a deeper transformer that begins with a trained one.

use clap::{Args, ValueEnum};
use sana_pipeline::transformer::depth::{GrowthOptions, GrowthStrategy};

use super::{OutArgs, SourceArgs};
use crate::args::positive;
use crate::model;
use crate::terminal::{note, output};

const EXAMPLES: &str = "\
Examples:
  sana grow --layers 10 --out grown
  sana grow SANA1.5_1.6B_1024px_diffusers --layers 60 --out grown
  sana grow my-checkpoint --layers 14 --strategy block --out doubled
  sana train transformer --from grown --autoencoder grown --out runs/grown --steps 2000

The last two blocks are dropped, as in SANA-1.5, and the new blocks change nothing until they are
trained, with `sana train transformer --from`.";

/// Write a checkpoint with a deeper transformer, to be trained on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GrowArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Blocks of the new transformer
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    layers: usize,
    /// Blocks of the model that are kept, its first ones [default: all but the last two for
    /// `partial`, else all]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = positive())]
    keep: Option<usize>,
    /// Where the other blocks come from
    #[arg(long, value_name = "NAME", value_enum, default_value = "partial")]
    strategy: StrategyName,
    /// Add no norms of queries and keys to a model that has none
    #[arg(long)]
    no_qk_norm: bool,
    /// Seed of the new weights
    #[arg(
        long,
        value_name = "S",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    seed: u64,
    #[command(flatten)]
    out: OutArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StrategyName {
    /// The kept blocks, then new ones that change nothing yet: what SANA-1.5 does
    Partial,
    /// The kept blocks again and again
    Cyclic,
    /// Each block several times in a row
    Block,
    /// Between neighbouring blocks, evenly
    Interpolation,
    /// The kept blocks, then each the one before it with a little noise
    Progressive,
}

impl From<StrategyName> for GrowthStrategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::Partial => Self::Partial,
            StrategyName::Cyclic => Self::Cyclic,
            StrategyName::Block => Self::Block,
            StrategyName::Interpolation => Self::Interpolation,
            StrategyName::Progressive => Self::Progressive,
        }
    }
}

/// Runs `sana grow`.
pub fn run(args: GrowArgs) -> anyhow::Result<()> {
    let _lock = args.out.lock()?;
    let SourceArgs {
        model,
        revision,
        variant,
    } = &args.source;
    let variant = variant.as_deref();
    let found = model::find(model.as_deref(), revision.as_deref(), variant)?;
    let checkpoint = found.checkpoint;
    let config = checkpoint.transformer_config()?;
    let mut options = GrowthOptions::new(args.layers)
        .strategy(args.strategy.into())
        .add_qk_norm(!args.no_qk_norm)
        .seed(args.seed);
    if let Some(keep) = args.keep {
        options = options.keep(keep);
    }
    let plan = config.grow(&options)?;
    if plan.adds_qk_norm() {
        note(
            "the model has no norms of queries and keys, and all blocks get them: its images \
             change until it is trained; --no-qk-norm adds none",
        );
    }
    args.out.write(&checkpoint, variant, &plan)?;
    let (blocks, copies) = (plan.blocks().len(), plan.copies());
    output().line(format_args!(
        "wrote {}: {} with {blocks} blocks instead of {}, {copies} of them copies",
        args.out.folder().display(),
        found.name,
        config.num_layers,
    ))?;
    Ok(())
}
