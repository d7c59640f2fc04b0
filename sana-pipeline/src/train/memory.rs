//! What a run takes at least: what cannot fit is refused before the work.

use burn::module::Module;
use burn::tensor::Device;
use sana_dcae::{BlockType, DcAeConfig, PerStage};
use sana_linear_attn::SanaTransformerConfig;
use sana_linear_attn::precision::is_cpu;
use sana_linear_attn::weights::parameter_shapes;
use sana_text::Gemma2Config;

use super::error::TrainError;
use super::optimizer::OptimizerKind;
use super::run::RunOptions;
use crate::memory::available_bytes;

/// Bytes of an f32.
const F32: f64 = 4.0;
/// Value and moving average of a trained parameter.
const COPIES: f64 = 2.0;

/// Moments of a trained parameter that the optimizer keeps at least, in units of f32.
fn moments(kind: OptimizerKind) -> f64 {
    match kind {
        OptimizerKind::AdamW => 2.0,
        OptimizerKind::Muon | OptimizerKind::Came => 1.0,
        OptimizerKind::Came8Bit => 0.25,
    }
}

/// Results that a residual block of DC-AE keeps for the backward pass, in units of its width:
/// those of both convolutions, the activation and the norm.
const RES_BLOCK: f64 = 4.0;
/// The same of an EfficientViT block: queries, keys and values at two scales, and the gated
/// convolution at four times the width.
const EFFICIENT_VIT_BLOCK: f64 = 16.0;
/// Of a transformer block, next to its feed-forward: norms, queries, keys and values, outputs.
const ATTENTION: f64 = 10.0;
/// Of the feed-forward, in units of its hidden width: two halves after each of three operations.
const FEED_FORWARD: f64 = 6.0;

/// Refuses a run of an autoencoder that takes more memory than there is: parameters with their
/// optimizer, and the results kept for the backward pass of a batch of images of this width and height,
/// the largest of the run. It is a lower estimate.
///
/// # Errors
/// [`TrainError::Memory`].
pub fn check_autoencoder_run<M: Module>(
    model: &M,
    config: &DcAeConfig,
    [width, height]: [usize; 2],
    batch: usize,
    options: &RunOptions,
    device: &Device,
) -> Result<(), TrainError> {
    let area = width as f64 * height as f64;
    let image = 3.0 * area + stage_elements(config, area);
    let what = format!("a batch of {batch} images of {width} x {height} pixels");
    let bytes = state_bytes(model, options, batch) + F32 * image * batch as f64;
    check(what, bytes, device)
}

/// [`check_autoencoder_run`] of a transformer, on latents of `compression` pixels a side.
///
/// # Errors
/// [`TrainError::Memory`].
pub fn check_transformer_run<M: Module>(
    model: &M,
    config: &SanaTransformerConfig,
    ([width, height], compression): ([usize; 2], usize),
    batch: usize,
    options: &RunOptions,
    device: &Device,
) -> Result<(), TrainError> {
    let [columns, rows] = [width, height].map(|side| side as f64 / compression.max(1) as f64);
    let tokens = rows * columns / (config.patch_size.max(1) as f64).powi(2);
    let channels = config.width() as f64;
    let block = channels * (ATTENTION + FEED_FORWARD * config.mlp_ratio);
    let image =
        tokens * block * config.num_layers as f64 + rows * columns * config.in_channels as f64;
    let what = format!("a batch of {batch} images of {width} x {height} pixels");
    let bytes = state_bytes(model, options, batch) + F32 * image * batch as f64;
    check(what, bytes, device)
}

/// Refuses a new text encoder of `vocab` tokens that is trained and takes more memory than there is,
/// by a lower estimate, before its weights are drawn.
///
/// # Errors
/// [`TrainError::Memory`].
pub fn check_text_encoder(
    config: &Gemma2Config,
    vocab: usize,
    options: &RunOptions,
    device: &Device,
) -> Result<(), TrainError> {
    let blocks = config.parameter_count() - config.embedding_parameter_count();
    let trained = blocks as f64 + vocab as f64 * config.hidden_size as f64;
    // Values, moving average, moments and gradients.
    let bytes = F32 * trained * (COPIES + moments(options.optimizer.kind) + 1.0);
    let what = format!("a text encoder of {trained} parameters");
    check(what, bytes, device)
}

/// Refuses a pool whose latents do not fit: sizes in pixels, and the images of each.
pub(super) fn check_pool(
    config: &DcAeConfig,
    parts: &[([usize; 2], usize)],
    device: &Device,
) -> Result<(), TrainError> {
    let (mut latents, mut largest, mut images) = (0.0, 0.0, 0u128);
    let per_pixel = config.latent_channels as f64 / (config.compression() as f64).powi(2);
    for ([width, height], count) in parts {
        let area = *width as f64 * *height as f64;
        latents += per_pixel * area * *count as f64;
        largest = f64::max(largest, area);
        images += *count as u128;
    }
    // One image is encoded as well, wherever the latents go.
    let bytes = F32 * (latents + 3.0 * largest);
    let what = match parts {
        [([width, height], count)] => {
            format!("a pool of {count} images of {width} x {height} pixels")
        }
        _ => format!("a pool of {images} images"),
    };
    check(what, bytes, device)
}

/// Refuses batches whose images alone do not fit, whatever network they are for.
pub(super) fn check_batch(
    what: &str,
    batch: usize,
    elements: f64,
    device: &Device,
) -> Result<(), TrainError> {
    let what = format!("a batch of {batch} {what}");
    check(what, F32 * elements * batch as f64, device)
}

/// Parameters and what the optimizer keeps of them, and the gradients of each replica.
fn state_bytes<M: Module>(model: &M, options: &RunOptions, batch: usize) -> f64 {
    let replicas = options.replicas.clamp(1, batch.max(1)) as f64;
    let (mut trained, mut frozen) = (0.0, 0.0);
    for (name, shape) in parameter_shapes(model, Default::default()) {
        let elements: f64 = shape.iter().map(|side| *side as f64).product();
        if options.is_frozen(&name) {
            frozen += elements;
        } else {
            trained += elements;
        }
    }
    let copies = COPIES + moments(options.optimizer.kind);
    F32 * (trained * (copies + replicas) + frozen)
}

/// Results kept for the backward pass of an image in both halves of an autoencoder.
fn stage_elements(config: &DcAeConfig, area: f64) -> f64 {
    let half = |widths: &[usize], layers: &[usize], types: &PerStage<BlockType>| -> f64 {
        let stages = widths.iter().zip(layers).enumerate();
        let kept = stages.map(|(stage, (width, layers))| {
            let block = match types.get(stage) {
                Some(BlockType::EfficientVit) => EFFICIENT_VIT_BLOCK,
                _ => RES_BLOCK,
            };
            let pixels = area / 4f64.powi(stage as i32);
            *width as f64 * *layers as f64 * block * pixels
        });
        kept.sum()
    };
    half(
        &config.encoder_block_out_channels,
        &config.encoder_layers_per_block,
        &config.encoder_block_types,
    ) + half(
        &config.decoder_block_out_channels,
        &config.decoder_layers_per_block,
        &config.decoder_block_types,
    )
}

fn check(what: String, bytes: f64, device: &Device) -> Result<(), TrainError> {
    // Beyond this no allocation is possible, whatever the device has.
    let addressable = isize::MAX as u64;
    let available = is_cpu(device).then(available_bytes).flatten();
    let available = available.unwrap_or(addressable).min(addressable);
    let needed = bytes as u64; // saturates
    if needed <= available {
        return Ok(());
    }
    Err(TrainError::Memory {
        what,
        needed,
        available,
    })
}

#[cfg(test)]
mod tests {
    use sana_linear_attn::parity::device;

    use super::*;
    use crate::train::{scenes_autoencoder, scenes_text_encoder, scenes_transformer};

    #[test]
    fn what_cannot_fit_is_refused_and_what_fits_is_not() {
        let device = device();
        let options = RunOptions::default();
        let config = scenes_autoencoder();
        let model = config.init(&device);
        let autoencoder = |size, batch| {
            check_autoencoder_run(&model, &config, [size; 2], batch, &options, &device)
        };
        autoencoder(64, 16).expect("fits");
        for (size, batch) in [
            (1 << 30, 1),
            (64, 1 << 40),
            (usize::MAX - 31, 1),
            (64, usize::MAX),
        ] {
            let error = autoencoder(size, batch).expect_err("refused");
            assert!(matches!(error, TrainError::Memory { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(&format!("a batch of {batch} images of {size}")));
        }

        let transformer = scenes_transformer(64);
        let model = transformer.init(&device);
        let run = |size, batch| {
            check_transformer_run(&model, &transformer, (size, 32), batch, &options, &device)
        };
        run([64, 64], 128).expect("fits");
        run([1 << 30, 64], 1 << 12).expect_err("refused");
        run([64, 1 << 30], 1 << 12).expect_err("refused");
        run([1 << 30; 2], 1).expect_err("refused");
        run([64, 64], usize::MAX).expect_err("refused");

        let text = scenes_text_encoder(400);
        let encoder =
            |text: &Gemma2Config, vocab| check_text_encoder(text, vocab, &options, &device);
        encoder(&text, 400).expect("fits");
        encoder(&text, usize::MAX).expect_err("refused");
        let wide = Gemma2Config {
            hidden_size: 1 << 21,
            ..text
        };
        let error = encoder(&wide, 400).expect_err("refused").to_string();
        assert!(
            error.contains("a text encoder of 5689573376 parameters"),
            "{error}"
        );

        let pool = |parts: &[_]| check_pool(&config, parts, &device);
        pool(&[([64, 64], 20_000), ([96, 32], 20_000)]).expect("fits");
        pool(&[([64, 64], usize::MAX)]).expect_err("refused");
        let several = pool(&[([64, 64], 1), ([96, 32], usize::MAX)]).expect_err("refused");
        assert!(
            several
                .to_string()
                .contains("a pool of 18446744073709551616 images"),
            "{several}"
        );
        pool(&[([1 << 40, 64], 1 << 20)]).expect_err("refused");
        pool(&[([1 << 40; 2], 1)]).expect_err("refused");
    }
}
