//! Options of `sana generate`. The struct of an option says where it may be given: one of
//! [`ImageArgs`] also on a line of a prompt file, one of [`RecordedArgs`] also by the metadata of an
//! image, and the others for a whole run only.

pub mod control;
pub mod grid;
pub mod hires;
mod image;
mod image_to_image;
mod loaded;
pub mod verifier;

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::options;
use crate::args::{ResourceArgs, Shard, positive};
use crate::preview::PreviewArgs;

use self::grid::GridArgs;
use self::verifier::BestOfArgs;

pub use image::{GuidanceArgs, ImageArgs, InstructionTemplate, SolverName};
pub use loaded::LoadedArgs;

const EXAMPLES: &str = "\
Examples:
  sana generate \"a red circle left of a blue square\" --seed 0
  sana generate \"three green triangles\" --count 4 --seed 7 --out triangles.png
  sana generate \"a cyberpunk cat\" --model Sana_1600M_1024px_BF16_diffusers --size 1024x768
  sana generate \"a cyberpunk cat\" --model Sana_1600M_1024px_BF16_diffusers --aspect 16:9
  sana generate \"a cyberpunk cat\" --model Sana_Sprint_1.6B_1024px_diffusers --steps 2
  sana generate \"a {red|blue} circle\" --count 4 --hires 2
  sana generate \"a cat\" --profile fast --style ink --json
  sana generate \"three green triangles\" --pag 2
  sana generate \"three green triangles\" --guidance 12 --apg --guidance-interval 0.2..1
  sana generate \"a cat\" --model Sana_1600M_1024px_BF16_diffusers --lora style.safetensors:0.8
  sana generate \"a cat\" --model Sana_1600M_1024px_BF16_diffusers --controlnet HED --control lines.png
  sana generate \"a red circle\" --image sana.png --strength 0.7
  sana generate \"a red circle\" --image sana.png --mask mask.png --mask-feather 8
  sana generate --prompts prompts.txt --out images --grid
  sana generate \"a cyberpunk cat\" --model Sana_1600M_1024px_BF16_diffusers --preview preview.png
  sana generate \"a red circle left of a blue square\" --best-of 16 --verifier scenes
  sana generate --from-image sana.png --steps 40

The seed and every setting are stored in the image: `sana inspect sana.png` shows them.";

/// Generate images from a prompt
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    group(
        ArgGroup::new("source")
            .args(["prompt", "prompts", "from_image"])
            .required(true)
            .multiple(true)
    ),
    group(ArgGroup::new("several").args(["prompts", "best_of"])),
    group(ArgGroup::new("shown").args(["preview", "preview_terminal"]).multiple(true))
)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub recorded: RecordedArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What an image records, so that it can be made again.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "Map<String, Value>")]
pub struct RecordedArgs {
    #[command(flatten)]
    #[serde(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub loaded: LoadedArgs,
}

/// What a run reads and writes.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// File of the image, .png, .jpg, .jpeg or .webp; with --count, NAME-0.png, NAME-1.png and so
    /// on [default: sana.png]
    #[arg(short, long, value_name = "PATH", help_heading = None)]
    pub out: Option<PathBuf>,
    /// Print events as lines of JSON on standard output, and all else on standard error
    #[arg(long, help_heading = None)]
    pub json: bool,
    /// Options that the file of settings keeps under this name, for what is not given here; `sana
    /// config path` prints where the file is
    #[arg(long, value_name = "NAME", help_heading = None)]
    pub profile: Option<String>,
    /// File to keep the control image in, as the ControlNet is given it: .png, .jpg, .jpeg or .webp
    #[arg(
        long,
        value_name = "PATH",
        requires = "control",
        help_heading = "ControlNet"
    )]
    pub control_save: Option<PathBuf>,
    /// Leave out of the files the mark that a model made the images: XMP with the digital source type
    /// trainedAlgorithmicMedia of the IPTC
    #[arg(long)]
    pub no_mark: bool,
    #[command(flatten)]
    pub batch: BatchArgs,
    #[command(flatten)]
    pub preview: PreviewArgs,
    #[command(flatten)]
    pub grid: GridArgs,
    #[command(flatten)]
    pub best_of: BestOfArgs,
    #[command(flatten)]
    pub from_image: FromImageArgs,
}

/// Images of many prompts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batch and grid")]
pub struct BatchArgs {
    /// Generate images from the prompts in a file: one on a line, or .json or .jsonl with options of their
    /// own; --out is a folder then [default: images], and images that exist are skipped
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Images generated at a time, of prompts with equal options [default: 1, with --best-of 4]
    #[arg(long, value_name = "N", requires = "several", allow_negative_numbers = true, value_parser = positive())]
    pub batch: Option<usize>,
    /// Format of the images in the folder [default: png]
    #[arg(long, value_enum, requires = "prompts", conflicts_with = "prompt")]
    pub format: Option<FormatName>,
    /// Generate the share I of N of the images, from 1/N to N/N: for N processes with the same
    /// prompts and the same folder, on one machine or several
    #[arg(
        long,
        value_name = "I/N",
        requires = "prompts",
        conflicts_with_all = ["prompt", "grid"]
    )]
    pub shard: Option<Shard>,
}

/// A format of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// Without loss
    #[default]
    Png,
    /// With quality 95
    Jpeg,
    /// Without loss
    Webp,
}

impl FormatName {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }
}

/// The options that an image records.
#[derive(Debug, Args)]
#[command(next_help_heading = "From an image")]
pub struct FromImageArgs {
    /// Generate this image again: every option that it records holds unless it is given here [output:
    /// NAME-again.png]
    #[arg(long, value_name = "FILE")]
    pub from_image: Option<PathBuf>,
    /// Leave out an option that the image records, and those that require it: --without apg leaves
    /// out --apg-eta too
    #[arg(long, value_name = "OPTION", requires = "from_image")]
    pub without: Vec<String>,
}

impl TryFrom<Map<String, Value>> for RecordedArgs {
    type Error = String;

    fn try_from(options: Map<String, Value>) -> Result<Self, String> {
        options::read(&options)
    }
}

impl GenerateArgs {
    /// These, and those of `below` for what is not given here: of a whole run, options that change no
    /// file but how images are made and written.
    pub fn or(self, below: Self) -> Self {
        let (batch, more) = (self.run.batch, below.run.batch);
        Self {
            recorded: self.recorded.or(below.recorded),
            resources: self.resources.or(below.resources),
            run: RunArgs {
                batch: BatchArgs {
                    batch: batch.batch.or(more.batch),
                    format: batch.format.or(more.format),
                    ..batch
                },
                ..self.run
            },
        }
    }
}

impl RecordedArgs {
    /// These, and those of `below` for what is not given here.
    pub fn or(self, below: Self) -> Self {
        Self {
            image: self.image.or(below.image),
            loaded: self.loaded.or(below.loaded),
        }
    }
}
