//! The command line: the subcommands, and what several of them share.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use burn::tensor::DType;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use sana_pipeline::{LoraFile, LoraMode};
use sana_sampler::GuidanceInterval;

use crate::bench::BenchArgs;
use crate::cpu::CpuArgs;
use crate::device::{DeviceName, DevicesArgs};
use crate::encode::{DecodeArgs, EncodeArgs};
use crate::evaluate::EvaluateArgs;
use crate::generate::GenerateArgs;
use crate::init::InitArgs;
use crate::inspect::InspectArgs;
use crate::quantities::Bytes;
use crate::train::TrainArgs;
use crate::{bench, device, encode, evaluate, generate, init, inspect, train};

const EXAMPLES: &str = "\
Examples:
  sana generate \"a red circle left of a blue square\"
  sana generate \"a cyberpunk cat\" --model Sana_1600M_1024px_BF16_diffusers --device cuda:0
  sana inspect Sana_1600M_1024px_BF16_diffusers
  sana devices

`sana COMMAND --help` tells the options of a command, with examples.";

/// Pictures from text with NVIDIA's Sana, on CPU or GPU.
#[derive(Debug, Parser)]
#[command(name = "sana", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Generate(Box<GenerateArgs>),
    Inspect(InspectArgs),
    Encode(EncodeArgs),
    Decode(DecodeArgs),
    Evaluate(EvaluateArgs),
    Init(InitArgs),
    Train(TrainArgs),
    Bench(BenchArgs),
    Devices(DevicesArgs),
}

impl Cli {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Generate(args) => args.model.cpu.run(|| generate::run(*args)),
            Command::Inspect(args) => inspect::run(args),
            Command::Encode(args) => args.model.cpu.run(|| encode::run_encode(args)),
            Command::Decode(args) => args.model.cpu.run(|| encode::run_decode(args)),
            Command::Evaluate(args) => args.model.cpu.run(|| evaluate::run(args)),
            Command::Init(args) => init::run(args),
            Command::Train(args) => train::run(args),
            Command::Bench(args) => args.cpu.run(|| bench::run(args)),
            Command::Devices(args) => device::run(args),
        }
    }
}

/// Which model, and where it runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model and device")]
pub struct ModelArgs {
    /// Checkpoint folder in the diffusers layout, or owner/name on the Hugging Face Hub, which is
    /// downloaded once [default: the built-in model, which draws flat shapes]
    #[arg(short, long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Branch, tag or commit of a model from the Hub [default: main]
    #[arg(long, value_name = "REV", requires = "model")]
    pub revision: Option<String>,
    /// Transformer to use in place of the model's: a safetensors file with the names of diffusers
    /// or of the authors' own checkpoints
    #[arg(long, value_name = "FILE")]
    pub transformer: Option<PathBuf>,
    /// Weight files of this variant where the folder has them, such as fp16 for
    /// diffusion_pytorch_model.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// Where to compute: flex (the CPU), cuda, rocm, metal, vulkan or wgpu, with :N for the N-th
    /// device as listed by `sana devices` [default: the first GPU that works, else flex]
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
    /// Type of the weights in memory, and of the computation except on flex, whose activations stay
    /// in f32 [default: f32 on flex, elsewhere the checkpoint's]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub dtype: Option<Dtype>,
    /// Hold one part of the model at a time and decode in tiles: slower, and much smaller [default:
    /// each where it does not fit otherwise]
    #[arg(long)]
    pub low_memory: bool,
    /// Memory that weights and activations may take, such as 6GB [default: what the system has left;
    /// on GPUs no limit]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<Bytes>,
    /// Try what needs more memory than there is by the estimate, instead of refusing it
    #[arg(long)]
    pub ignore_memory: bool,
    #[command(flatten)]
    pub cpu: CpuArgs,
}

/// LoRAs on top of the model.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model and device")]
pub struct LoraArgs {
    /// LoRA file in the PEFT or diffusers layout, at this scale [default: 1]; several are summed
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub lora: Vec<ScaledPath>,
    /// Keep LoRAs beside the weights instead of adding them: slower, and nothing of
    /// the change is lost in 16-bit weights
    #[arg(long, requires = "lora")]
    pub lora_apart: bool,
}

impl LoraArgs {
    /// The files, and how they are applied.
    pub fn files(&self) -> Vec<LoraFile> {
        let mode = match self.lora_apart {
            true => LoraMode::Apart,
            false => LoraMode::Merged,
        };
        let file = |lora: &ScaledPath| LoraFile::new(&lora.path).scale(lora.scale).mode(mode);
        self.lora.iter().map(file).collect()
    }
}

/// A file and a number after a colon, 1 if there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledPath {
    pub path: PathBuf,
    pub scale: f64,
}

impl FromStr for ScaledPath {
    type Err = String;

    /// What follows the last colon is the scale if it is a number, else a part of the path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.rsplit_once(':').and_then(|(path, number)| {
            let scale = number.parse::<f64>().ok()?;
            (!path.is_empty()).then_some((path, scale))
        });
        let (path, scale) = split.unwrap_or((text, 1.0));
        if path.is_empty() {
            return Err("expected FILE or FILE:SCALE".to_owned());
        }
        if !scale.is_finite() {
            return Err(format!("the scale must be a finite number, got {scale}"));
        }
        Ok(Self {
            path: path.into(),
            scale,
        })
    }
}

impl fmt::Display for ScaledPath {
    /// With its scale, so that a path that ends in a number stays one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.scale)
    }
}

/// A type of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32 bits: exact
    F32,
    /// 16 bits with the range of f32: half the memory on the CPU; for GPUs that have it
    Bf16,
    /// 16 bits with a narrow range: half the memory on the CPU; for GPUs without bf16
    F16,
}

impl Dtype {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        }
    }
}

/// Width and height of a picture in pixels, written `WxH`, or `N` for a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let side = |text: &str| {
            text.trim()
                .parse::<usize>()
                .map_err(|_| "expected WIDTHxHEIGHT in pixels, such as 1024x768".to_owned())
        };
        let (width, height) = text.split_once(['x', 'X', '×']).unwrap_or((text, text));
        Ok(Self {
            width: side(width)?,
            height: side(height)?,
        })
    }
}

/// Noise levels, written `FROM..TO`.
pub fn interval(text: &str) -> Result<GuidanceInterval, String> {
    let level = |text: &str| text.trim().parse::<f64>().ok();
    let (start, end) = text
        .split_once("..")
        .and_then(|(start, end)| level(start).zip(level(end)))
        .ok_or("expected FROM..TO with noise levels from 0 to 1, such as 0.2..0.9")?;
    GuidanceInterval::new(start, end).map_err(|error| error.to_string())
}

/// A number from 1 on. The limit is far beyond what makes sense: it keeps a slip of the finger from
/// asking for all memory.
pub fn positive() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=10_000)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_instruction_is_told_once() {
        let parse = |options: &[&str]| {
            Cli::try_parse_from([&["sana", "generate", "a"][..], options].concat())
        };
        for wording in ["reference", "repository", "none"] {
            assert!(parse(&["--instruction", wording]).is_ok(), "{wording}");
        }
        assert!(parse(&["--no-instruction"]).is_ok());
        let error = parse(&["--instruction", "none", "--no-instruction"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{error}");
        let error = parse(&["--instruction", "paper"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidValue, "{error}");
        assert!(error.to_string().contains("repository"), "{error}");
    }

    #[test]
    fn intervals() {
        let expected = |start, end| Ok(GuidanceInterval::new(start, end).unwrap());
        assert_eq!(interval("0.2..0.9"), expected(0.2, 0.9));
        assert_eq!(interval("0 .. 1"), expected(0.0, 1.0));
        for wrong in ["", "..", "0.2", "0.2..", "a..b", "0.2-0.9", "0.1..0.2..0.3"] {
            let error = interval(wrong).unwrap_err();
            assert!(error.contains("FROM..TO"), "{error}");
        }
        for wrong in ["0.9..0.2", "-0.1..1", "0..1.1", "nan..1"] {
            let error = interval(wrong).unwrap_err();
            assert!(error.contains("0 <= start <= end <= 1"), "{error}");
        }
    }

    #[test]
    fn paths_with_scales() {
        let file = |path: &str, scale| {
            Ok(ScaledPath {
                path: path.into(),
                scale,
            })
        };
        for (text, expected) in [
            ("a.safetensors", file("a.safetensors", 1.0)),
            ("a.safetensors:0.5", file("a.safetensors", 0.5)),
            ("a b/c.safetensors:-2", file("a b/c.safetensors", -2.0)),
            (r"C:\x.safetensors", file(r"C:\x.safetensors", 1.0)),
            (r"C:\x.safetensors:1e-3", file(r"C:\x.safetensors", 1e-3)),
            ("a:b", file("a:b", 1.0)),
            ("a:", file("a:", 1.0)),
            ("a:2:3", file("a:2", 3.0)),
        ] {
            let read: Result<ScaledPath, String> = text.parse();
            assert_eq!(read, expected, "{text}");
            let written = read.unwrap().to_string();
            assert_eq!(written.parse(), expected, "{written}");
        }
        for wrong in ["", "a:inf", "a:NaN"] {
            assert!(wrong.parse::<ScaledPath>().is_err(), "{wrong}");
        }
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
        let cli = parse(&["--lora", "a:0.5", "--lora", "b", "--lora-apart"]).unwrap();
        let Command::Generate(args) = cli.command else {
            panic!("another command")
        };
        let apart = |path: &str| LoraFile::new(path).mode(LoraMode::Apart);
        assert_eq!(args.lora.files(), [apart("a").scale(0.5), apart("b")]);
        let error = parse(&["--lora-apart"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{error}");
        let error = parse(&["--lora", "a:inf"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{error}");
    }

    #[test]
    fn sizes() {
        let size = |width, height| Ok(Size { width, height });
        assert_eq!("96x64".parse(), size(96, 64));
        assert_eq!("96 X 64".parse(), size(96, 64));
        assert_eq!("512".parse(), size(512, 512));
        for wrong in ["", "x", "96x", "axb", "-1x4", "96x64x3", "1.5x2"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
