//! Floating-point operations of matmuls and convolutions, from the configs: two for each
//! multiplication with its addition. Norms, activations and sums are not counted.

use sana_dcae::{BlockType, DcAeConfig, DownsampleBlockType, UpsampleBlockType};
use sana_linear_attn::SanaTransformerConfig;
use sana_text::Gemma2Config;

/// Multiplications of a matmul `[rows, inputs] x [inputs, outputs]`.
fn product(rows: usize, inputs: usize, outputs: usize) -> u64 {
    rows as u64 * inputs as u64 * outputs as u64
}

/// Billions of operations.
fn giga(multiplications: u64) -> f64 {
    2.0 * multiplications as f64 / 1e9
}

/// Linear attention of one row, without its projections: the sums of keys times values, the queries
/// times these, and the denominators.
fn linear_attention(tokens: usize, channels: usize, head_dim: usize) -> u64 {
    product(tokens, channels, 2 * head_dim + 1)
}

/// Gigaflop of linear attention alone.
pub fn attention(config: &SanaTransformerConfig, rows: usize, tokens: usize) -> f64 {
    giga(rows as u64 * linear_attention(tokens, config.width(), config.attention_head_dim))
}

/// Gigaflop of one forward pass of the transformer without what the text needs once.
pub fn dit(config: &SanaTransformerConfig, rows: usize, tokens: usize, text_tokens: usize) -> f64 {
    let width = config.width();
    let patch = config.patch_size * config.patch_size;
    let hidden = (config.mlp_ratio * width as f64) as usize;
    let attention = product(tokens, width, 4 * width)
        + linear_attention(tokens, width, config.attention_head_dim);
    let cross_attention = product(tokens, width, 2 * width + 2 * text_tokens);
    let feed_forward = product(tokens, width, 3 * hidden) + product(tokens, 9, 2 * hidden);
    let block = attention + cross_attention + feed_forward;

    let sinusoids = if config.guidance_embeds { 2 } else { 1 };
    let time = sinusoids * product(1, 256 + width, width) + product(1, width, 6 * width);
    let patches = product(tokens, patch * config.in_channels, width)
        + product(tokens, width, patch * config.output_channels());
    giga(rows as u64 * (config.num_layers as u64 * block + time + patches))
}

/// Gigaflop of the text's projection, keys and values.
pub fn dit_text(config: &SanaTransformerConfig, rows: usize, text_tokens: usize) -> f64 {
    let width = config.width();
    let projection = product(text_tokens, config.caption_channels + width, width);
    let keys_values = product(text_tokens, width, 2 * width);
    giga(rows as u64 * (projection + config.num_layers as u64 * keys_values))
}

/// Gigaflop of the text encoder's layers. Attention counts the whole map, of which causal
/// attention needs half.
pub fn text(config: &Gemma2Config, rows: usize, tokens: usize) -> f64 {
    let channels = config.hidden_size;
    let (heads, key_heads) = (config.num_attention_heads, config.num_key_value_heads);
    let projections = product(tokens, channels, 2 * (heads + key_heads) * config.head_dim);
    let attention = product(tokens, tokens, 2 * heads * config.head_dim);
    let feed_forward = product(tokens, channels, 3 * config.intermediate_size);
    let layer = projections + attention + feed_forward;
    giga(rows as u64 * config.num_hidden_layers as u64 * layer)
}

/// Gigaflop of a matmul of two square matrices.
pub fn matmul(side: usize) -> f64 {
    giga(product(side, side, side))
}

/// Gigaflop of encoding images.
pub fn encode(config: &DcAeConfig, batch: usize, width: usize, height: usize) -> f64 {
    let widths = &config.encoder_block_out_channels;
    let layers = &config.encoder_layers_per_block;
    let last = widths.len() - 1;
    let pixels = |stage: usize| (width >> stage) * (height >> stage);
    let down = |stage: usize, from: usize, to: usize| match config.downsample_block_type {
        DownsampleBlockType::Conv => conv3x3(pixels(stage + 1), from, to),
        DownsampleBlockType::PixelUnshuffle => conv3x3(pixels(stage), from, to / 4),
    };
    let mut sum = match layers[0] {
        0 => down(0, config.in_channels, widths[1]),
        _ => conv3x3(pixels(0), config.in_channels, widths[0]),
    };
    for (stage, &channels) in widths.iter().enumerate() {
        let kind = config.encoder_block_types.get(stage);
        let kernels = &config.encoder_qkv_multiscales[stage];
        sum += layers[stage] as u64 * block(config, kind, kernels, channels, pixels(stage));
        if stage < last && layers[stage] > 0 {
            sum += down(stage, channels, widths[stage + 1]);
        }
    }
    sum += conv3x3(pixels(last), widths[last], config.latent_channels);
    giga(batch as u64 * sum)
}

/// Gigaflop of decoding images of this size.
pub fn decode(config: &DcAeConfig, batch: usize, width: usize, height: usize) -> f64 {
    let widths = &config.decoder_block_out_channels;
    let layers = &config.decoder_layers_per_block;
    let last = widths.len() - 1;
    let pixels = |stage: usize| (width >> stage) * (height >> stage);
    let up = |stage: usize, from: usize, to: usize| match config.upsample_block_type {
        UpsampleBlockType::Interpolate => conv3x3(pixels(stage), from, to),
        UpsampleBlockType::PixelShuffle => conv3x3(pixels(stage + 1), from, 4 * to),
    };
    let mut sum = conv3x3(pixels(last), config.latent_channels, widths[last]);
    for (stage, &channels) in widths.iter().enumerate() {
        let kind = config.decoder_block_types.get(stage);
        let kernels = &config.decoder_qkv_multiscales[stage];
        sum += layers[stage] as u64 * block(config, kind, kernels, channels, pixels(stage));
        if stage < last && layers[stage] > 0 {
            sum += up(stage, widths[stage + 1], channels);
        }
    }
    sum += match layers[0] {
        0 => up(0, widths[1], config.in_channels),
        _ => conv3x3(pixels(0), widths[0], config.in_channels),
    };
    giga(batch as u64 * sum)
}

fn conv3x3(output_pixels: usize, inputs: usize, outputs: usize) -> u64 {
    9 * product(output_pixels, inputs, outputs)
}

/// One block of a stage of the autoencoder.
fn block(
    config: &DcAeConfig,
    kind: Option<BlockType>,
    kernel_sizes: &[usize],
    channels: usize,
    pixels: usize,
) -> u64 {
    if kind != Some(BlockType::EfficientVit) {
        return 2 * conv3x3(pixels, channels, channels);
    }
    let head_dim = config.attention_head_dim;
    let scales = 1 + kernel_sizes.len();
    let gathered: u64 = kernel_sizes
        .iter()
        .map(|&kernel| product(pixels, 3 * channels, kernel * kernel + head_dim))
        .sum();
    let attended = if pixels > head_dim {
        linear_attention(pixels, scales * channels, head_dim)
    } else {
        product(pixels, pixels, 2 * scales * channels)
    };
    let projections = product(pixels, channels, (3 + scales) * channels);
    let hidden = 4 * channels;
    let feed_forward = product(pixels, channels, 3 * hidden) + product(pixels, 9, 2 * hidden);
    gathered + attended + projections + feed_forward
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `reference` is what `torch.utils.flop_counter` counts in diffusers 0.42.1 and transformers
    /// 5.23 for the same configs and sizes: `benches/reference/torch_bench.py --component NAME --json`.
    /// The reference carries the denominators of linear attention as one more channel of the
    /// values through both matmuls, of which only one needs it: of 32 channels that makes 1 part
    /// in 65, and of a whole network less than 1 in 1000.
    #[track_caller]
    fn assert_counted(counted: f64, reference: f64, bound: f64) {
        let difference = reference / counted - 1.0;
        assert!(
            (0.0..=bound).contains(&difference),
            "{counted} is not {reference}: {difference:e}"
        );
    }

    const WHOLE: f64 = 1e-3;
    /// Nothing but rounding of the sums.
    const EXACT: f64 = 1e-12;

    #[test]
    fn transformers() {
        let small = SanaTransformerConfig::sana_600m_512px();
        assert_counted(dit(&small, 2, 16 * 16, 300), 537.283067904, WHOLE);
        assert_counted(dit_text(&small, 2, 300), 93.9589632, EXACT);
        let small = SanaTransformerConfig::sana_600m_1024px();
        assert_counted(dit(&small, 2, 32 * 32, 300), 2149.017255936, WHOLE);
        let large = SanaTransformerConfig::sana_1600m_1024px();
        assert_counted(dit(&large, 2, 32 * 32, 300), 5680.26324992, WHOLE);
        assert_counted(dit_text(&large, 2, 300), 253.059072, EXACT);
        assert_counted(attention(&large, 1, 4096), 1.21110528, 0.016);
        let sprint = SanaTransformerConfig::sana_sprint_1600m();
        assert_counted(dit(&sprint, 1, 32 * 32, 300), 2840.14280704, WHOLE);
        let deep = SanaTransformerConfig::sana_1_5_4800m();
        assert_counted(dit(&deep, 4, 32 * 16, 300), 17039.47255808, WHOLE);
    }

    #[test]
    fn autoencoders() {
        let config = DcAeConfig::f32c32_sana_1_1();
        assert_counted(decode(&config, 1, 512, 512), 2092.15291392, WHOLE);
        assert_counted(encode(&config, 1, 512, 256), 647.4498048, WHOLE);
        // One latent pixel: attention is quadratic in the deepest stages.
        assert_counted(decode(&config, 1, 32, 32), 8.165492736, WHOLE);
        assert_counted(encode(&config, 1, 32, 32), 5.051222016, WHOLE);
        let one = decode(&config, 1, 512, 512);
        assert_eq!(decode(&config, 3, 512, 512), 3.0 * one);
        // Shuffles at the smaller size cost what interpolation costs at the larger.
        let shuffled = DcAeConfig {
            upsample_block_type: UpsampleBlockType::PixelShuffle,
            downsample_block_type: DownsampleBlockType::PixelUnshuffle,
            ..config.clone()
        };
        assert_eq!(decode(&shuffled, 1, 512, 512), one);
        let [conv, unshuffled] = [&config, &shuffled].map(|config| encode(config, 1, 512, 512));
        assert_eq!(conv, unshuffled);
        // With nothing at full size, the stem and the head change the size.
        let lite = DcAeConfig::f32c32_sana_1_1_lite();
        assert!(decode(&lite, 1, 512, 512) < one);
    }

    #[test]
    fn text_and_products() {
        let config = Gemma2Config::gemma_2_2b();
        assert_counted(text(&config, 1, 300), 1233.7348608, EXACT);
        assert_eq!(matmul(1000), 2.0);
    }
}
