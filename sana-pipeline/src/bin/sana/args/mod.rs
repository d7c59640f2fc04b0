//! Options that several subcommands share.

mod cpu;
mod values;

use std::path::PathBuf;

use clap::Args;
use sana_pipeline::{LoraFile, LoraMode};

use crate::device::DeviceName;

pub use self::cpu::CpuArgs;
pub use self::values::{Aspect, Bytes, Dtype, ScaledPath, Size, interval, positive};

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
