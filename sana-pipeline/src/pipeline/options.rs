//! How a checkpoint is loaded.

use std::path::PathBuf;

use burn::tensor::DType;
use sana_dcae::Tiling;
use sana_linear_attn::ControlWiring;
use sana_linear_attn::precision::Bf16Gemm;
use sana_linear_attn::transformer::F16Clamp;

use crate::checkpoint::{LoraFile, QuantizeComponents};
use crate::memory::{MemoryPolicy, MemoryShortage};

/// How to load a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Dtype of the weights in memory. `None` is that of the files, but f32 on the CPU backend.
    /// That backend has f32 activations whatever the weights are: in bf16 or f16 they take half the
    /// memory, and each layer widens its own when it is applied, or multiplies with bf16 as it is
    /// where the CPU has AVX512-BF16 (`sana_linear_attn::precision`). Other devices compute in this
    /// dtype; there, what the device does not support becomes f32, and the text encoder and the
    /// autoencoder run in bf16 or f32 in place of f16; [`SanaPipeline::notes`](crate::SanaPipeline::notes) says so.
    pub dtype: Option<DType>,
    /// The networks whose linear layers are quantized, one layer after the other while they are loaded.
    /// The dtype is then that of the others. LoRAs are kept next to quantized weights.
    pub quantize: QuantizeComponents,
    /// How linear layers multiply by bf16 weights on the CPU backend.
    pub bf16_gemm: Bf16Gemm,
    /// Suffix of the weight files, such as `fp16`; parts without files of it load their plain
    /// ones.
    pub variant: Option<String>,
    /// The limit on self-attention outputs. Auto means on for a transformer without qk norm when
    /// any of its weight files, or their dtype in memory, is f16.
    pub clamp: F16Clamp,
    /// Which networks stay in memory.
    pub memory: MemoryPolicy,
    /// Tiles in which the autoencoder works. When `None`, images are decoded whole, or in
    /// [tiles for the compression ratio](Tiling::for_compression) where whole ones do not fit into
    /// memory.
    pub tiling: Option<Tiling>,
    /// The memory in bytes that weights and activations may take together. `None` is what is
    /// available: see [`SanaPipeline::memory_budget`](crate::SanaPipeline::memory_budget).
    pub memory_limit: Option<u64>,
    /// What to do with a request that does not fit.
    pub memory_shortage: MemoryShortage,
    /// LoRAs to apply to the transformer whenever it is loaded. They are summed.
    pub loras: Vec<LoraFile>,
    /// Folder of a ControlNet, its own or one with a folder `controlnet`; every request then needs
    /// a control image. `None` is that of the checkpoint, where it has one, for requests with a
    /// control image.
    pub controlnet: Option<PathBuf>,
    /// How the ControlNet is wired. `None` is what its config says, or diffusers' wiring.
    pub control_wiring: Option<ControlWiring>,
    /// A transformer in place of the checkpoint's: see [`Checkpoint::with_transformer`](crate::Checkpoint::with_transformer).
    pub transformer: Option<PathBuf>,
    /// A text encoder in place of the checkpoint's: see [`Checkpoint::with_text_encoder`](crate::Checkpoint::with_text_encoder).
    pub text_encoder: Option<PathBuf>,
}
