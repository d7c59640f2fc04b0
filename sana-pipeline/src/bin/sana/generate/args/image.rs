//! Options of one image, which a line of a prompt file may have too.

use clap::{Args, ValueEnum};
use sana_sampler::ScmTimesteps;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::control::ControlArgs;
use super::hires::HiresArgs;
use super::image_to_image::ImageToImageArgs;
use crate::args::{Aspect, NoiseLevels, Size, as_typed, positive};
use crate::files::Files;
use crate::generate::options;

/// One image, or several that differ in their seed.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "Map<String, Value>")]
pub struct ImageArgs {
    /// Prompt
    pub prompt: Option<String>,
    /// Negative prompt: what the image should not show [default: empty]
    #[arg(long, value_name = "TEXT")]
    pub negative: Option<String>,
    /// Seed of the noise [default: a random one, which is printed]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Steps of the solver [default: 20, for Sana-Sprint 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    pub steps: Option<usize>,
    /// Classifier-free guidance scale; 1 is without guidance [default: 4.5]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    #[serde(serialize_with = "as_typed")]
    pub guidance: Option<f64>,
    /// Solver [default: the checkpoint's]
    #[arg(long, value_enum)]
    pub solver: Option<SolverName>,
    /// Timesteps of Sana-Sprint: reference (those of the diffusers library) or paper (as published,
    /// for 1, 2 and 4 steps) [default: reference]
    #[arg(long, value_name = "NAME")]
    #[serde(serialize_with = "as_typed")]
    pub timesteps: Option<ScmTimesteps>,
    /// Width and height in pixels, multiples of 32 [default: what the model was trained at]
    #[arg(long, value_name = "WxH")]
    #[serde(serialize_with = "as_typed")]
    pub size: Option<Size>,
    /// Generate at the nearest size that the model was trained at, then resize and crop to --size,
    /// which need not be a multiple of 32
    #[arg(long, requires = "size")]
    pub bucket: bool,
    /// Aspect ratio, width to height: the size of it that the model was trained at
    #[arg(long, value_name = "W:H", conflicts_with = "size")]
    #[serde(serialize_with = "as_typed")]
    pub aspect: Option<Aspect>,
    /// Images to generate from the prompt [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    pub count: Option<usize>,
    /// Template of the instruction that goes before the prompt [default: the checkpoint's]
    #[arg(
        long,
        value_name = "TEMPLATE",
        value_enum,
        conflicts_with = "no_instruction"
    )]
    pub instruction: Option<InstructionTemplate>,
    /// Give the prompt to the text encoder as it is, without the instruction to enhance it
    #[arg(long)]
    pub no_instruction: bool,
    /// Put the prompt into this style, a template in the file of settings; several are applied in turn
    #[arg(long, value_name = "NAME")]
    pub style: Vec<String>,
    /// The prompt before its wildcards were replaced, where it had any.
    #[arg(skip)]
    #[serde(skip)]
    pub template: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub hires: HiresArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub more_guidance: GuidanceArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub control: ControlArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub start: ImageToImageArgs,
}

/// Guidance beyond its scale; not for Sana-Sprint.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Guidance")]
#[serde(rename_all = "kebab-case")]
pub struct GuidanceArgs {
    /// Guide at these noise levels only, from 0, the image, to 1, the noise [default: 0..1]
    #[arg(long, value_name = "FROM..TO")]
    #[serde(serialize_with = "as_typed")]
    pub guidance_interval: Option<NoiseLevels>,
    /// Scale of perturbed-attention guidance: 2 or 3, and slower by up to half [default: 0]
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    #[serde(serialize_with = "as_typed")]
    pub pag: Option<f64>,
    /// Blocks of the transformer to perturb, counted from 0, such as 8,14 [default: 8 of the 20 of
    /// the 1.6B models, else the middle one]
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "pag")]
    pub pag_layers: Option<Vec<usize>>,
    /// Adaptive projected guidance: larger guidance scales without garish colours
    #[arg(long)]
    pub apg: bool,
    /// Weight of the part of the guidance that is parallel to the image: 0 leaves it out, 1 keeps
    /// it [default: 0]
    #[arg(
        long,
        value_name = "ETA",
        requires = "apg",
        allow_negative_numbers = true
    )]
    #[serde(serialize_with = "as_typed")]
    pub apg_eta: Option<f64>,
    /// Largest norm of the change that guidance may make to the latents; inf is no limit [default:
    /// 15]
    #[arg(
        long,
        value_name = "NORM",
        requires = "apg",
        allow_negative_numbers = true
    )]
    #[serde(serialize_with = "as_typed")]
    pub apg_norm: Option<f64>,
    /// Weight of the changes of earlier steps, between -1 and 1 [default: -0.5]
    #[arg(
        long,
        value_name = "BETA",
        requires = "apg",
        allow_negative_numbers = true
    )]
    #[serde(serialize_with = "as_typed")]
    pub apg_momentum: Option<f64>,
}

/// A solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SolverName {
    /// Flow-DPM-Solver++ of second order: 14 to 20 steps
    FlowDpm,
    /// Flow Euler: 28 to 50 steps
    FlowEuler,
    /// Consistency sampling, for Sana-Sprint: 1 to 4 steps
    Scm,
}

/// A template of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstructionTemplate {
    /// That of the diffusers library, which published checkpoints default to
    Reference,
    /// That of the paper's repository, which differs in its quotes
    Repository,
    /// No instruction, as --no-instruction
    None,
}

impl TryFrom<Map<String, Value>> for ImageArgs {
    type Error = String;

    fn try_from(options: Map<String, Value>) -> Result<Self, String> {
        options::read(&options)
    }
}

impl ImageArgs {
    /// Adds the images that are read.
    pub fn add_files(&self, files: &mut Files) {
        self.start.add_files(files);
        if let Some(path) = &self.control.control {
            files.reads(path, "the control image");
        }
    }

    /// These, and those of `below` for what is not given here. What excludes what is given here is
    /// not taken from below.
    pub fn or(self, below: Self) -> Self {
        let sized = self.size.is_some() || self.aspect.is_some();
        let (size, bucket, aspect) = match sized {
            true => (self.size, self.bucket, self.aspect),
            false => {
                let bucket = below.bucket && !self.hires.is_given();
                (below.size, self.bucket || bucket, below.aspect)
            }
        };
        let hires = match self.bucket || self.start.has_mask() {
            true => self.hires,
            false => self.hires.or(below.hires),
        };
        let instructed = self.instruction.is_some() || self.no_instruction;
        let (instruction, no_instruction) = match instructed {
            true => (self.instruction, self.no_instruction),
            false => (below.instruction, below.no_instruction),
        };
        Self {
            prompt: self.prompt.or(below.prompt),
            negative: self.negative.or(below.negative),
            seed: self.seed.or(below.seed),
            steps: self.steps.or(below.steps),
            guidance: self.guidance.or(below.guidance),
            more_guidance: self.more_guidance.or(below.more_guidance),
            solver: self.solver.or(below.solver),
            timesteps: self.timesteps.or(below.timesteps),
            size,
            bucket,
            aspect,
            count: self.count.or(below.count),
            instruction,
            no_instruction,
            style: match self.style.is_empty() {
                true => below.style,
                false => self.style,
            },
            template: self.template.or(below.template),
            hires,
            control: self.control.or(below.control),
            start: self.start.or(below.start),
        }
    }

    /// What a user may want to know of options that no request shows.
    pub fn note(&self) -> Option<String> {
        let reads_an_image = self.start.image().is_some() || self.control.control.is_some();
        (self.start.has_background() && !reads_an_image).then(|| {
            "--background has no effect: it is for images that are read, of --image and --control"
                .to_owned()
        })
    }

    /// The prompt, empty without one.
    pub fn prompt(&self) -> &str {
        self.prompt.as_deref().unwrap_or_default()
    }

    /// The negative prompt, empty without one.
    pub fn negative(&self) -> &str {
        self.negative.as_deref().unwrap_or_default()
    }

    /// How many images are made of the prompt.
    pub fn count(&self) -> usize {
        self.count.unwrap_or(1)
    }
}

impl GuidanceArgs {
    fn or(self, below: Self) -> Self {
        Self {
            guidance_interval: self.guidance_interval.or(below.guidance_interval),
            pag: self.pag.or(below.pag),
            pag_layers: self.pag_layers.or(below.pag_layers),
            apg: self.apg || below.apg,
            apg_eta: self.apg_eta.or(below.apg_eta),
            apg_norm: self.apg_norm.or(below.apg_norm),
            apg_momentum: self.apg_momentum.or(below.apg_momentum),
        }
    }
}
