//! Options of making a benchmark's images.

use std::path::PathBuf;

use clap::Args;

use crate::args::{LoraArgs, ModelArgs, ResourceArgs, Shard, Size, many, positive};
use crate::generate::args::{ImageArgs, LoadedArgs, SolverName};

/// How the images of a benchmark are made.
#[derive(Debug, Args)]
pub struct MakeArgs {
    /// Folder of the images; those that are there already are kept
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Take the first N prompts, which is no longer the benchmark [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = many())]
    pub count: Option<usize>,
    /// Make every N-th prompt's images, from the I-th on: on several machines 1/N to N/N [default: all]
    #[arg(long, value_name = "I/N", default_value_t, hide_default_value = true)]
    pub shard: Shard,
    /// Images generated at a time
    #[arg(long, value_name = "N", default_value_t = 4, allow_negative_numbers = true, value_parser = positive())]
    pub batch: usize,
    /// Image I of prompt P, both from 0, has the seed S + P * images of a prompt + I
    #[arg(
        long,
        value_name = "S",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub seed: u64,
    /// Steps of the solver [default: 20, for Sana-Sprint 2]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive())]
    steps: Option<usize>,
    /// Classifier-free guidance scale [default: 4.5]
    #[arg(long, value_name = "G", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// Solver [default: the checkpoint's]
    #[arg(long, value_enum)]
    solver: Option<SolverName>,
    /// Width and height in pixels [default: what the model was trained at]
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    lora: LoraArgs,
}

impl MakeArgs {
    /// The options of the images of a prompt, the first of which has this seed.
    pub fn image(&self, prompt: &str, seed: u64, no_instruction: bool) -> ImageArgs {
        ImageArgs {
            prompt: Some(prompt.to_owned()),
            seed: Some(seed),
            steps: self.steps,
            guidance: self.guidance,
            solver: self.solver,
            size: self.size,
            no_instruction,
            ..ImageArgs::default()
        }
    }

    /// What is loaded once.
    pub fn loaded(&self) -> LoadedArgs {
        LoadedArgs {
            model: self.model.clone(),
            lora: self.lora.clone(),
            ..LoadedArgs::default()
        }
    }
}
