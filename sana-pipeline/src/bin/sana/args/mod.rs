//! Options that several subcommands share.

mod cpu;
mod quantize;
mod shard;
mod values;

use std::path::PathBuf;

use clap::Args;
use sana_pipeline::checkpoint::{LoraFile, LoraMode};
use serde::Serialize;

use crate::device::DeviceName;
use crate::files::Files;

pub use self::cpu::{Bf16Args, CpuArgs};
pub use self::quantize::{FormOf, QuantizeArgs};
pub use self::shard::Shard;
pub use self::values::{
    Aspect, Bytes, Color, Dtype, NoiseLevels, ScaledPath, Size, as_typed, many, path_as_typed,
    positive,
};

/// Which model, and where it runs.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Model and device")]
#[serde(rename_all = "kebab-case")]
pub struct ModelArgs {
    /// Checkpoint folder in the diffusers layout, or owner/name on the Hugging Face Hub, which is
    /// downloaded once [default: the built-in model, which draws flat shapes]
    #[arg(short, long, value_name = "DIR")]
    #[serde(serialize_with = "path_as_typed")]
    pub model: Option<PathBuf>,
    /// Branch, tag or commit of a model from the Hub [default: main]
    #[arg(long, value_name = "REV", requires = "model")]
    pub revision: Option<String>,
    /// Transformer to use in place of the model's: a safetensors file with the names of diffusers
    /// or of the authors' own checkpoints, or a 4-bit file of nunchaku
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "path_as_typed")]
    pub transformer: Option<PathBuf>,
    /// Text encoder to use in place of the model's: Gemma-2 as a GGUF file, or a folder with
    /// config.json and safetensors; the tokenizer stays the model's
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "path_as_typed")]
    pub text_encoder: Option<PathBuf>,
    /// Weight files of this variant where the folder has them, such as fp16 for
    /// diffusion_pytorch_model.fp16.safetensors
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// Where to compute: flex (the CPU), cuda, rocm, metal, vulkan or wgpu, with :N for the N-th
    /// device as listed by `sana devices` [default: the first GPU that works, else flex]
    #[arg(short, long, value_name = "DEVICE")]
    #[serde(serialize_with = "as_typed")]
    pub device: Option<DeviceName>,
    /// Type of the weights in memory, and of the computation except on flex, whose activations stay
    /// in f32 [default: f32 on flex, elsewhere the checkpoint's]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub dtype: Option<Dtype>,
    /// Hold one component of the model in memory at a time and decode in tiles: slower, and takes
    /// much less memory [default: either where the model does not fit otherwise]
    #[arg(long)]
    pub low_memory: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub quantize: QuantizeArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub bf16: Bf16Args,
}

impl ModelArgs {
    /// Adds the files of its weights.
    pub fn add_files(&self, files: &mut Files) {
        if let Some(path) = &self.transformer {
            files.reads(path, "the transformer");
        }
        if let Some(path) = &self.text_encoder {
            files.reads(path, "the text encoder");
        }
        if let Some(path) = &self.model {
            files.reads_folder(path, "the model");
        }
    }

    /// These, and those of `below` for what is not given here. A revision is of its model.
    pub fn or(self, below: Self) -> Self {
        Self {
            revision: match &self.model {
                Some(_) => self.revision,
                None => self.revision.or(below.revision),
            },
            model: self.model.or(below.model),
            transformer: self.transformer.or(below.transformer),
            text_encoder: self.text_encoder.or(below.text_encoder),
            variant: self.variant.or(below.variant),
            device: self.device.or(below.device),
            dtype: self.dtype.or(below.dtype),
            low_memory: self.low_memory || below.low_memory,
            quantize: self.quantize.or(below.quantize),
            bf16: Bf16Args {
                widen_bf16: self.bf16.widen_bf16 || below.bf16.widen_bf16,
            },
        }
    }
}

/// Memory and threads: what the machine gives, which changes no result.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Model and device")]
pub struct ResourceArgs {
    /// Memory that weights and activations may take, such as 6GB [default: what the system has left;
    /// on GPUs nine tenths of their memory]
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<Bytes>,
    /// Run even where the estimate says that there is too little memory
    #[arg(long)]
    pub ignore_memory: bool,
    #[command(flatten)]
    pub cpu: CpuArgs,
}

impl ResourceArgs {
    /// These, and those of `below` for what is not given here.
    pub fn or(self, below: Self) -> Self {
        Self {
            memory_limit: self.memory_limit.or(below.memory_limit),
            ignore_memory: self.ignore_memory || below.ignore_memory,
            cpu: CpuArgs {
                threads: self.cpu.threads.or(below.cpu.threads),
            },
        }
    }
}

/// LoRAs on top of the model.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Model and device")]
#[serde(rename_all = "kebab-case")]
pub struct LoraArgs {
    /// LoRA file in the PEFT or diffusers layout, at this scale [default: 1]; several are summed
    #[arg(long, value_name = "FILE[:SCALE]")]
    pub lora: Vec<ScaledPath>,
    /// Keep LoRAs next to the weights instead of merging them: slower, and nothing of the change is
    /// lost in 16-bit weights
    #[arg(long, requires = "lora")]
    pub lora_unmerged: bool,
}

impl LoraArgs {
    /// The files, and how they are applied.
    pub fn files(&self) -> Vec<LoraFile> {
        let mode = match self.lora_unmerged {
            true => LoraMode::Unmerged,
            false => LoraMode::Merged,
        };
        let file = |lora: &ScaledPath| LoraFile::new(&lora.path).scale(lora.scale).mode(mode);
        self.lora.iter().map(file).collect()
    }

    /// These, and those of `below` for what is not given here.
    pub fn or(self, below: Self) -> Self {
        Self {
            lora: match self.lora.is_empty() {
                true => below.lora,
                false => self.lora,
            },
            lora_unmerged: self.lora_unmerged || below.lora_unmerged,
        }
    }
}
