//! The autoencoder's hyper-parameters, as `vae/config.json` states them.

mod options;
mod presets;
mod validate;

use std::path::Path;

use sana_linear_attn::weights::{LARGEST_CONFIG, read_text_bounded};
use serde::{Deserialize, Serialize};

pub use options::{
    Activation, BlockType, DownsampleBlockType, NormType, PerStage, UpsampleBlockType,
};

use crate::DcAeError;

/// Value of `_class_name` in the config of this architecture.
const CLASS_NAME: &str = "AutoencoderDC";

/// Hyper-parameters of a DC-AE (DC-AE paper, section 3; Sana paper, section 2.1).
///
/// Keys are those of a checkpoint's `vae/config.json`; unknown keys are accepted, absent ones take
/// the reference implementation's defaults, which are no released model's: start from a preset
/// such as [`DcAeConfig::f32c32_sana_1_1`] and edit it. Lists have one entry per stage, the stage
/// of the highest resolution first, for the decoder too.
///
/// A first stage with no layers means that the image is halved at once: the encoder's first and
/// the decoder's last convolution are then a halving and a doubling without shortcut, of the second
/// stage's width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DcAeConfig {
    /// Channels of an image.
    pub in_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Channels per attention head.
    pub attention_head_dim: usize,
    /// Block kinds of the encoder.
    pub encoder_block_types: PerStage<BlockType>,
    /// Block kinds of the decoder.
    pub decoder_block_types: PerStage<BlockType>,
    /// Widths of the encoder's stages.
    pub encoder_block_out_channels: Vec<usize>,
    /// Widths of the decoder's stages.
    pub decoder_block_out_channels: Vec<usize>,
    /// Blocks in each encoder stage.
    pub encoder_layers_per_block: Vec<usize>,
    /// Blocks in each decoder stage.
    pub decoder_layers_per_block: Vec<usize>,
    /// Kernel sizes of the further attention scales in each encoder stage.
    pub encoder_qkv_multiscales: Vec<Vec<usize>>,
    /// Kernel sizes of the further attention scales in each decoder stage.
    pub decoder_qkv_multiscales: Vec<Vec<usize>>,
    /// How the decoder doubles the size between stages.
    pub upsample_block_type: UpsampleBlockType,
    /// How the encoder halves the size between stages.
    pub downsample_block_type: DownsampleBlockType,
    /// Norms of the decoder's blocks; the encoder's are always RMS norms.
    pub decoder_norm_types: PerStage<NormType>,
    /// Activations of the decoder's residual blocks; the encoder's are always SiLU.
    pub decoder_act_fns: PerStage<Activation>,
    /// Whether the encoder adds the group mean of its last features to the latent.
    pub encoder_out_shortcut: bool,
    /// Whether the decoder adds the repeated latent to its first features.
    pub decoder_in_shortcut: bool,
    /// Activation before the decoder's last convolution.
    pub decoder_conv_act_fn: Activation,
    /// Scaled latents are raw latents times this, which gives them about unit variance.
    pub scaling_factor: f64,
}

impl Default for DcAeConfig {
    fn default() -> Self {
        let widths = vec![128, 256, 512, 512, 1024, 1024];
        let scales = vec![vec![], vec![], vec![], vec![5], vec![5], vec![5]];
        Self {
            in_channels: 3,
            latent_channels: 32,
            attention_head_dim: 32,
            encoder_block_types: PerStage::All(BlockType::Res),
            decoder_block_types: PerStage::All(BlockType::Res),
            encoder_block_out_channels: widths.clone(),
            decoder_block_out_channels: widths,
            encoder_layers_per_block: vec![2, 2, 2, 3, 3, 3],
            decoder_layers_per_block: vec![3; 6],
            encoder_qkv_multiscales: scales.clone(),
            decoder_qkv_multiscales: scales,
            upsample_block_type: UpsampleBlockType::PixelShuffle,
            downsample_block_type: DownsampleBlockType::PixelUnshuffle,
            decoder_norm_types: PerStage::All(NormType::RmsNorm),
            decoder_act_fns: PerStage::All(Activation::Silu),
            encoder_out_shortcut: true,
            decoder_in_shortcut: true,
            decoder_conv_act_fn: Activation::Relu,
            scaling_factor: 1.0,
        }
    }
}

impl DcAeConfig {
    /// Reads and validates a `config.json`.
    ///
    /// # Errors
    /// [`DcAeError::ReadConfig`] if the file cannot be read, [`DcAeError::ConfigFile`] if its
    /// content cannot be used.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, DcAeError> {
        let path = path.as_ref();
        let text =
            read_text_bounded(path, LARGEST_CONFIG).map_err(|source| DcAeError::ReadConfig {
                path: path.to_owned(),
                source,
            })?;
        Self::from_json(&text).map_err(|source| DcAeError::ConfigFile {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Reads and validates a config from JSON text.
    ///
    /// # Errors
    /// [`DcAeError::ParseConfig`], or what [`DcAeConfig::validate`] returns, or
    /// [`DcAeError::ConfigValue`] where `_class_name` names another architecture.
    pub fn from_json(text: &str) -> Result<Self, DcAeError> {
        #[derive(Deserialize)]
        struct Header {
            #[serde(rename = "_class_name")]
            class_name: Option<String>,
        }
        let header: Header = serde_json::from_str(text)?;
        if let Some(found) = header.class_name.filter(|name| name != CLASS_NAME) {
            return Err(DcAeError::ConfigValue {
                key: "_class_name".to_owned(),
                found,
                expected: CLASS_NAME.to_owned(),
            });
        }
        let config: Self = serde_json::from_str(text)?;
        config.validate()?;
        Ok(config)
    }

    /// The config as a `config.json` that the reference implementation reads too.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Named<'a> {
            #[serde(rename = "_class_name")]
            class_name: &'static str,
            #[serde(flatten)]
            config: &'a DcAeConfig,
        }
        let named = Named {
            class_name: CLASS_NAME,
            config: self,
        };
        serde_json::to_string_pretty(&named).expect("a config holds only names, numbers and lists")
    }

    /// Number of stages.
    pub fn stages(&self) -> usize {
        self.encoder_block_out_channels.len()
    }

    /// Pixels per latent along each axis: 2 to the power of the number of stages less one.
    pub fn compression(&self) -> usize {
        1 << self.stages().saturating_sub(1)
    }
}
