//! `sana metrics image-reward`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::args::MakeArgs;
use super::item::{Item, Place};
use super::make;
use crate::args::positive;
use crate::commands::metrics::prompts::{self, Prompt};
use crate::files::Files;
use crate::generate::args::FormatName;

const EXAMPLES: &str = "\
Examples:
  sana metrics image-reward generate benchmark-prompts-dict.json --out image-reward --batch 8 \\
      --model Sana_1600M_1024px_BF16_diffusers

ImageReward-v1.0 (THUDM/ImageReward) scores the images; its network is not part of this program.";

/// Images for ImageReward
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct ImageRewardArgs {
    #[command(subcommand)]
    command: ImageRewardCommand,
}

#[derive(Debug, Subcommand)]
enum ImageRewardCommand {
    Generate(Box<GenerateArgs>),
}

/// Make the images of ImageReward's prompts: ID_0.jpg to ID_9.jpg
#[derive(Debug, Args)]
struct GenerateArgs {
    /// The prompts, {"ID": {"prompt": "..."}}, such as benchmark-prompts-dict.json
    #[arg(value_name = "FILE.json")]
    prompts: PathBuf,
    /// Images of each prompt
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true, value_parser = positive())]
    images: usize,
    /// Format of the images
    #[arg(long, value_enum, default_value = "jpeg")]
    format: FormatName,
    #[command(flatten)]
    make: MakeArgs,
}

/// Runs `sana metrics image-reward`.
pub fn run(args: ImageRewardArgs) -> anyhow::Result<()> {
    let ImageRewardCommand::Generate(args) = args.command;
    args.make.resources.cpu.run(|| generate(&args))
}

fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let prompts = prompts::read(&args.prompts, None)?;
    prompts::check_names(&args.prompts, &prompts)?;
    let mut files = Files::default();
    files.reads(&args.prompts, "the prompts");
    let (out, ending) = (&args.make.out, args.format.ending());
    let item = |Prompt { key, text }: Prompt| Item {
        prompt: text,
        place: Place::Files {
            paths: (0..args.images)
                .map(|image| out.join(format!("{key}_{image}.{ending}")))
                .collect(),
            text: None,
            grid: None,
        },
    };
    let items = prompts.into_iter().map(item).collect();
    make::run(&args.make, items, files, false)
}
