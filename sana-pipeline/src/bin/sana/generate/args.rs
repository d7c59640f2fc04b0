//! Options of `sana generate`, and what they ask of a pipeline.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sana_pipeline::{InstructionChoice, Request, SanaPipeline, Solver};
use sana_sampler::{AdaptiveProjection, GuidanceInterval, Order};
use sana_text::Instruction;

use super::control::ControlArgs;
use super::grid::GridArgs;
use super::image_to_image::EditArgs;
use crate::args::{Aspect, LoraArgs, ModelArgs, Size, interval, positive};

const EXAMPLES: &str = "\
Examples:
  sana generate \"a red circle left of a blue square\"
  sana generate \"three green triangles\" --count 4 --seed 7 --out triangles.png
  sana generate \"a cyberpunk cat\" --model Sana_1600M_1024px_BF16_diffusers --size 1024x768
  sana generate \"a cyberpunk cat\" --model Sana_1600M_1024px_BF16_diffusers --aspect 16:9
  sana generate \"a cyberpunk cat\" --model Sana_Sprint_1.6B_1024px_diffusers --steps 2
  sana generate \"three green triangles\" --pag 2
  sana generate \"three green triangles\" --guidance 12 --apg --guidance-interval 0.2..1
  sana generate \"a cat\" --model Sana_1600M_1024px_BF16_diffusers --lora style.safetensors:0.8
  sana generate \"a cat\" --model Sana_1600M_1024px_BF16_diffusers --controlnet HED --control lines.png
  sana generate \"a red circle\" --image sana.png --strength 0.7
  sana generate \"a red circle\" --image sana.png --mask mask.png --mask-feather 8
  sana generate --prompts prompts.txt --out pictures --grid
  sana generate --from-png sana.png --steps 40

The seed and every setting are stored in the picture: `sana inspect sana.png` shows them.";

/// Make pictures from a prompt
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    /// What to draw
    #[arg(
        default_value = "",
        hide_default_value = true,
        required_unless_present_any = ["prompts", "from_png"]
    )]
    pub prompt: String,
    /// What not to draw [default: nothing]
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub negative: String,
    /// Width and height in pixels, multiples of 32 [default: what the model was trained at]
    #[arg(long, value_name = "WxH")]
    pub size: Option<Size>,
    /// Make the nearest size that the model was trained at, and resize and crop it to --size, which
    /// then need not be multiples of 32
    #[arg(long, requires = "size")]
    pub bucket: bool,
    /// The size of this aspect ratio, width to height, that the model was trained at
    #[arg(long, value_name = "W:H", conflicts_with = "size")]
    pub aspect: Option<Aspect>,
    /// Steps of the solver [default: 20, for Sana-Sprint 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    steps: Option<usize>,
    /// How strongly the prompt is followed; 1 is not at all amplified [default: 4.5]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// How the equation is solved [default: what the checkpoint says]
    #[arg(long, value_enum)]
    solver: Option<SolverName>,
    /// Number that the noise is drawn from [default: drawn at random, and told]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Pictures to make of the prompt
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = positive())]
    pub count: usize,
    /// File of the picture; with --count, NAME-0.png, NAME-1.png and so on
    #[arg(short, long, value_name = "PATH", default_value = "sana.png")]
    pub out: PathBuf,
    /// Wording of the instruction that goes before the prompt [default: what the checkpoint says]
    #[arg(
        long,
        value_name = "WORDING",
        value_enum,
        conflicts_with = "no_instruction"
    )]
    pub instruction: Option<Wording>,
    /// Give the prompt to the text encoder as it is, without the instruction to enhance it
    #[arg(long)]
    pub no_instruction: bool,
    #[command(flatten)]
    more_guidance: GuidanceArgs,
    #[command(flatten)]
    pub control: ControlArgs,
    #[command(flatten)]
    pub edit: EditArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub many: ManyArgs,
    #[command(flatten)]
    pub from_png: FromPngArgs,
}

/// Guidance beyond its scale; not for Sana-Sprint.
#[derive(Debug, Args)]
#[command(next_help_heading = "Guidance")]
struct GuidanceArgs {
    /// Guide at these noise levels only, from 0, the picture, to 1, the noise [default: 0..1]
    #[arg(long, value_name = "FROM..TO", value_parser = interval)]
    guidance_interval: Option<GuidanceInterval>,
    /// Guide away from what the model draws with perturbed attention, by this scale: 2 or 3, and
    /// slower by up to half [default: 0]
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    pag: Option<f64>,
    /// Blocks of the transformer to perturb, counted from 0, such as 8,14 [default: 8 of the 20 of
    /// the 1.6B models, else the middle one]
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "pag")]
    pag_layers: Option<Vec<usize>>,
    /// Adaptive projected guidance: larger guidance scales without garish colours
    #[arg(long)]
    apg: bool,
    /// Weight of what only amplifies the picture there is: 0 leaves it out, 1 keeps it [default: 0]
    #[arg(
        long,
        value_name = "ETA",
        requires = "apg",
        allow_negative_numbers = true
    )]
    apg_eta: Option<f64>,
    /// Largest change that the prompt may make to the picture's latents, as a norm; inf is no limit
    /// [default: 15]
    #[arg(
        long,
        value_name = "NORM",
        requires = "apg",
        allow_negative_numbers = true
    )]
    apg_norm: Option<f64>,
    /// Weight of the changes of earlier steps, between -1 and 1 [default: -0.5]
    #[arg(
        long,
        value_name = "BETA",
        requires = "apg",
        allow_negative_numbers = true
    )]
    apg_momentum: Option<f64>,
}

/// A solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SolverName {
    /// Flow-DPM-Solver++ of second order: 14 to 20 steps
    FlowDpm,
    /// Flow Euler: 28 to 50 steps
    FlowEuler,
    /// Consistency sampling, for Sana-Sprint: 1 to 4 steps
    Scm,
}

/// A wording of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wording {
    /// That of the diffusers library, which published checkpoints default to
    Reference,
    /// That of the paper's repository, which differs in its quotes
    Repository,
    /// No instruction, as --no-instruction
    None,
}

/// Pictures of many prompts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many pictures")]
pub struct ManyArgs {
    /// Draw the prompts of a file: a line each, or .json or .jsonl with settings of their own;
    /// --out is a folder then [default: pictures], and pictures that are there already are skipped
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Pictures made at a time, of prompts with equal settings [default: 1]
    #[arg(long, value_name = "N", requires = "prompts", conflicts_with = "prompt", allow_negative_numbers = true, value_parser = positive())]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub grid: GridArgs,
}

/// The options that a picture records.
#[derive(Debug, Args)]
#[command(next_help_heading = "From a picture")]
pub struct FromPngArgs {
    /// Repeat this picture: every option that it records holds unless it is given here [output:
    /// NAME-again.png]
    #[arg(long, value_name = "FILE")]
    pub from_png: Option<PathBuf>,
    /// Leave out an option that the picture records, and those of it: --without apg leaves out
    /// --apg-eta too
    #[arg(long, value_name = "OPTION", requires = "from_png")]
    pub without: Vec<String>,
}

/// What the options ask of a pipeline.
pub fn request(args: &GenerateArgs, pipeline: &SanaPipeline) -> anyhow::Result<Request> {
    let mut request = Request::new(args.prompt.as_str())
        .negative(args.negative.as_str())
        .seed(args.seed.unwrap_or_else(random_seed))
        .count(args.count);
    if let Some(Size { width, height }) = args.size {
        request = match args.bucket {
            true => request.bucketed_size(width, height),
            false => request.size(width, height),
        };
    }
    if let Some(Aspect { width, height }) = args.aspect {
        request = request.aspect(width, height);
    }
    if let Some(steps) = args.steps {
        request = request.steps(steps);
    }
    if let Some(guidance) = args.guidance {
        request = request.guidance(guidance);
    }
    request = args.more_guidance.apply(request)?;
    request = args.edit.apply(request)?;
    if let Some(solver) = args.solver {
        request = request.solver(solver.with_order_of(pipeline.defaults().solver));
    }
    if let Some(wording) = args.instruction {
        request = request.instruction(wording.into());
    }
    if args.no_instruction {
        request = request.instruction(InstructionChoice::None);
    }
    args.control.apply(request, pipeline)
}

impl GuidanceArgs {
    fn apply(&self, mut request: Request) -> anyhow::Result<Request> {
        if let Some(interval) = self.guidance_interval {
            request = request.guidance_interval(interval);
        }
        if let Some(scale) = self.pag {
            request = request.perturbed_attention(scale);
        }
        if let Some(layers) = &self.pag_layers {
            request = request.perturbed_blocks(layers.iter().copied());
        }
        if self.apg {
            let default = AdaptiveProjection::default();
            request = request.projection(AdaptiveProjection::new(
                self.apg_eta.unwrap_or(default.eta()),
                self.apg_norm.unwrap_or(default.norm()),
                self.apg_momentum.unwrap_or(default.momentum()),
            )?);
        }
        Ok(request)
    }
}

impl SolverName {
    /// The solver, with the checkpoint's order where it has one.
    fn with_order_of(self, checkpoint: Solver) -> Solver {
        match (self, checkpoint) {
            (Self::FlowDpm, Solver::FlowDpm { .. }) => checkpoint,
            (Self::FlowDpm, _) => Solver::FlowDpm {
                order: Order::default(),
            },
            (Self::FlowEuler, _) => Solver::FlowEuler,
            (Self::Scm, _) => Solver::Scm,
        }
    }
}

impl Wording {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Repository => "repository",
            Self::None => "none",
        }
    }
}

impl From<Wording> for InstructionChoice {
    fn from(wording: Wording) -> Self {
        match wording {
            Wording::Reference => Self::Custom(Instruction::reference()),
            Wording::Repository => Self::Custom(Instruction::paper_repository()),
            Wording::None => Self::None,
        }
    }
}

/// A seed of 32 bits: enough to differ, and short enough to type.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wordings() {
        let custom = InstructionChoice::Custom;
        let expected = [
            ("reference", custom(Instruction::reference())),
            ("repository", custom(Instruction::paper_repository())),
            ("none", InstructionChoice::None),
        ];
        assert_eq!(Wording::value_variants().len(), expected.len());
        for (name, choice) in expected {
            let wording = Wording::from_str(name, false).unwrap();
            assert_eq!(wording.name(), name);
            assert_eq!(InstructionChoice::from(wording), choice, "{name}");
        }
    }
}
