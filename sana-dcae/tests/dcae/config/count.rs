//! Parameters of the reference's layers, written out layer by layer, without the running
//! statistics of batch norms.

use super::*;

fn conv(input: usize, output: usize) -> usize {
    9 * input * output + output
}

fn block(config: &DcAeConfig, width: usize, kind: BlockType, kernels: &[usize]) -> usize {
    let norm = 2 * width;
    match kind {
        BlockType::Res => conv(width, width) + 9 * width * width + norm,
        BlockType::EfficientVit => {
            let scale = |kernel| 3 * width * (kernel * kernel + config.attention_head_dim);
            let qkv = 3 * width * width;
            let scales: usize = kernels.iter().map(|&kernel| scale(kernel)).sum();
            let out = width * (1 + kernels.len()) * width;
            let hidden = 4 * width;
            let inverted = width * 2 * hidden + 2 * hidden;
            let depth = 9 * 2 * hidden + 2 * hidden;
            let point = hidden * width;
            qkv + scales + out + norm + inverted + depth + point + norm
        }
    }
}

pub fn encoder(config: &DcAeConfig) -> usize {
    let (widths, depths) = (
        &config.encoder_block_out_channels,
        &config.encoder_layers_per_block,
    );
    let unshuffle = match config.downsample_block_type {
        DownsampleBlockType::Conv => 1,
        DownsampleBlockType::PixelUnshuffle => 4,
    };
    let stem = match depths[0] {
        0 => conv(config.in_channels, widths[1] / unshuffle),
        _ => conv(config.in_channels, widths[0]),
    };
    let stages: usize = (0..widths.len())
        .map(|i| {
            let kind = config.encoder_block_types.get(i).expect("a block type");
            let kernels = &config.encoder_qkv_multiscales[i];
            let down = match widths.get(i + 1) {
                Some(next) if depths[i] > 0 => conv(widths[i], next / unshuffle),
                _ => 0,
            };
            depths[i] * block(config, widths[i], kind, kernels) + down
        })
        .sum();
    stem + stages + conv(widths[widths.len() - 1], config.latent_channels)
}

pub fn decoder(config: &DcAeConfig) -> usize {
    let (widths, depths) = (
        &config.decoder_block_out_channels,
        &config.decoder_layers_per_block,
    );
    let shuffle = match config.upsample_block_type {
        UpsampleBlockType::Interpolate => 1,
        UpsampleBlockType::PixelShuffle => 4,
    };
    let (width, head) = match depths[0] {
        0 => (widths[1], conv(widths[1], config.in_channels * shuffle)),
        _ => (widths[0], conv(widths[0], config.in_channels)),
    };
    let stages: usize = (0..widths.len())
        .map(|i| {
            let kind = config.decoder_block_types.get(i).expect("a block type");
            let kernels = &config.decoder_qkv_multiscales[i];
            let up = match widths.get(i + 1) {
                Some(&next) if depths[i] > 0 => conv(next, widths[i] * shuffle),
                _ => 0,
            };
            depths[i] * block(config, widths[i], kind, kernels) + up
        })
        .sum();
    conv(config.latent_channels, widths[widths.len() - 1]) + stages + 2 * width + head
}

/// Running means and variances, which burn counts and PyTorch does not.
pub fn running_statistics(config: &DcAeConfig) -> usize {
    let norms = |i| match (
        config.decoder_norm_types.get(i),
        config.decoder_block_types.get(i),
    ) {
        (Some(NormType::BatchNorm), Some(BlockType::Res)) => config.decoder_layers_per_block[i],
        _ => 0,
    };
    let widths = &config.decoder_block_out_channels;
    widths
        .iter()
        .enumerate()
        .map(|(i, width)| 2 * width * norms(i))
        .sum()
}
