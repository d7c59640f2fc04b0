//! The estimate of memory against what the heap really holds at its worst, counted by the allocator.
//! The networks are of medium size, so that what does not depend on them hardly counts. And that
//! many images keep no more memory than a few.

#![cfg(feature = "flex")]

use std::sync::Mutex;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use peak_alloc::PeakAlloc;
use sana_dcae::{DcAe, DcAeConfig, MemoryOptions, Tiling};
use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::parity::built_in_fixture_path;
use sana_linear_attn::transformer::TransformerInput;
use sana_pipeline::memory::MemoryPolicy;
use sana_pipeline::memory::activations::{
    Denoising, decode_elements, denoise_elements, text_elements,
};
use sana_pipeline::{Checkpoint, LoadOptions, Request, SanaPipeline, StepAction};
use sana_text::Gemma2Config;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// One test at a time: all of them share the heap.
static ALONE: Mutex<()> = Mutex::new(());

/// Buffers of matmuls in every thread, and the rest that no formula counts.
const SLACK: f64 = 8e6;

/// Bytes that the heap grows by at most during `run`, its result dropped. It has run once
/// before, so that lazy parameters are there.
fn growth<T>(mut run: impl FnMut() -> T) -> f64 {
    drop(run());
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    drop(run());
    (HEAP.peak_usage() - before) as f64
}

/// The estimate is an upper one, and not more than so many times too large.
#[track_caller]
fn assert_estimate(name: &str, elements: f64, measured: f64, most: f64) {
    let estimated = 4.0 * elements + SLACK;
    assert!(
        measured <= estimated,
        "{name}: {measured:.3e} bytes, estimated {estimated:.3e}"
    );
    assert!(
        estimated <= most * measured,
        "{name}: {measured:.3e} bytes, estimated {estimated:.3e}"
    );
    println!("{name}: {measured:.3e} bytes, estimated {estimated:.3e}");
}

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The released decoder with a quarter of its channels.
fn quarter() -> DcAeConfig {
    let widths = vec![32, 64, 128, 128, 256, 256];
    DcAeConfig {
        encoder_block_out_channels: widths.clone(),
        decoder_block_out_channels: widths,
        decoder_layers_per_block: vec![2, 2, 1, 1, 1, 1],
        ..DcAeConfig::f32c32_sana_1_1()
    }
}

fn decoded(model: &DcAe, [height, width]: [usize; 2], batch: usize) -> Tensor<4> {
    let latents = Tensor::ones([batch, 32, height / 32, width / 32], &Device::flex());
    model
        .decode_with(latents, &MemoryOptions::default())
        .unwrap()
}

#[test]
fn decoding() {
    let _alone = alone();
    let threads = rayon::current_num_threads();
    let shuffled = DcAeConfig {
        upsample_block_type: sana_dcae::UpsampleBlockType::PixelShuffle,
        ..quarter()
    };
    // Fewer channels than the fast convolution is for.
    let narrow = DcAeConfig {
        attention_head_dim: 8,
        encoder_block_out_channels: vec![8, 16, 16, 16, 32, 32],
        decoder_block_out_channels: vec![8, 16, 16, 16, 32, 32],
        ..quarter()
    };
    for (name, config, size, batch) in [
        ("interpolated", quarter(), [256, 512], 1),
        ("in a batch", quarter(), [128, 256], 3),
        ("shuffled", shuffled, [256, 512], 1),
        ("narrow", narrow, [512, 512], 1),
    ] {
        let model = config.init(&Device::flex());
        let elements = decode_elements(&config, batch, size, Some(threads));
        let measured = growth(|| decoded(&model, size, batch));
        assert_estimate(name, elements, measured, 2.0);
    }
}

#[test]
fn denoising() {
    let _alone = alone();
    let device = Device::flex();
    let config = SanaTransformerConfig {
        num_attention_heads: 16,
        num_cross_attention_heads: 8,
        cross_attention_head_dim: 64,
        cross_attention_dim: 512,
        caption_channels: 96,
        num_layers: 2,
        ..SanaTransformerConfig::default()
    };
    let model = config.init(&device);
    for (batch, guided) in [(1, false), (2, true)] {
        let run = Denoising {
            images: 1,
            guided,
            perturbed: false,
            tokens: 32 * 32,
            text_tokens: 300,
            low_rank: false,
        };
        let measured = growth(|| {
            let caption = Tensor::<3>::ones([batch, 300, 96], &device);
            let text = model.text_context(caption, None);
            let latents = Tensor::<4>::ones([batch, 32, 32, 32], &device);
            let time = Tensor::<1>::ones([batch], (&device, DType::F32));
            let input = TransformerInput::new(latents, time, &text);
            model.forward(input).velocity
        });
        let elements = denoise_elements(&config, &run);
        assert_estimate("transformer", elements, measured, 2.0);
    }
    assert!(model.num_params() > 1_000_000);
}

#[test]
fn encoding_text() {
    let _alone = alone();
    let device = Device::flex();
    let config = Gemma2Config {
        vocab_size: 50,
        hidden_size: 1152,
        intermediate_size: 4608,
        num_hidden_layers: 1,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 128,
        ..Gemma2Config::gemma_2_2b()
    };
    let model = config.init(&device).unwrap();
    for (rows, tokens) in [(1, 600), (2, 250)] {
        let ids = vec![vec![7u32; tokens]; rows];
        let measured = growth(|| {
            let mask = Tensor::<2>::ones([rows, tokens], (&device, DType::F32));
            model.forward_ids(&ids, mask).unwrap()
        });
        let threads = rayon::current_num_threads();
        let scores = (threads * 128 * tokens) as f64;
        let elements = text_elements(&config, rows, tokens) + scores;
        assert_estimate("text encoder", elements, measured, 2.0);
    }
}

/// Bytes of the process in main memory; 0 where the system does not say it as Linux does.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}

/// 60 images of one process keep what the first twelve left: every size and both kinds of request
/// have been there by then. Networks are loaded again for each stage.
///
/// On the heap the bound is far below what a single latent, image or layer left behind each time
/// would add up to. Of the resident size it is what buffers of the threads, which start late, and
/// the allocator's rounding may still add; the transformer left behind each time would be more.
#[test]
fn images_one_after_the_other() {
    let _alone = alone();
    let folder = built_in_fixture_path(env!("CARGO_MANIFEST_DIR"), "pipeline/sana");
    let options = LoadOptions {
        memory: MemoryPolicy::OneStageAtATime,
        tiling: Some(Tiling::default()),
        ..LoadOptions::default()
    };
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let mut pipeline = SanaPipeline::from_checkpoint(checkpoint, options, &Device::flex()).unwrap();
    let sizes = [[64, 64], [128, 64], [64, 160], [192, 128]];
    let prompts = ["a red circle", "three green triangles", "a square"];
    let (mut images, mut measured) = (0, Vec::new());
    for index in 0.. {
        let [width, height] = sizes[index % sizes.len()];
        let count = 1 + index % 2;
        let request = Request::batch(prompts.into_iter().cycle().skip(index).take(count));
        let request = request.size(width, height).steps(1 + index % 3);
        let request = request.seed(index as u64);
        let made = pipeline.generate(&request, &mut |_| StepAction::Continue);
        images += made.unwrap().images.len();
        measured.push((images, HEAP.current_usage() as u64, resident()));
        if images >= 60 {
            break;
        }
    }
    let warm = measured.partition_point(|(images, ..)| *images < 12);
    let largest = |of: fn(&(usize, u64, u64)) -> u64| {
        let (first, rest) = measured.split_at(warm + 1);
        let first = first.iter().map(of).max().unwrap_or(0);
        (first, rest.iter().map(of).max().unwrap_or(0))
    };
    let (first, rest) = largest(|(_, heap, _)| *heap);
    assert!(rest <= first + (64 << 10), "heap: {measured:?}");
    let (first, rest) = largest(|(_, _, resident)| *resident);
    assert!(rest <= first + (8 << 20), "resident: {measured:?}");
}
