//! `sana convert`: a transformer's weights under other names.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sana_pipeline::checkpoint::create::{self, ConvertOptions, TransformerLayout};

use crate::args::Dtype;
use crate::terminal::{self, Progress, output};

const EXAMPLES: &str = "\
Examples:
  sana convert Sana_1600M_1024px.pth --out transformer-1600m
  sana convert Sana_1600M_1024px.pth --out transformer-1600m --dtype bf16
  sana convert transformer-1600m --to original --out original.safetensors
  sana generate \"a cat\" --model Sana_1600M_1024px_BF16_diffusers --transformer transformer-1600m

The folder has config.json and weights, as the folder transformer of a checkpoint.";

/// Write a transformer in the layout of diffusers, or in that of its authors
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConvertArgs {
    /// Weights of a transformer in either layout: a PyTorch file (.pth, .pt, .bin), which runs no
    /// code, a safetensors file, or a folder
    path: PathBuf,
    /// Names to write: a folder in the layout of diffusers, or one file with the authors' names
    #[arg(long, value_name = "LAYOUT", value_enum, default_value = "diffusers")]
    to: Layout,
    /// Folder to write, or the safetensors file with --to original; nothing is replaced
    #[arg(short, long, value_name = "PATH")]
    out: PathBuf,
    /// Type of the weights written [default: that of the file]
    #[arg(long, value_name = "TYPE", value_enum)]
    dtype: Option<Dtype>,
    /// The transformer's config.json [default: next to the weights, else read off their shapes]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Weight files of this variant of a folder, such as fp16
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
}

/// Layouts of a transformer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layout {
    Diffusers,
    Original,
}

/// Runs `sana convert`.
pub fn run(args: ConvertArgs) -> anyhow::Result<()> {
    let options = ConvertOptions {
        variant: args.variant,
        layout: match args.to {
            Layout::Diffusers => TransformerLayout::Diffusers,
            Layout::Original => TransformerLayout::Original,
        },
        dtype: args.dtype.map(Into::into),
        config: args.config,
        ..ConvertOptions::new(args.path)
    };
    let progress = Progress::bytes("writing");
    let mut advance = |written, all| progress.advance(written, all);
    let notes = create::convert_transformer(&options, &args.out, &mut advance)?;
    progress.finish();
    for note in notes {
        terminal::note(note);
    }
    writeln!(output(), "wrote {}", args.out.display())?;
    Ok(())
}
