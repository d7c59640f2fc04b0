//! Models small enough to train in a test, and tasks for them.

use std::sync::Arc;

use burn::tensor::Device;
use sana_dcae::{BlockType, DcAe, DcAeConfig, PerStage};
use sana_linear_attn::SanaTransformerConfig;
use sana_text::{
    Gemma2Config, GemmaTokenizer, Instruction, PromptOptions, PromptTokenizer, train_gemma_style,
};

use crate::train::optimizer::Parameters;
use crate::train::{
    AutoencoderOptions, AutoencoderTask, Denoiser, FlatShapes, LatentPool, OptimizerKind,
    OptimizerOptions, RunOptions, Schedule, TransformerOptions, TransformerTask,
};

/// A DC-AE of two stages, small enough to train in a test.
pub(super) fn tiny_autoencoder(device: &Device) -> DcAe {
    let config = DcAeConfig {
        encoder_block_types: PerStage::All(BlockType::Res),
        decoder_block_types: PerStage::All(BlockType::Res),
        encoder_block_out_channels: vec![8, 16],
        decoder_block_out_channels: vec![8, 16],
        encoder_layers_per_block: vec![1, 1],
        decoder_layers_per_block: vec![1, 1],
        encoder_qkv_multiscales: vec![vec![], vec![]],
        decoder_qkv_multiscales: vec![vec![], vec![]],
        latent_channels: 4,
        ..DcAeConfig::default()
    };
    config.init(device)
}

pub(super) fn task(device: &Device) -> AutoencoderTask {
    AutoencoderTask {
        data: Arc::new(FlatShapes::new(&[[16, 16]])),
        options: AutoencoderOptions {
            batch: 4,
            ..AutoencoderOptions::default()
        },
        device: device.clone(),
    }
}

pub(super) fn options(steps: usize) -> RunOptions {
    RunOptions {
        steps,
        schedule: Schedule {
            learning_rate: 3e-3,
            warmup: 2,
            last: 0.1,
        },
        optimizer: OptimizerOptions::default(),
        frozen: Vec::new(),
        replicas: 2,
        save_every: 3,
        accept_changes: false,
    }
}

pub(super) fn muon(steps: usize) -> RunOptions {
    let mut options = options(steps);
    options.optimizer.kind = OptimizerKind::Muon;
    options
}

pub(super) fn came8bit(steps: usize) -> RunOptions {
    let mut options = options(steps);
    options.optimizer.kind = OptimizerKind::Came8Bit;
    options
}

/// A text encoder and a transformer small enough to train in a test, and a pool of made-up latents.
pub(super) fn tiny_denoiser(
    device: &Device,
    instruction: Option<&str>,
) -> (Denoiser, TransformerTask) {
    let captions = ["a red circle", "two blue squares", "a green triangle"];
    let json = train_gemma_style(captions, 280).expect("tokenizer");
    let tokenizer = GemmaTokenizer::from_bytes("test", json.as_bytes()).expect("tokenizer");
    let text = Gemma2Config {
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        query_pre_attn_scalar: 8,
        vocab_size: tokenizer.vocab_size(),
        ..Gemma2Config::gemma_2_2b()
    };
    let transformer = SanaTransformerConfig {
        in_channels: 4,
        out_channels: Some(4),
        num_layers: 2,
        num_attention_heads: 2,
        attention_head_dim: 8,
        num_cross_attention_heads: 2,
        cross_attention_head_dim: 8,
        cross_attention_dim: 16,
        caption_channels: 16,
        sample_size: 2,
        ..SanaTransformerConfig::default()
    };
    let options = PromptOptions {
        instruction: instruction.map(|line| Instruction::custom([line])),
        max_tokens: 12,
    };
    device.seed(11);
    let latents = (0..3 * 4 * 2 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
    let model = Denoiser {
        text_encoder: text.init_seeded(3, device).expect("text encoder"),
        transformer: transformer.init(device),
    };
    let task = TransformerTask {
        pool: LatentPool::new([4, 2, 3], latents, captions.map(str::to_owned).to_vec()),
        tokenizer: PromptTokenizer::new(tokenizer, options).expect("tokenizer"),
        options: TransformerOptions {
            batch: 5,
            caption_dropout: 0.5,
            ..TransformerOptions::default()
        },
        device: device.clone(),
    };
    // Fixed values: lazy ones would be drawn at every clone.
    (Parameters::of(&model).write_into(model, false), task)
}
