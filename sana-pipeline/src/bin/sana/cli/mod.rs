//! The command line: the subcommands, and what runs each of them.

pub mod advice;

use clap::{Arg, CommandFactory, Parser, Subcommand};

use crate::args::CpuArgs;
use crate::commands::autoencoder::encode::{self, DecodeArgs, EncodeArgs};
use crate::commands::autoencoder::latent_rgb::{self, LatentRgbArgs};
use crate::commands::bench::{self, BenchArgs};
use crate::commands::checkpoint::convert::{self, ConvertArgs};
use crate::commands::checkpoint::depth::{self, GrowArgs, PruneArgs};
use crate::commands::checkpoint::init::{self, InitArgs};
use crate::commands::checkpoint::inspect::{self, InspectArgs};
#[cfg(feature = "hub")]
use crate::commands::checkpoint::models::{self, ModelsArgs};
use crate::commands::checkpoint::quantize::{self, QuantizeCheckpointArgs};
use crate::commands::evaluate::{self, EvaluateArgs};
#[cfg(feature = "metrics")]
use crate::commands::metrics::{self, MetricsArgs};
#[cfg(feature = "serve")]
use crate::commands::serve::{self, ServeArgs};
use crate::commands::setup::config::{self, ConfigArgs};
use crate::commands::setup::devices::{self, DevicesArgs};
use crate::commands::setup::shell::{self, CompletionsArgs, ManArgs};
use crate::commands::train::{self, TrainArgs};
use crate::generate::{self, GenerateArgs};

const EXAMPLES: &str = "\
Examples:
  sana generate \"a red circle left of a blue square\" --seed 0
  sana generate \"a cyberpunk cat\" --model Sana_1600M_1024px_BF16_diffusers --device cuda:0
  sana inspect Sana_1600M_1024px_BF16_diffusers
  sana devices

`sana COMMAND --help` prints the options of a command, with examples.";

/// Images from text with NVIDIA's Sana, on CPU or GPU.
#[derive(Debug, Parser)]
#[command(name = "sana", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// In errors, list the names of all tensors that do not fit, not just a few of each kind
    #[arg(long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(Box<GenerateArgs>),
    Inspect(InspectArgs),
    Convert(ConvertArgs),
    Encode(EncodeArgs),
    Decode(DecodeArgs),
    LatentRgb(LatentRgbArgs),
    Evaluate(EvaluateArgs),
    #[cfg(feature = "metrics")]
    Metrics(MetricsArgs),
    Init(InitArgs),
    Grow(GrowArgs),
    Prune(PruneArgs),
    Quantize(QuantizeCheckpointArgs),
    Train(TrainArgs),
    Bench(BenchArgs),
    #[cfg(feature = "serve")]
    Serve(Box<ServeArgs>),
    #[cfg(feature = "hub")]
    Models(ModelsArgs),
    Devices(DevicesArgs),
    Config(ConfigArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

impl Cli {
    /// The options of the subcommand, without dashes.
    pub fn options(&self) -> Vec<String> {
        let name = match self.command {
            Command::Generate(_) => "generate",
            Command::Inspect(_) => "inspect",
            Command::Convert(_) => "convert",
            Command::Encode(_) => "encode",
            Command::Decode(_) => "decode",
            Command::LatentRgb(_) => "latent-rgb",
            Command::Evaluate(_) => "evaluate",
            #[cfg(feature = "metrics")]
            Command::Metrics(_) => "metrics",
            Command::Init(_) => "init",
            Command::Grow(_) => "grow",
            Command::Prune(_) => "prune",
            Command::Quantize(_) => "quantize",
            Command::Train(_) => "train",
            Command::Bench(_) => "bench",
            #[cfg(feature = "serve")]
            Command::Serve(_) => "serve",
            #[cfg(feature = "hub")]
            Command::Models(_) => "models",
            Command::Devices(_) => "devices",
            Command::Config(_) => "config",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        };
        let all = Self::command();
        let arguments = all.find_subcommand(name).into_iter();
        let arguments = arguments.flat_map(|command| command.get_arguments());
        arguments
            .filter_map(Arg::get_long)
            .map(str::to_owned)
            .collect()
    }

    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Generate(args) => generate::run(*args),
            Command::Inspect(args) => CpuArgs::default().run(|| inspect::run(args)),
            Command::Convert(args) => CpuArgs::default().run(|| convert::run(args)),
            Command::Encode(args) => args.resources.cpu.run(|| encode::run_encode(args)),
            Command::Decode(args) => args.resources.cpu.run(|| encode::run_decode(args)),
            Command::LatentRgb(args) => args.resources.cpu.run(|| latent_rgb::run(args)),
            Command::Evaluate(args) => args.resources.cpu.run(|| evaluate::run(args)),
            #[cfg(feature = "metrics")]
            Command::Metrics(args) => metrics::run(args),
            Command::Init(args) => CpuArgs::default().run(|| init::run(args)),
            Command::Grow(args) => CpuArgs::default().run(|| depth::run_grow(args)),
            Command::Prune(args) => args.resources.cpu.run(|| depth::run_prune(args)),
            Command::Quantize(args) => CpuArgs::default().run(|| quantize::run(args)),
            // Its replicas are threads outside the pool.
            Command::Train(args) => CpuArgs::default().start().and_then(|()| train::run(args)),
            Command::Bench(args) => args.cpu.run(|| bench::run(args)),
            #[cfg(feature = "serve")]
            Command::Serve(args) => args.complete().and_then(|args| {
                let cpu = args.resources.cpu;
                cpu.run(|| serve::run(args))
            }),
            #[cfg(feature = "hub")]
            Command::Models(args) => models::run(&args),
            Command::Devices(args) => CpuArgs::default().run(|| devices::run(args)),
            Command::Config(args) => config::run(&args),
            Command::Completions(args) => shell::completions(&args, Self::command()),
            Command::Man(args) => shell::man(&args, Self::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use sana_pipeline::checkpoint::{LoraFile, LoraMode};

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_instruction_template() {
        let parse = |options: &[&str]| {
            Cli::try_parse_from([&["sana", "generate", "a"][..], options].concat())
        };
        for template in ["reference", "repository", "none"] {
            assert!(parse(&["--instruction", template]).is_ok(), "{template}");
        }
        assert!(parse(&["--no-instruction"]).is_ok());
        let error = parse(&["--instruction", "none", "--no-instruction"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{error}");
        let error = parse(&["--instruction", "paper"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidValue, "{error}");
        assert!(error.to_string().contains("repository"), "{error}");
    }

    #[test]
    fn options_of_guidance_need_what_they_are_options_of() {
        let parse = |options: &[&str]| {
            Cli::try_parse_from([&["sana", "generate", "a"][..], options].concat())
        };
        let pag = ["--pag", "2", "--pag-layers", "8,14"];
        assert!(parse(&pag).is_ok());
        let apg = ["--apg", "--apg-eta", "0.5", "--apg-norm", "inf"];
        let momentum = ["--apg-momentum", "-0.75"];
        assert!(parse(&[&apg[..], &momentum].concat()).is_ok());
        for options in [&pag[2..], &apg[1..3], &apg[3..], &momentum] {
            let error = parse(options).unwrap_err();
            let expected = ErrorKind::MissingRequiredArgument;
            assert_eq!(error.kind(), expected, "{options:?}: {error}");
        }
        for layers in ["", "8,", "-1", "8;14"] {
            assert!(parse(&["--pag", "2", "--pag-layers", layers]).is_err());
        }
    }

    #[test]
    fn loras_are_given_one_by_one() {
        let parse = |options: &[&str]| {
            Cli::try_parse_from([&["sana", "generate", "a"][..], options].concat())
        };
        let cli = parse(&["--lora", "a:0.5", "--lora", "b", "--lora-unmerged"]).unwrap();
        let Command::Generate(args) = cli.command else {
            panic!("another command")
        };
        let unmerged = |path: &str| LoraFile::new(path).mode(LoraMode::Unmerged);
        assert_eq!(
            args.recorded.loaded.lora.files(),
            [unmerged("a").scale(0.5), unmerged("b")]
        );
        let error = parse(&["--lora-unmerged"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{error}");
        let error = parse(&["--lora", "a:inf"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{error}");
    }
}
