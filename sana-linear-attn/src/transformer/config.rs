use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::weights::{LARGEST_CONFIG, read_text_bounded};

/// What can be wrong with a `config.json` of a transformer or a ControlNet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Not the JSON of such a config.
    #[error("{path} is not the config of a Sana network: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// Values that no network can have, or that this crate does not implement.
    #[error("invalid transformer config: {0}")]
    Invalid(String),
    /// The same of a ControlNet.
    #[error("invalid ControlNet config: {0}")]
    InvalidControlNet(String),
    /// Weights whose shapes do not determine the config.
    #[error("cannot infer a transformer's config from the weights in {origin}: {reason}")]
    NotInferred {
        /// Where the weights come from.
        origin: String,
        /// What is absent or ambiguous.
        reason: String,
    },
}

/// Norm of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QkNorm {
    /// RMS norm over all heads together, before the head split.
    #[serde(rename = "rms_norm_across_heads")]
    RmsNormAcrossHeads,
}

/// Configuration of a [`SanaTransformer`](crate::SanaTransformer), with the keys of a published
/// `transformer/config.json`. Keys it does not know are ignored; the defaults are the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SanaTransformerConfig {
    /// Latent channels of the input.
    pub in_channels: usize,
    /// Latent channels of the output; those of the input when absent.
    pub out_channels: Option<usize>,
    /// Heads of the linear self-attention.
    pub num_attention_heads: usize,
    /// Channels of one of its heads.
    pub attention_head_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Heads of the cross-attention.
    pub num_cross_attention_heads: usize,
    /// Channels of one of its heads.
    pub cross_attention_head_dim: usize,
    /// Channels of the projected caption: the width of the network.
    pub cross_attention_dim: usize,
    /// Channels of the text encoder's output.
    pub caption_channels: usize,
    /// Hidden channels of the feed-forward per channel.
    pub mlp_ratio: f64,
    /// Dropout in training; only 0 is implemented, as in every released checkpoint.
    pub dropout: f64,
    /// Whether the self-attention projections have a bias.
    pub attention_bias: bool,
    /// Latent size that the position table is made for.
    pub sample_size: usize,
    /// Latent pixels per token side.
    pub patch_size: usize,
    /// Learnt scale and shift in the block norms; only `false` is implemented.
    pub norm_elementwise_affine: bool,
    /// Added to the variance of the block norms.
    pub norm_eps: f64,
    /// Scale of the sin-cos position table; no table when absent.
    pub interpolation_scale: Option<f64>,
    /// Whether the guidance scale is an input (Sana-Sprint).
    pub guidance_embeds: bool,
    /// Factor on the guidance scale before its embedding.
    pub guidance_embeds_scale: f64,
    /// Norm of queries and keys in both attentions.
    pub qk_norm: Option<QkNorm>,
    /// Factor on the timestep of a flow model before the forward pass, which does not apply it:
    /// 0.001 in the teachers of Sana-Sprint, else 1. The pipeline and training multiply by it.
    /// Sampling of Sana-Sprint itself takes no notice of it, since students keep the value of their
    /// teacher.
    pub timestep_scale: f64,
}

impl Default for SanaTransformerConfig {
    fn default() -> Self {
        Self {
            in_channels: 32,
            out_channels: Some(32),
            num_attention_heads: 70,
            attention_head_dim: 32,
            num_layers: 20,
            num_cross_attention_heads: 20,
            cross_attention_head_dim: 112,
            cross_attention_dim: 2240,
            caption_channels: 2304,
            mlp_ratio: 2.5,
            dropout: 0.0,
            attention_bias: false,
            sample_size: 32,
            patch_size: 1,
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            interpolation_scale: None,
            guidance_embeds: false,
            guidance_embeds_scale: 0.1,
            qk_norm: None,
            timestep_scale: 1.0,
        }
    }
}

impl SanaTransformerConfig {
    /// Sana 1.6B for 512 px images: 20 blocks of 2240 channels.
    pub fn sana_1600m_512px() -> Self {
        Self {
            sample_size: 16,
            ..Self::default()
        }
    }

    /// Sana 1.6B for 1024 px images.
    pub fn sana_1600m_1024px() -> Self {
        Self::default()
    }

    /// Sana 1.6B for 2048 px images, with a position table.
    pub fn sana_1600m_2kpx() -> Self {
        Self {
            sample_size: 64,
            interpolation_scale: Some(1.0),
            ..Self::default()
        }
    }

    /// Sana 1.6B for 4096 px images, with a position table.
    pub fn sana_1600m_4kpx() -> Self {
        Self {
            sample_size: 128,
            interpolation_scale: Some(2.0),
            ..Self::default()
        }
    }

    /// Sana 0.6B for 512 px images: 28 blocks of 1152 channels.
    pub fn sana_600m_512px() -> Self {
        Self {
            sample_size: 16,
            ..Self::sana_600m_1024px()
        }
    }

    /// Sana 0.6B for 1024 px images.
    pub fn sana_600m_1024px() -> Self {
        Self {
            num_attention_heads: 36,
            num_layers: 28,
            num_cross_attention_heads: 16,
            cross_attention_head_dim: 72,
            cross_attention_dim: 1152,
            ..Self::default()
        }
    }

    /// SANA-1.5 1.6B, 1024 px: qk norm in both attentions.
    pub fn sana_1_5_1600m() -> Self {
        Self {
            qk_norm: Some(QkNorm::RmsNormAcrossHeads),
            ..Self::default()
        }
    }

    /// SANA-1.5 4.8B, 1024 px: 60 blocks.
    pub fn sana_1_5_4800m() -> Self {
        Self {
            num_layers: 60,
            ..Self::sana_1_5_1600m()
        }
    }

    /// Sana-Sprint 1.6B, 1024 px: qk norm and an embedded guidance scale.
    pub fn sana_sprint_1600m() -> Self {
        Self {
            guidance_embeds: true,
            ..Self::sana_1_5_1600m()
        }
    }

    /// Sana-Sprint 0.6B, 1024 px.
    pub fn sana_sprint_600m() -> Self {
        Self {
            guidance_embeds: true,
            qk_norm: Some(QkNorm::RmsNormAcrossHeads),
            ..Self::sana_600m_1024px()
        }
    }

    /// Reads and validates a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not such a config, or fails [`validate`](Self::validate).
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::from_json(&read_text(path)?, path)
    }

    /// Parses and validates the text of a `config.json`; `origin` names it in errors.
    ///
    /// # Errors
    /// When it is not such a config or fails [`validate`](Self::validate).
    pub fn from_json(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let config: Self = parse(text, origin)?;
        config.validate().map_err(|error| match error {
            ConfigError::Invalid(reason) => {
                ConfigError::Invalid(format!("{reason} (in {})", origin.display()))
            }
            other => other,
        })?;
        Ok(config)
    }

    /// Channels of a token: heads times head_dim.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Latent channels of the output.
    pub fn output_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Checks that the values describe a network this crate implements.
    ///
    /// # Errors
    /// When they do not, with the values in the message.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |message: String| Err(ConfigError::Invalid(message));
        // Far above every released size. Together they keep the number of elements of every weight
        // and of all of them below 2^62, and the layers that a config asks for to a thousand.
        let limited = [
            ("in_channels", self.in_channels, 1 << 12),
            ("out_channels", self.output_channels(), 1 << 12),
            ("num_attention_heads", self.num_attention_heads, LARGEST),
            ("attention_head_dim", self.attention_head_dim, LARGEST),
            ("num_layers", self.num_layers, 1 << 10),
            (
                "num_cross_attention_heads",
                self.num_cross_attention_heads,
                LARGEST,
            ),
            (
                "cross_attention_head_dim",
                self.cross_attention_head_dim,
                LARGEST,
            ),
            ("caption_channels", self.caption_channels, LARGEST),
            ("sample_size", self.sample_size, LARGEST),
            ("patch_size", self.patch_size, 1 << 6),
        ];
        const LARGEST: usize = 1 << 16;
        for (name, value, largest) in limited {
            if value == 0 || value > largest {
                return invalid(format!("{name} must lie in 1..={largest}, got {value}"));
            }
        }
        let width = self.width();
        if width > LARGEST {
            return invalid(format!(
                "num_attention_heads {} x attention_head_dim {} must be at most {LARGEST}, got {width}",
                self.num_attention_heads, self.attention_head_dim
            ));
        }
        if self.cross_attention_dim != width {
            return invalid(format!(
                "cross_attention_dim {} must equal num_attention_heads x attention_head_dim = {width}",
                self.cross_attention_dim
            ));
        }
        let cross = self.num_cross_attention_heads * self.cross_attention_head_dim;
        if cross != width {
            return invalid(format!(
                "num_cross_attention_heads {} x cross_attention_head_dim {} must equal the width {width}",
                self.num_cross_attention_heads, self.cross_attention_head_dim
            ));
        }
        if !(self.mlp_ratio.is_finite()
            && self.mlp_ratio * width as f64 >= 1.0
            && self.mlp_ratio < 1e3)
        {
            return invalid(format!(
                "mlp_ratio must lie above 0 and below 1000, got {}",
                self.mlp_ratio
            ));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps.is_finite()) {
            return invalid(format!("norm_eps must be positive, got {}", self.norm_eps));
        }
        if !self.guidance_embeds_scale.is_finite() {
            return invalid(format!(
                "guidance_embeds_scale must be a finite number, got {}",
                self.guidance_embeds_scale
            ));
        }
        if self.dropout != 0.0 {
            return invalid(format!(
                "dropout {} is not implemented, only 0",
                self.dropout
            ));
        }
        if self.norm_elementwise_affine {
            return invalid(
                "norm_elementwise_affine true is not implemented, only false".to_owned(),
            );
        }
        if !(1e-6..=1.0).contains(&self.timestep_scale) {
            return invalid(format!(
                "timestep_scale {} is not implemented, only 1e-6 to 1",
                self.timestep_scale
            ));
        }
        if let Some(scale) = self.interpolation_scale {
            // Beyond, positions in f32 would all be 0 or infinite.
            if !(1e-6..=1e6).contains(&scale) {
                return invalid(format!(
                    "interpolation_scale must be positive, from 1e-6 to 1e6, got {scale}"
                ));
            }
            if !width.is_multiple_of(4) {
                return invalid(format!(
                    "a position table needs a width divisible by 4, got {width}"
                ));
            }
        }
        Ok(())
    }
}

/// The text of a config file.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    read_text_bounded(path, LARGEST_CONFIG).map_err(|source| ConfigError::Io {
        path: path.to_path_buf(),
        source,
    })
}

/// Heads of the cross-attention that make up the width, for configs that leave their number open.
fn cross_heads_of_the_width(keys: &serde_json::Map<String, serde_json::Value>) -> Option<u64> {
    let default = SanaTransformerConfig::default();
    let number = |key: &str, default: usize| match keys.get(key) {
        None => Some(default as u64),
        Some(value) => value.as_u64(),
    };
    let heads = number("num_attention_heads", default.num_attention_heads)?;
    let width = heads.checked_mul(number("attention_head_dim", default.attention_head_dim)?)?;
    width.checked_div(number(
        "cross_attention_head_dim",
        default.cross_attention_head_dim,
    )?)
}

/// A config of its JSON, not validated.
pub(super) fn parse<T: DeserializeOwned>(text: &str, origin: &Path) -> Result<T, ConfigError> {
    let json = |source| ConfigError::Json {
        path: origin.to_path_buf(),
        source,
    };
    // Through a map: serde would take a list for a struct's fields in order.
    let mut keys: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(json)?;
    if keys.get("num_cross_attention_heads") == Some(&serde_json::Value::Null) {
        keys.remove("num_cross_attention_heads");
        if let Some(heads) = cross_heads_of_the_width(&keys) {
            keys.insert("num_cross_attention_heads".to_owned(), heads.into());
        }
    }
    serde_json::from_value(keys.into()).map_err(json)
}
