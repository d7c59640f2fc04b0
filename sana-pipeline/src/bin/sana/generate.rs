//! `sana generate`: pictures from a prompt.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use sana_pipeline::{Control, InstructionChoice, Request, SanaPipeline, Solver, grid, image};
use sana_sampler::{AdaptiveProjection, GuidanceInterval, Order};
use sana_text::Instruction;

use crate::args::{Aspect, LoraArgs, ModelArgs, Size, interval, positive};
use crate::contact_sheet;
use crate::control::ControlArgs;
use crate::editing::EditArgs;
use crate::from_png::{self, FromPngArgs};
use crate::many::{self, ManyArgs};
use crate::model::Model;
use crate::paths;
use crate::record::Record;
use crate::terminal::{Progress, output, write_stages};

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
    size: Option<Size>,
    /// Make the nearest size that the model was trained at, and resize and crop it to --size, which
    /// then need not be multiples of 32
    #[arg(long, requires = "size")]
    pub bucket: bool,
    /// The size of this aspect ratio, width to height, that the model was trained at
    #[arg(long, value_name = "W:H", conflicts_with = "size")]
    aspect: Option<Aspect>,
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

/// Runs `sana generate`.
pub fn run(args: GenerateArgs) -> anyhow::Result<()> {
    let (args, options) = from_png::complete(args, std::env::args_os().skip(1))?;
    if let Some(file) = &args.many.prompts {
        return many::run(file, &args, &options);
    }
    if args.prompt.trim().is_empty() {
        bail!("the prompt is empty: say what to draw");
    }
    let paths = paths::pictures(&args.out, args.count)?;
    args.control.check_writable(&paths)?;
    let sheet = args
        .many
        .grid
        .path(contact_sheet::beside(&args.out), &paths)?;
    let controlnet = args.control.controlnet();
    let mut model = Model::open_with(&args.model, args.lora.files(), controlnet)?;
    let request = request(&args, &model.pipeline)?;
    let settings = request.validate(&model.pipeline)?;

    let mut out = output();
    writeln!(
        out,
        "model {}, device {}, seed {}",
        model.name, model.device.name, settings.seed
    )?;
    if args.aspect.is_some() || args.bucket {
        writeln!(out, "bucket {}x{}", settings.width, settings.height)?;
    }
    if let Some(note) = model.pipeline.size_note(&settings) {
        writeln!(out, "note: {note}")?;
    }
    let progress = Progress::new(settings.steps(), "reading the prompt");
    let generation = model.pipeline.generate(&request, &mut |step| {
        let done = step.index + 1;
        progress.advance(done as u64, step.steps as u64);
        progress.tell(match done == step.steps {
            true => "decoding",
            false => "drawing",
        });
        Control::Continue
    })?;
    progress.finish();
    model.tell_notes();
    warn_of_cut("prompt", &generation.dropped_tokens);
    warn_of_cut("negative prompt", &generation.dropped_negative_tokens);

    let pictures = generation.images.iter().zip(&generation.seeds);
    for (path, (picture, seed)) in paths.iter().zip(pictures) {
        let record = Record::new(&args, &settings, *seed, &model);
        image::save_png(path, picture, &record.chunks())?;
    }
    write_stages(&generation.stages, &mut out)?;
    for path in args.control.saved().into_iter().chain(&paths) {
        writeln!(out, "wrote {}", path.display())?;
    }
    if let Some(path) = sheet {
        let sheet = grid::grid(&generation.images, &args.many.grid.options())?;
        contact_sheet::save(&path, &sheet)?;
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
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

fn warn_of_cut(what: &str, dropped_tokens: &[usize]) {
    let dropped: usize = dropped_tokens.iter().sum();
    if dropped > 0 {
        eprintln!("warning: the {what} is too long, its last {dropped} tokens were left out");
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
