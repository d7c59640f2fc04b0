//! A data source of one's own: gradients between two colours, with captions. A tiny autoencoder and a
//! tiny transformer take a few steps on them; with some thousand steps, and wider networks, they learn.
//!
//! `cargo run --release -p sana-pipeline --example data_source -- [DIR] [STEPS]`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use rand::RngExt;
use sana_dcae::{BlockType, DcAeConfig, PerStage};
use sana_linear_attn::SanaTransformerConfig;
use sana_pipeline::checkpoint::create::{CheckpointFiles, write_autoencoder, write_denoiser};
use sana_pipeline::checkpoint::{CheckpointInstruction, SanaKeys};
use sana_pipeline::train::{
    AutoencoderOptions, AutoencoderTask, Bucket, DataSource, Denoiser, LatentPool, PoolOptions,
    Run, RunOptions, Sample, TrainError, TransformerOptions, TransformerTask, train_tokenizer,
    with_measured_scale,
};
use sana_sampler::noise::{self, Stream};
use sana_text::{Gemma2Config, GemmaTokenizer, PromptTokenizer};

const COLORS: [(&str, [f32; 3]); 4] = [
    ("black", [-1.0, -1.0, -1.0]),
    ("white", [1.0, 1.0, 1.0]),
    ("red", [0.8, -0.7, -0.7]),
    ("blue", [-0.7, -0.4, 0.8]),
];

/// Gradients from left to right.
#[derive(Debug)]
struct Gradients {
    buckets: Vec<Bucket>,
}

impl DataSource for Gradients {
    fn content(&self) -> String {
        "gradients of four colours".to_owned()
    }

    fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    fn sample_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Sample, TrainError> {
        // Random, and the same whenever it is asked for.
        let mut rng = noise::generator(seed, index, Stream::Other(bucket as u32));
        let [from, to] = [(); 2].map(|()| COLORS[rng.random_range(0..COLORS.len())]);
        let size = self.buckets[bucket].size;
        let [width, height] = size;
        let mut pixels = Vec::with_capacity(3 * width * height);
        for (from, to) in from.1.into_iter().zip(to.1) {
            for pixel in 0..width * height {
                let share = (pixel % width) as f32 / (width - 1) as f32;
                pixels.push(from + share * (to - from));
            }
        }
        let caption = format!("from {} to {}", from.0, to.0);
        Ok(Sample {
            size,
            pixels,
            caption,
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "gradients-run".into());
    let steps = arguments.next().map_or(Ok(10), |text| text.parse())?;
    train(Path::new(&folder), steps)?;
    println!("sana generate \"from red to white\" --model {folder} --size 64x32");
    Ok(())
}

/// Both networks, on squares and on images twice as wide as high.
pub fn train(folder: &Path, steps: usize) -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let options = RunOptions {
        steps,
        ..RunOptions::default()
    };
    let data: Arc<dyn DataSource> = Arc::new(Gradients {
        buckets: vec![Bucket::endless([32, 32]), Bucket::endless([64, 32])],
    });

    let task = AutoencoderTask {
        data: data.clone(),
        options: AutoencoderOptions {
            batch: 4,
            ..AutoencoderOptions::default()
        },
        device: device.clone(),
    };
    let model = autoencoder().init(&device);
    let mut run = Run::open(&folder.join("autoencoder"), model, options.clone())?;
    run.train(&task, |_, step| {
        println!("autoencoder {}: loss {:.4}", step.step, step.loss);
        true
    })?;
    let autoencoder = with_measured_scale(&run.averaged_model(), &*data, 0, &device)?;

    let tokenizer_json = train_tokenizer(&*data, 300, 0)?;
    let tokenizer = GemmaTokenizer::from_bytes("tokenizer.json", tokenizer_json.as_bytes())?;
    let keys = SanaKeys {
        instruction: CheckpointInstruction::None,
        max_tokens: 24,
        ..SanaKeys::default()
    };
    let model = Denoiser {
        text_encoder: text_encoder(tokenizer.vocab_size()).init_seeded(0, &device)?,
        transformer: transformer().init(&device),
    };
    let images = PoolOptions {
        count: 64,
        ..PoolOptions::default()
    };
    let task = TransformerTask {
        pool: LatentPool::encode(&autoencoder, &*data, images, &device, |_| ())?,
        tokenizer: PromptTokenizer::new(tokenizer, keys.prompt_options())?,
        options: TransformerOptions {
            batch: 4,
            ..TransformerOptions::default()
        },
        device: device.clone(),
    };
    let mut run = Run::open(folder, model, options)?;
    run.settle(data.settings())?;
    run.train(&task, |_, step| {
        println!("transformer {}: loss {:.4}", step.step, step.loss);
        true
    })?;

    let files = CheckpointFiles {
        tokenizer: &tokenizer_json,
        flow_shift: task.options.flow_shift,
        keys: &keys,
    };
    write_autoencoder(&autoencoder, folder, DType::F32)?;
    let Denoiser {
        transformer,
        text_encoder,
    } = run.averaged_model();
    write_denoiser(&transformer, &text_encoder, &files, folder, DType::F32)?;
    Ok(())
}

/// Three stages: 4 x 4 pixels are a latent of 4 channels.
fn autoencoder() -> DcAeConfig {
    DcAeConfig {
        encoder_block_types: PerStage::All(BlockType::Res),
        decoder_block_types: PerStage::All(BlockType::Res),
        encoder_block_out_channels: vec![8, 16, 16],
        decoder_block_out_channels: vec![8, 16, 16],
        encoder_layers_per_block: vec![1, 1, 1],
        decoder_layers_per_block: vec![1, 1, 1],
        encoder_qkv_multiscales: vec![vec![]; 3],
        decoder_qkv_multiscales: vec![vec![]; 3],
        latent_channels: 4,
        ..DcAeConfig::default()
    }
}

fn transformer() -> SanaTransformerConfig {
    SanaTransformerConfig {
        in_channels: 4,
        out_channels: Some(4),
        num_layers: 2,
        num_attention_heads: 2,
        attention_head_dim: 16,
        num_cross_attention_heads: 2,
        cross_attention_head_dim: 16,
        cross_attention_dim: 32,
        caption_channels: 32,
        sample_size: 8,
        interpolation_scale: Some(1.0),
        ..SanaTransformerConfig::default()
    }
}

fn text_encoder(vocab_size: usize) -> Gemma2Config {
    Gemma2Config {
        vocab_size,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 16,
        query_pre_attn_scalar: 16,
        ..Gemma2Config::gemma_2_2b()
    }
}
