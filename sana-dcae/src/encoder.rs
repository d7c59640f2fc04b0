//! Image to latent.

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::layers::{Conv3x3, LinearLayers};
use sana_linear_attn::precision::Bf16Gemm;

use crate::blocks::StageBlocks;
use crate::{Activation, BlockType, DcAeConfig, DownBlock, NormType, StageLayer, group_mean};

/// The first convolution of an [`Encoder`].
#[derive(Module, Debug)]
pub enum EncoderStem {
    /// At full size.
    Conv(Conv3x3),
    /// Halving at once, where the first stage has no blocks.
    Down(DownBlock),
}

/// The encoder: stages of blocks, each but the last followed by a halving of the size.
///
/// ```text
/// x = stem(image)
/// x = down(blocks(x))                        stage by stage
/// latent = conv_out(x) + group_mean(x)
/// ```
///
/// Field names are those of the checkpoint.
#[derive(Module, Debug)]
pub struct Encoder {
    /// First convolution.
    pub conv_in: EncoderStem,
    /// Layers of each stage, the stage of the highest resolution first.
    pub down_blocks: Vec<Vec<StageLayer>>,
    /// Last convolution, to latent channels.
    pub conv_out: Conv3x3,
    /// Channels averaged by the last shortcut.
    shortcut_group: Option<usize>,
}

impl LinearLayers for Encoder {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        for stage in &mut self.down_blocks {
            stage.set_bf16_gemm(gemm);
        }
    }
}

impl Encoder {
    /// An encoder with lazily initialised weights.
    ///
    /// # Panics
    /// If `config` is not valid: see [`DcAeConfig::validate`].
    pub fn new(config: &DcAeConfig, device: &Device) -> Self {
        let widths = &config.encoder_block_out_channels;
        let layers = &config.encoder_layers_per_block;
        let kind = config.downsample_block_type;
        let conv_in = if layers[0] > 0 {
            EncoderStem::Conv(Conv3x3::new(config.in_channels, widths[0], 1, true, device))
        } else {
            EncoderStem::Down(DownBlock::new(
                config.in_channels,
                widths[1],
                kind,
                false,
                device,
            ))
        };

        let last = widths.len() - 1;
        let stage = |stage: usize| {
            let blocks = StageBlocks {
                channels: widths[stage],
                depth: layers[stage],
                kind: config
                    .encoder_block_types
                    .get(stage)
                    .unwrap_or(BlockType::Res),
                norm: NormType::RmsNorm,
                activation: Activation::Silu,
                head_dim: config.attention_head_dim,
                kernel_sizes: &config.encoder_qkv_multiscales[stage],
            };
            let down = (stage < last && layers[stage] > 0)
                .then(|| DownBlock::new(widths[stage], widths[stage + 1], kind, true, device));
            blocks
                .init(device)
                .chain(down.map(StageLayer::Down))
                .collect()
        };

        Self {
            conv_in,
            down_blocks: (0..=last).map(stage).collect(),
            conv_out: Conv3x3::new(widths[last], config.latent_channels, 1, true, device),
            shortcut_group: config
                .encoder_out_shortcut
                .then(|| widths[last] / config.latent_channels),
        }
    }

    /// Encodes images. Computed in the dtype of the input, whatever that of the
    /// parameters.
    ///
    /// # Shapes
    /// - input `[batch, in_channels, height, width]`, both sides multiples of the compression ratio
    /// - output `[batch, latent_channels, height / compression, width / compression]`, unscaled
    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let mut x = match &self.conv_in {
            EncoderStem::Conv(conv) => conv.forward(image),
            EncoderStem::Down(block) => block.forward(image),
        };
        for layer in self.down_blocks.iter().flatten() {
            x = layer.forward(x);
        }
        let latent = self.conv_out.forward(x.clone());
        match self.shortcut_group {
            Some(group) => latent + group_mean(x, group),
            None => latent,
        }
    }

    /// The dtype of the parameters in memory.
    pub fn dtype(&self) -> DType {
        self.conv_out.weight.val().dtype()
    }
}
