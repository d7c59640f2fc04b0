//! Trains an autoencoder, and a transformer with its text encoder on its latents, for a few steps,
//! and writes a checkpoint. With some thousand steps in place of these few, it learns.
//!
//! `cargo run --release -p sana-pipeline --example train -- [DIR] [STEPS]`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use sana_pipeline::checkpoint::create::{CheckpointFiles, write_autoencoder, write_denoiser};
use sana_pipeline::checkpoint::{CheckpointInstruction, SanaKeys};
use sana_pipeline::train::{
    AutoencoderOptions, AutoencoderTask, Denoiser, FlatShapes, LatentPool, MAX_PROMPT_TOKENS,
    PoolOptions, Run, RunOptions, TransformerOptions, TransformerTask, scenes_autoencoder,
    scenes_text_encoder, scenes_tokenizer, scenes_transformer, with_measured_scale,
};
use sana_text::{GemmaTokenizer, PromptTokenizer};

/// Side of the images in pixels.
const SIZE: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "scenes-run".into());
    let steps = arguments.next().map_or(Ok(10), |text| text.parse())?;
    train(Path::new(&folder), steps)?;
    println!("sana generate \"a red circle\" --model {folder}");
    Ok(())
}

/// Runs that were stopped continue where they were.
pub fn train(folder: &Path, steps: usize) -> Result<(), Box<dyn Error>> {
    // A run adds autodiff to the model by itself.
    let device = Device::flex();
    let options = RunOptions {
        steps,
        ..RunOptions::default()
    };

    // The autoencoder, on images drawn as they are needed.
    let task = AutoencoderTask {
        data: Arc::new(FlatShapes::new(&[[SIZE, SIZE]])),
        options: AutoencoderOptions {
            batch: 4,
            ..AutoencoderOptions::default()
        },
        device: device.clone(),
    };
    let model = scenes_autoencoder().init(&device);
    let mut run = Run::open(&folder.join("autoencoder"), model, options.clone())?;
    run.train(&task, |_, step| {
        println!("autoencoder {}: loss {:.4}", step.step, step.loss);
        true
    })?;
    let autoencoder = with_measured_scale(&run.averaged_model(), &*task.data, 0, &device)?;

    // The transformer and its text encoder, on latents encoded ahead of the training.
    let images = PoolOptions {
        count: 32,
        ..PoolOptions::default()
    };
    let pool = LatentPool::encode(&autoencoder, &*task.data, images, &device, |_| ())?;
    let tokenizer_json = scenes_tokenizer(0)?;
    let keys = SanaKeys {
        instruction: CheckpointInstruction::None,
        max_tokens: MAX_PROMPT_TOKENS,
        ..SanaKeys::default()
    };
    let tokenizer = GemmaTokenizer::from_bytes("tokenizer.json", tokenizer_json.as_bytes())?;
    let text_encoder = scenes_text_encoder(tokenizer.vocab_size()).init_seeded(0, &device)?;
    let task = TransformerTask {
        pool,
        tokenizer: PromptTokenizer::new(tokenizer, keys.prompt_options())?,
        options: TransformerOptions {
            batch: 4,
            ..TransformerOptions::default()
        },
        device: device.clone(),
    };
    let model = Denoiser {
        text_encoder,
        transformer: scenes_transformer(SIZE).init(&device),
    };
    let mut run = Run::open(folder, model, options)?;
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
