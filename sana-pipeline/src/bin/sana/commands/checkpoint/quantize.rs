//! `sana quantize`: a checkpoint with networks in 8 or 4 bits.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap::builder::RangedU64ValueParser;
use sana_linear_attn::weights::LayerNoise;
use sana_pipeline::FolderLock;
use sana_pipeline::checkpoint::Component;
use sana_pipeline::checkpoint::create::{self, QuantizedOptions};

use crate::args::{FormOf, QuantizeArgs};
use crate::device::OpenDevice;
use crate::files::check_empty;
use crate::model;
use crate::terminal::{Progress, output};

const EXAMPLES: &str = "\
Examples:
  sana quantize Sana_1600M_1024px_BF16_diffusers --to int8 --out sana-int8
  sana quantize Sana_1600M_1024px_BF16_diffusers --to uint4 --svd 32 --out sana-uint4
  sana quantize Sana_1600M_1024px_BF16_diffusers --to int8:transformer --out sana-int8
  sana generate \"a cat\" --model sana-int8

diffusers reads the folder too, with the package sdnq 0.2.8 installed.";

/// Write a checkpoint with the linear layers of its transformer and text encoder in 8 or 4 bits
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct QuantizeCheckpointArgs {
    /// Checkpoint folder in the diffusers layout, or owner/name on the Hugging Face Hub [default:
    /// the built-in model]
    model: Option<PathBuf>,
    /// Form of the transformer and the text encoder, or of the one that is named; the other stays as
    /// it is. uint4 without a name makes the text encoder int8, since it suffers most
    #[arg(long, value_name = "FORM[:COMPONENT]", required = true)]
    to: Vec<FormOf>,
    /// Keep the last layers of the transformer's feed-forwards as they are: closer to the original,
    /// and larger
    #[arg(long)]
    dense_down: bool,
    /// Take a matrix of this rank out of each weight before it is quantized, and keep it in f32 next
    /// to it: closer to the original, and slower
    #[arg(long, value_name = "RANK", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    svd: Option<usize>,
    /// Folder to write; it must not have a checkpoint in it
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Branch, tag or commit of a model from the Hub [default: main]
    #[arg(long, value_name = "REV", requires = "model")]
    revision: Option<String>,
    /// Weight files of this variant where the folder has them, such as fp16
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// Runs `sana quantize`.
pub fn run(args: QuantizeCheckpointArgs) -> anyhow::Result<()> {
    let variant = args.variant.as_deref();
    let out = &args.out;
    check_empty(out)?;
    let found = model::find(args.model.as_deref(), args.revision.as_deref(), variant)?;
    std::fs::create_dir_all(out).with_context(|| format!("cannot access {}", out.display()))?;
    let lock =
        FolderLock::take(out).with_context(|| format!("cannot write into {}", out.display()))?;
    let forms = QuantizeArgs {
        quantize: args.to,
        dense_down: args.dense_down,
    };
    let options = QuantizedOptions {
        components: forms.components(),
        rank: args.svd,
    };
    let device = OpenDevice::open(None)?.device;
    let mut bar: Option<(Component, Progress)> = None;
    let written = create::write_quantized(
        &found.checkpoint,
        variant,
        &options,
        out,
        &device,
        &mut |component, done, all| {
            if bar.as_ref().is_none_or(|(shown, _)| *shown != component) {
                bar = Some((component, Progress::new(all as usize, "quantizing")));
            }
            if let Some((_, bar)) = &bar {
                bar.advance(done, all);
            }
        },
    )?;
    drop((bar, lock));
    let mut output = output();
    for (component, layers) in &written {
        writeln!(output, "{}", summary(*component, layers))?;
    }
    writeln!(output, "wrote {}", out.display())?;
    Ok(())
}

/// How far the weights of a network are from what they were.
fn summary(component: Component, layers: &[LayerNoise]) -> String {
    let mut sorted: Vec<&LayerNoise> = layers.iter().collect();
    sorted.sort_by(|one, other| one.decibels.total_cmp(&other.decibels));
    let mut forms: Vec<&str> = layers.iter().map(|layer| layer.form.name()).collect();
    forms.sort_unstable();
    forms.dedup();
    let (Some(worst), Some(best)) = (sorted.first(), sorted.last()) else {
        return format!("{component}: no layers");
    };
    format!(
        "{component}: {} layers in {}, signal to noise {:.1} dB at the median, from {:.1} ({}) to {:.1}",
        layers.len(),
        forms.join(" and "),
        sorted[sorted.len() / 2].decibels,
        worst.decibels,
        worst.layer,
        best.decibels,
    )
}
