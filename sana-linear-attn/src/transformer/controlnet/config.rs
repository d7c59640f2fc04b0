use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::ControlNetError;
use crate::transformer::config::{ConfigError, SanaTransformerConfig, parse, read_text};
use crate::transformer::input::ControlWiring;

/// Blocks of the released ControlNets.
const RELEASED_BLOCKS: usize = 7;

/// Where a ControlNet of this project says how it is wired; the reference has no such key.
const WIRING: &str = "control_wiring";

/// Keys of a transformer's config that a ControlNet's does not have.
const TRANSFORMER_ONLY: [&str; 3] = ["guidance_embeds", "guidance_embeds_scale", "timestep_scale"];

/// Configuration of a [`SanaControlNet`](crate::SanaControlNet), with the keys of the `config.json`
/// of diffusers' `SanaControlNetModel`. Keys it does not know are ignored; the defaults are the
/// reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct SanaControlNetConfig {
    /// The embeddings and blocks: those of a transformer of `num_layers` blocks, 7 in the released
    /// ControlNets. `in_channels` counts the channels of the control image's latents too;
    /// `out_channels` has no effect.
    ///
    /// `guidance_embeds`, `guidance_embeds_scale` and `timestep_scale` are not among the keys of the
    /// file and keep their defaults. `qk_norm`, for ControlNets of SANA-1.5, is not a key of the
    /// reference and is written only where there is such a norm.
    pub transformer: SanaTransformerConfig,
    /// The key `control_wiring`, which the reference does not have; written only where it is not
    /// the reference's wiring.
    pub wiring: ControlWiring,
}

impl Default for SanaControlNetConfig {
    fn default() -> Self {
        Self::with_blocks_of(&SanaTransformerConfig::default(), RELEASED_BLOCKS)
    }
}

impl TryFrom<Map<String, Value>> for SanaControlNetConfig {
    type Error = serde_json::Error;

    fn try_from(mut keys: Map<String, Value>) -> Result<Self, Self::Error> {
        for key in TRANSFORMER_ONLY {
            keys.remove(key);
        }
        keys.entry("num_layers").or_insert(RELEASED_BLOCKS.into());
        let wiring = match keys.remove(WIRING) {
            None | Some(Value::Null) => ControlWiring::default(),
            Some(wiring) => serde_json::from_value(wiring)?,
        };
        let transformer = serde_json::from_value(keys.into())?;
        Ok(Self {
            transformer,
            wiring,
        })
    }
}

impl From<SanaControlNetConfig> for Map<String, Value> {
    fn from(config: SanaControlNetConfig) -> Self {
        let Ok(Value::Object(mut keys)) = serde_json::to_value(config.transformer) else {
            unreachable!("a config of plain fields is a JSON object")
        };
        for key in TRANSFORMER_ONLY {
            keys.remove(key);
        }
        if keys.get("qk_norm") == Some(&Value::Null) {
            keys.remove("qk_norm");
        }
        if config.wiring == ControlWiring::Original {
            keys.insert(WIRING.to_owned(), "original".into());
        }
        keys
    }
}

impl SanaControlNetConfig {
    /// The config of a ControlNet made of the first `layers` blocks of a transformer.
    ///
    /// # Errors
    /// [`ControlNetError::Blocks`] unless `1 <= layers < blocks of the transformer`,
    /// [`ControlNetError::EmbeddedGuidance`] for a Sana-Sprint.
    pub fn of_transformer(
        transformer: &SanaTransformerConfig,
        layers: usize,
    ) -> Result<Self, ControlNetError> {
        let config = Self::with_blocks_of(transformer, layers);
        config.check_transformer(transformer)?;
        Ok(config)
    }

    fn with_blocks_of(transformer: &SanaTransformerConfig, layers: usize) -> Self {
        let SanaTransformerConfig {
            guidance_embeds,
            guidance_embeds_scale,
            timestep_scale,
            ..
        } = SanaTransformerConfig::default();
        Self {
            transformer: SanaTransformerConfig {
                num_layers: layers,
                guidance_embeds,
                guidance_embeds_scale,
                timestep_scale,
                ..transformer.clone()
            },
            wiring: ControlWiring::default(),
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
        config.validate()?;
        Ok(config)
    }

    /// Checks that the values describe a network this crate implements.
    ///
    /// # Errors
    /// When they do not, with the values in the message.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.transformer.validate().map_err(|error| match error {
            ConfigError::Invalid(reason) => ConfigError::InvalidControlNet(reason),
            other => other,
        })
    }

    /// Checks that the ControlNet can steer a transformer: equal width, latent channels, caption
    /// channels and patch size, fewer blocks, and no embedded guidance.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check_transformer(
        &self,
        transformer: &SanaTransformerConfig,
    ) -> Result<(), ControlNetError> {
        if transformer.guidance_embeds {
            return Err(ControlNetError::EmbeddedGuidance);
        }
        let own = &self.transformer;
        let shared = [
            ("channels of a token", own.width(), transformer.width()),
            ("latent channels", own.in_channels, transformer.in_channels),
            (
                "caption channels",
                own.caption_channels,
                transformer.caption_channels,
            ),
            (
                "latent pixels along a token",
                own.patch_size,
                transformer.patch_size,
            ),
        ];
        for (what, found, expected) in shared {
            if found != expected {
                return Err(ControlNetError::Differs {
                    what,
                    found,
                    expected,
                });
            }
        }
        let (found, blocks) = (own.num_layers, transformer.num_layers);
        if found == 0 || found >= blocks {
            return Err(ControlNetError::Blocks { found, blocks });
        }
        Ok(())
    }
}
