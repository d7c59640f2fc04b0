//! How much memory the networks take next to their weights, from their configs alone.
//!
//! Each function counts the elements of the tensors that are alive at once at the worst moment,
//! found by following a layer from its input to its output: what a caller holds is counted as long
//! as it holds it. The counts are upper ones. Where a backend runs several operations as one (the
//! CPU kernels of `sana-linear-attn` do), fewer tensors exist; what it allocates for itself is in
//! [`winograd_elements`].
//!
//! All counts are in `f64`: exact as far as memory reaches, and without overflow for the largest
//! numbers that configs may hold.

use sana_dcae::{BlockType, DcAeConfig, UpsampleBlockType};
use sana_linear_attn::SanaTransformerConfig;
use sana_text::Gemma2Config;

/// What the transformer is run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denoising {
    /// Images that are made together.
    pub images: usize,
    /// Whether the network runs on the negative prompts too, in the same batch.
    pub guided: bool,
    /// Whether perturbed attention branches off.
    pub perturbed: bool,
    /// Tokens of an image.
    pub tokens: usize,
    /// Tokens of a prompt.
    pub text_tokens: usize,
    /// Whether low-rank terms are kept next to the weights.
    pub low_rank: bool,
}

/// The text encoder on `rows` prompts of `tokens` tokens.
///
/// With hidden size `h`, intermediate size `i` and `a = heads * head_dim`, a layer holds for each
/// token, besides its input and the normalised input (`2 h`), the larger of the feed-forward (gate,
/// its activation's two temporaries and the other factor, `4 i`) and the attention (query, its
/// rotated halves and scores in two copies, `5 a + 2 heads * tokens`); and four masks of
/// `tokens^2` for each prompt.
pub fn text_elements(config: &Gemma2Config, rows: usize, tokens: usize) -> f64 {
    let [hidden, inner] = [config.hidden_size, config.intermediate_size].map(|n| n as f64);
    let heads = config.num_attention_heads as f64;
    let attention = heads * config.head_dim as f64;
    let [rows, tokens] = [rows, tokens].map(|n| n as f64);
    let layer = (4.0 * inner).max(5.0 * attention + 2.0 * heads * tokens);
    rows * tokens * (2.0 * hidden + layer + 4.0 * tokens)
}

/// The transformer, over all steps.
///
/// With width `d`, hidden width of the feed-forward `m = mlp_ratio * d` and `b` the images, twice
/// as many with classifier-free guidance, a block holds for each of the `b * tokens` tokens, besides
/// its input and the modulated input (`2 d`), the largest of
///
/// - the feed-forward: both halves before and after the depthwise convolution, `4 m`, and `2 m` more
///   with low-rank terms;
/// - the cross-attention: scores and their softmax, `2 heads * text_tokens`;
/// - the linear attention: query, key, value, result, `4 d`.
///
/// Over all steps there are the keys and values of the text, `2 layers * b * text_tokens * d`, a
/// projection of the text, and the solver's latents: the present ones, the prediction and the
/// history, eight in all. Perturbed attention keeps the input of its first block.
pub fn denoise_elements(config: &SanaTransformerConfig, run: &Denoising) -> f64 {
    let width = config.width() as f64;
    let hidden = config.mlp_ratio * width;
    let [images, tokens, text] = [run.images, run.tokens, run.text_tokens].map(|n| n as f64);
    let batch = if run.guided { 2.0 * images } else { images };
    let heads = config.num_cross_attention_heads as f64;

    let feed_forward = if run.low_rank { 6.0 } else { 4.0 } * hidden;
    let block = 2.0 * width + feed_forward.max(2.0 * heads * text).max(4.0 * width);
    let branch = if run.perturbed { width } else { 0.0 };
    let patch = (config.patch_size * config.patch_size) as f64;
    let latents = 8.0 * config.in_channels.max(config.output_channels()) as f64 * patch;
    let layers = config.num_layers as f64;
    batch * tokens * (block + branch)
        + batch * text * width * (2.0 * layers + 3.0)
        + images * tokens * latents
}

/// The autoencoder's decoder on images of `[height, width]` pixels at once.
///
/// A stage has `c` channels on `n` pixels. A residual block holds its input, the hidden features and
/// the convolution's result, which burn's convolutions make in two copies: `4 c n`. A doubling from
/// `c'` channels holds its input, the doubled input and the result, `c' n / 4 + c' n + c n`, then
/// the result and the shortcut in two forms, `3 c n`. An attention block of `s` further scales holds
/// its input and query, key and value of every scale twice, `c n (1 + 6 (1 + s))`, then the
/// feed-forward of expansion 4, `17 c n`. In the released autoencoders the largest is the residual
/// blocks at full size, `512` elements for each pixel.
///
/// With `threads`, those of the CPU kernels, what these allocate for themselves comes on top of each
/// convolution: see [`winograd_elements`].
pub fn decode_elements(
    config: &DcAeConfig,
    images: usize,
    [height, width]: [usize; 2],
    threads: Option<usize>,
) -> f64 {
    let layers = &config.decoder_layers_per_block;
    let last = config.stages().saturating_sub(1);
    let images = images as f64;
    let pixels = |stage: usize| images * (height as f64 * width as f64) / 4f64.powi(stage as i32);
    let columns = |stage: usize| width as f64 / 2f64.powi(stage as i32);
    let channels = |stage: usize| {
        let widths = &config.decoder_block_out_channels;
        widths.get(stage).map_or(0.0, |&width| width as f64)
    };
    let kernel = |channels: [f64; 2], columns: f64| {
        threads.map_or(0.0, |threads| winograd_elements(channels, columns, threads))
    };
    // A doubling to `stage`.
    let up = |[input, output]: [f64; 2], stage: usize| {
        let (features, kernel) = match config.upsample_block_type {
            UpsampleBlockType::PixelShuffle => {
                let convolved = kernel([input, 4.0 * output], columns(stage + 1));
                (2.0 * output, convolved)
            }
            _ => (input + output, kernel([input, output], columns(stage))),
        };
        pixels(stage) * (input / 4.0 + features.max(3.0 * output)) + kernel
    };
    let block = |stage: usize| {
        let (channels, pixels) = (channels(stage), pixels(stage));
        match config.decoder_block_types.get(stage) {
            Some(BlockType::EfficientVit) => {
                let further = config.decoder_qkv_multiscales.get(stage);
                let scales = 1.0 + further.map_or(0, Vec::len) as f64;
                channels * pixels * (1.0 + 6.0 * scales).max(17.0)
            }
            _ => 4.0 * channels * pixels + kernel([channels; 2], columns(stage)),
        }
    };

    let latent = config.latent_channels as f64;
    let deepest = channels(last);
    let stem = 3.0 * deepest * pixels(last) + kernel([latent, deepest], columns(last));
    // The last convolution, to the channels of an image, with the features before it.
    let image = config.in_channels as f64;
    let head = match layers.first() {
        Some(0) => up([channels(1), image], 0),
        _ => pixels(0) * 2.0 * (channels(0) + image),
    };
    let stages = (0..=last).filter(|&stage| layers.get(stage).is_some_and(|&depth| depth > 0));
    let stages = stages.map(|stage| match stage < last {
        true => block(stage).max(up([channels(stage + 1), channels(stage)], stage)),
        false => block(stage),
    });
    stages.fold(stem.max(head), f64::max)
}

/// The autoencoder's encoder on images of `[height, width]` pixels at once: the stages of
/// [`decode_elements`] from the other end. A halving holds no more than the doubling of that size.
pub fn encode_elements(
    config: &DcAeConfig,
    images: usize,
    size: [usize; 2],
    threads: Option<usize>,
) -> f64 {
    let mirrored = DcAeConfig {
        decoder_block_types: config.encoder_block_types.clone(),
        decoder_block_out_channels: config.encoder_block_out_channels.clone(),
        decoder_layers_per_block: config.encoder_layers_per_block.clone(),
        decoder_qkv_multiscales: config.encoder_qkv_multiscales.clone(),
        ..config.clone()
    };
    decode_elements(&mirrored, images, size, threads)
}

/// Elements of the largest single tensor of [`text_elements`]: the gate of the feed-forward.
pub fn largest_of_text(config: &Gemma2Config, rows: usize, tokens: usize) -> f64 {
    let [inner, hidden] = [config.intermediate_size, config.hidden_size].map(|n| n as f64);
    rows as f64 * tokens as f64 * inner.max(hidden)
}

/// Elements of the largest single tensor of [`denoise_elements`]: both halves of the feed-forward.
pub fn largest_of_denoising(config: &SanaTransformerConfig, run: &Denoising) -> f64 {
    let batch = if run.guided { 2 } else { 1 } * run.images;
    let hidden = config.mlp_ratio * config.width() as f64;
    batch as f64 * run.tokens as f64 * 2.0 * hidden
}

/// Elements of the largest single tensor of [`decode_elements`]: the doubled input of a doubling, the
/// features of a stage, or in an attention block the `8 c n` of its feed-forward or the query, key and
/// value of all scales.
pub fn largest_of_decoding(config: &DcAeConfig, images: usize, [height, width]: [usize; 2]) -> f64 {
    let pixels =
        |stage: usize| images as f64 * (height as f64 * width as f64) / 4f64.powi(stage as i32);
    let widths = &config.decoder_block_out_channels;
    let stages = widths.iter().enumerate().map(|(stage, &channels)| {
        let deeper = widths.get(stage + 1).map_or(0, |&deeper| deeper);
        let doubled = match config.upsample_block_type {
            UpsampleBlockType::PixelShuffle => channels,
            _ => deeper,
        };
        let attention = match config.decoder_block_types.get(stage) {
            Some(BlockType::EfficientVit) => {
                let further = config
                    .decoder_qkv_multiscales
                    .get(stage)
                    .map_or(0, Vec::len);
                (3 * (1 + further)).max(8)
            }
            _ => 1,
        };
        (attention * channels).max(doubled) as f64 * pixels(stage)
    });
    stages.fold(config.in_channels as f64 * pixels(0), f64::max)
}

/// What a Winograd convolution of the CPU kernels keeps besides input and output, on images
/// `columns` pixels wide: the transformed kernel, 36 values for each pair of `[input, output]`
/// channels, and in every thread the transformed tiles of a few rows: 2 MiB, or 36 values for each
/// channel of at least 48 tiles, rounded up to whole rows of `columns / 4` tiles.
pub fn winograd_elements([input, output]: [f64; 2], columns: f64, threads: usize) -> f64 {
    const PRODUCTS: f64 = 36.0;
    const LEAST_TILES: f64 = 48.0;
    const TASK: f64 = (2 << 20) as f64 / 4.0;
    let tiles = LEAST_TILES + (columns / 4.0).ceil();
    let tile = PRODUCTS * (input + output);
    PRODUCTS * input * output + threads as f64 * (TASK + tile * tiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of docs/memory.md for the released sizes.
    #[test]
    fn released_sizes() {
        let vae = DcAeConfig::f32c32_sana_1_1();
        let elements = |images, size| decode_elements(&vae, images, size, None);
        assert_eq!(elements(1, [512, 512]), 4.0 * 128.0 * 512.0 * 512.0);
        assert_eq!(elements(3, [1024, 512]), 6.0 * elements(1, [512, 512]));
        // The kernels of the first stage's convolutions.
        let kernels = 36.0 * 128.0 * 128.0 + 4.0 * ((1 << 19) as f64 + 36.0 * 256.0 * 176.0);
        let with = decode_elements(&vae, 1, [512, 512], Some(4));
        assert_eq!(with, elements(1, [512, 512]) + kernels);
        let config = SanaTransformerConfig::sana_1600m_1024px();
        let run = Denoising {
            images: 1,
            guided: true,
            perturbed: false,
            tokens: 1024,
            text_tokens: 300,
            low_rank: false,
        };
        let expected = 2048 * 12 * 2240 + 600 * 2240 * 43 + 1024 * 8 * 32;
        assert_eq!(denoise_elements(&config, &run), f64::from(expected));
        let text = Gemma2Config::gemma_2_2b();
        let expected = 600.0 * (2.0 * 2304.0 + 4.0 * 9216.0 + 4.0 * 600.0);
        assert_eq!(text_elements(&text, 1, 600), expected);
    }

    /// Of the published autoencoder the doubled input of the last doubling is the largest, of twice the
    /// channels of the image's stage, and one tensor is less than all that are alive with it.
    #[test]
    fn largest_tensors() {
        let vae = DcAeConfig::f32c32_sana_1_1();
        let pixels = 4096.0 * 4096.0;
        let largest = largest_of_decoding(&vae, 1, [4096, 4096]);
        let widths = &vae.decoder_block_out_channels;
        assert_eq!(largest, pixels * widths[0].max(widths[1]) as f64);
        assert!(largest < decode_elements(&vae, 1, [4096, 4096], None));
        assert_eq!(largest_of_decoding(&vae, 2, [512, 512]), largest / 32.0);
        let config = SanaTransformerConfig::sana_1600m_1024px();
        let run = Denoising {
            images: 1,
            guided: true,
            perturbed: false,
            tokens: 1024,
            text_tokens: 300,
            low_rank: false,
        };
        let largest = largest_of_denoising(&config, &run);
        assert_eq!(largest, 2048.0 * 11200.0);
        assert!(largest < denoise_elements(&config, &run));
        let text = Gemma2Config::gemma_2_2b();
        assert_eq!(largest_of_text(&text, 1, 600), 600.0 * 9216.0);
    }

    #[test]
    fn every_option_costs() {
        let config = SanaTransformerConfig::sana_600m_512px();
        let plain = Denoising {
            images: 2,
            guided: false,
            perturbed: false,
            tokens: 256,
            text_tokens: 300,
            low_rank: false,
        };
        let elements = |run| denoise_elements(&config, &run);
        for more in [
            Denoising { images: 3, ..plain },
            Denoising {
                guided: true,
                ..plain
            },
            Denoising {
                perturbed: true,
                ..plain
            },
            Denoising {
                tokens: 257,
                ..plain
            },
            Denoising {
                text_tokens: 301,
                ..plain
            },
            Denoising {
                low_rank: true,
                ..plain
            },
        ] {
            assert!(elements(more) > elements(plain), "{more:?}");
        }
    }

    #[test]
    fn every_layout_of_the_decoder() {
        for config in [
            DcAeConfig::f32c32_sana_1_1(),
            DcAeConfig::f64c128_in(),
            DcAeConfig::f128c512_in(),
        ] {
            let elements = |threads| decode_elements(&config, 1, [256, 256], threads);
            let plain = elements(None);
            assert!(plain > 3.0 * 256.0 * 256.0 && plain < 1e9, "{plain}");
            assert!(plain < elements(Some(1)) && elements(Some(1)) < elements(Some(8)));
        }
    }
}
