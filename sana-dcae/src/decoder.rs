//! Latent to image.

use std::fmt;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::kernels::repeat_channels;
use sana_linear_attn::layers::{Conv3x3, LinearLayers, RmsNormAffine};
use sana_linear_attn::precision::Bf16Gemm;

use crate::blocks::{NORM_EPS, StageBlocks};
use crate::{Activation, BlockType, DcAeConfig, NormType, StageLayer, UpBlock};

/// The last convolution of a [`Decoder`].
#[derive(Module, Debug)]
pub enum DecoderHead {
    /// At full size.
    Conv(Conv3x3),
    /// Doubling at the end, where the first stage has no blocks.
    Up(UpBlock),
}

/// The decoder: stages of blocks, each but the deepest preceded by a doubling of the size.
///
/// ```text
/// x = conv_in(latent) + repeat_channels(latent)
/// x = blocks(up(x))                               stage by stage, the deepest first
/// image = head(activation(norm_out(x)))
/// ```
///
/// Field names are those of the checkpoint.
#[derive(Module, Debug)]
pub struct Decoder {
    /// First convolution, from latent channels.
    pub conv_in: Conv3x3,
    /// Layers of each stage, the stage of the highest resolution first, though it runs last.
    pub up_blocks: Vec<Vec<StageLayer>>,
    /// Norm before the last convolution.
    pub norm_out: RmsNormAffine,
    /// Last convolution, to the channels of an image.
    pub conv_out: DecoderHead,
    /// How often the first shortcut repeats a channel.
    shortcut_repeats: Option<usize>,
    #[module(skip)]
    activation: Activation,
}

impl LinearLayers for Decoder {
    fn set_bf16_gemm(&mut self, gemm: Bf16Gemm) {
        for stage in &mut self.up_blocks {
            stage.set_bf16_gemm(gemm);
        }
    }
}

impl Decoder {
    /// A decoder with lazily initialised weights.
    ///
    /// # Panics
    /// If `config` is not valid: see [`DcAeConfig::validate`].
    pub fn new(config: &DcAeConfig, device: &Device) -> Self {
        let widths = &config.decoder_block_out_channels;
        let layers = &config.decoder_layers_per_block;
        let kind = config.upsample_block_type;

        let last = widths.len() - 1;
        let stage = |stage: usize| {
            let blocks = StageBlocks {
                channels: widths[stage],
                depth: layers[stage],
                kind: config
                    .decoder_block_types
                    .get(stage)
                    .unwrap_or(BlockType::Res),
                norm: config
                    .decoder_norm_types
                    .get(stage)
                    .unwrap_or(NormType::RmsNorm),
                activation: config
                    .decoder_act_fns
                    .get(stage)
                    .unwrap_or(Activation::Silu),
                head_dim: config.attention_head_dim,
                kernel_sizes: &config.decoder_qkv_multiscales[stage],
            };
            let up = (stage < last && layers[stage] > 0)
                .then(|| UpBlock::new(widths[stage + 1], widths[stage], kind, true, device));
            up.map(StageLayer::Up)
                .into_iter()
                .chain(blocks.init(device))
                .collect()
        };

        let width_out = if layers[0] > 0 { widths[0] } else { widths[1] };
        let conv_out = if layers[0] > 0 {
            DecoderHead::Conv(Conv3x3::new(width_out, config.in_channels, 1, true, device))
        } else {
            DecoderHead::Up(UpBlock::new(
                width_out,
                config.in_channels,
                kind,
                false,
                device,
            ))
        };
        Self {
            conv_in: Conv3x3::new(config.latent_channels, widths[last], 1, true, device),
            up_blocks: (0..=last).map(stage).collect(),
            norm_out: RmsNormAffine::new(width_out, true, NORM_EPS, device),
            conv_out,
            shortcut_repeats: config
                .decoder_in_shortcut
                .then(|| widths[last] / config.latent_channels),
            activation: config.decoder_conv_act_fn,
        }
    }

    /// Decodes latents. Computed in the dtype of the input, whatever that of the
    /// parameters.
    ///
    /// # Shapes
    /// - input `[batch, latent_channels, height, width]`, unscaled
    /// - output `[batch, in_channels, height * compression, width * compression]`
    pub fn forward(&self, latent: Tensor<4>) -> Tensor<4> {
        self.forward_observed(latent, |_, _| {})
    }

    /// [`forward`](Self::forward) with a look at the output of every layer.
    pub(crate) fn forward_observed(
        &self,
        latent: Tensor<4>,
        mut observe: impl FnMut(DecoderPlace, &Tensor<4>),
    ) -> Tensor<4> {
        let mut x = self.conv_in.forward(latent.clone());
        if let Some(repeats) = self.shortcut_repeats {
            x = x + repeat_channels(latent, repeats);
        }
        observe(DecoderPlace::ConvIn, &x);
        for (stage, layers) in self.up_blocks.iter().enumerate().rev() {
            for (index, layer) in layers.iter().enumerate() {
                x = layer.forward(x);
                observe(DecoderPlace::Layer { stage, index }, &x);
            }
        }
        let x = self.activation.forward(self.norm_out.forward_image(x));
        observe(DecoderPlace::NormOut, &x);
        let image = match &self.conv_out {
            DecoderHead::Conv(conv) => conv.forward(x),
            DecoderHead::Up(block) => block.forward(x),
        };
        observe(DecoderPlace::ConvOut, &image);
        image
    }

    /// The dtype of the parameters in memory.
    pub fn dtype(&self) -> DType {
        self.conv_in.weight.val().dtype()
    }
}

/// A place in the [`Decoder`] after which values can be NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecoderPlace {
    /// The latents that it was given.
    Latents,
    /// The first convolution, with its shortcut.
    ConvIn,
    /// A layer of a stage: `decoder.up_blocks.STAGE.INDEX` in a checkpoint.
    Layer {
        /// The stage, the one of the highest resolution is 0 and runs last.
        stage: usize,
        /// The layer in it.
        index: usize,
    },
    /// The last norm and its activation.
    NormOut,
    /// The last convolution.
    ConvOut,
}

impl fmt::Display for DecoderPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latents => f.write_str("the latents that the decoder was given"),
            Self::ConvIn => f.write_str("decoder.conv_in"),
            Self::Layer { stage, index } => write!(f, "decoder.up_blocks.{stage}.{index}"),
            Self::NormOut => f.write_str("decoder.norm_out"),
            Self::ConvOut => f.write_str("decoder.conv_out"),
        }
    }
}
