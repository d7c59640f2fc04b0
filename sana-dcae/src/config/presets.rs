//! Released models.

use crate::{
    Activation, BlockType, DcAeConfig, DownsampleBlockType, NormType, PerStage, UpsampleBlockType,
};

/// The released models (DC-AE's converter to the diffusers layout).
impl DcAeConfig {
    /// `dc-ae-f32c32-sana-1.0`: 32 pixels per latent and axis, 32 channels; the autoencoder of
    /// Sana, 312,250,275 parameters.
    pub fn f32c32_sana_1_0() -> Self {
        Self {
            encoder_block_types: res_then_efficient_vit(6),
            decoder_block_types: res_then_efficient_vit(6),
            downsample_block_type: DownsampleBlockType::Conv,
            upsample_block_type: UpsampleBlockType::Interpolate,
            scaling_factor: 0.41407,
            ..Self::default()
        }
    }

    /// `dc-ae-f32c32-sana-1.1`: the architecture of 1.0 with newer decoder weights.
    pub fn f32c32_sana_1_1() -> Self {
        Self::f32c32_sana_1_0()
    }

    /// `dc-ae-lite-f32c32-sana-1.1`: the encoder of sana-1.1 and a decoder of residual blocks only,
    /// whose last stage works at half the image's size. The latent space is the same.
    pub fn f32c32_sana_1_1_lite() -> Self {
        Self {
            decoder_block_types: PerStage::All(BlockType::Res),
            decoder_layers_per_block: vec![0, 3, 5, 4, 4, 4],
            decoder_qkv_multiscales: vec![vec![]; 6],
            decoder_conv_act_fn: Activation::Silu,
            upsample_block_type: UpsampleBlockType::PixelShuffle,
            ..Self::f32c32_sana_1_0()
        }
    }

    /// `dc-ae-f32c32-in-1.0`, trained on ImageNet.
    pub fn f32c32_in() -> Self {
        Self::first_generation(32, &[128, 256, 512, 512, 1024, 1024], 0.3189)
    }

    /// `dc-ae-f32c32-mix-1.0`, trained on a mixture of data sets.
    pub fn f32c32_mix() -> Self {
        Self {
            scaling_factor: 0.4552,
            ..Self::f32c32_in()
        }
    }

    /// `dc-ae-f64c128-in-1.0`: 64 pixels per latent and axis, 128 channels.
    pub fn f64c128_in() -> Self {
        Self::first_generation(128, &[128, 256, 512, 512, 1024, 1024, 2048], 0.2889)
    }

    /// `dc-ae-f64c128-mix-1.0`.
    pub fn f64c128_mix() -> Self {
        Self {
            scaling_factor: 0.4538,
            ..Self::f64c128_in()
        }
    }

    /// `dc-ae-f128c512-in-1.0`: 128 pixels per latent and axis, 512 channels.
    pub fn f128c512_in() -> Self {
        Self::first_generation(512, &[128, 256, 512, 512, 1024, 1024, 2048, 2048], 0.4883)
    }

    /// `dc-ae-f128c512-mix-1.0`.
    pub fn f128c512_mix() -> Self {
        Self {
            scaling_factor: 0.3620,
            ..Self::f128c512_in()
        }
    }

    /// The layout shared by the `in` and `mix` models: nothing at full size, batch norms and ReLU
    /// in the decoder's residual stages, attention at a single scale.
    fn first_generation(latent_channels: usize, widths: &[usize], scaling_factor: f64) -> Self {
        let stages = widths.len();
        let deep = |head: [usize; 3]| {
            head.into_iter()
                .chain(std::iter::repeat(2))
                .take(stages)
                .collect::<Vec<_>>()
        };
        Self {
            latent_channels,
            encoder_block_types: res_then_efficient_vit(stages),
            decoder_block_types: res_then_efficient_vit(stages),
            encoder_block_out_channels: widths.to_vec(),
            decoder_block_out_channels: widths.to_vec(),
            encoder_layers_per_block: deep([0, 4, 8]),
            decoder_layers_per_block: deep([0, 5, 10]),
            encoder_qkv_multiscales: vec![vec![]; stages],
            decoder_qkv_multiscales: vec![vec![]; stages],
            decoder_norm_types: three_then(stages, NormType::BatchNorm, NormType::RmsNorm),
            decoder_act_fns: three_then(stages, Activation::Relu, Activation::Silu),
            scaling_factor,
            ..Self::default()
        }
    }
}

fn res_then_efficient_vit(stages: usize) -> PerStage<BlockType> {
    three_then(stages, BlockType::Res, BlockType::EfficientVit)
}

fn three_then<T: Copy>(stages: usize, first: T, rest: T) -> PerStage<T> {
    PerStage::Each(
        (0..stages)
            .map(|stage| if stage < 3 { first } else { rest })
            .collect(),
    )
}
