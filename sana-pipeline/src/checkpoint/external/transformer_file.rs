//! A transformer from a file of its own, in place of the checkpoint's.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use sana_linear_attn::transformer::{ConfigError, NunchakuLayout};
use sana_linear_attn::weights::{LARGEST_CONFIG, read_bounded};
use sana_linear_attn::{SanaTransformerConfig, WeightError, Weights};
use serde_json::{Map, Value};

use crate::checkpoint::component::{CONFIG, Component};
use crate::checkpoint::contents::quantize::as_configured;
use crate::checkpoint::contents::weight_files::{
    has_f16_files, has_variant_files, open_weights, says_f16, variants_in,
};
use crate::error::{CheckpointError, PipelineError};

pub(crate) const CLASS: &str = "SanaTransformer2DModel";

/// The weights and the config of such a transformer.
#[derive(Debug, Clone)]
pub(crate) struct TransformerFile {
    pub weights: Weights,
    pub config: SanaTransformerConfig,
    /// Its folder, if it is not a single file.
    pub folder: Option<PathBuf>,
    /// What was not in the file, for people to read.
    pub note: Option<String>,
    /// Whether its name, or the config next to it, says that it was trained in f16.
    pub f16: bool,
}

impl TransformerFile {
    /// Opens a safetensors file, or a folder as `transformer` of a checkpoint, in the published
    /// layout, the original one or that of nunchaku. The config is the `config.json` next to the weights if it is
    /// that of a transformer; else it is read off the shapes, and `base` gives what they do not
    /// show.
    pub fn open(
        path: &Path,
        variant: Option<&str>,
        base: &SanaTransformerConfig,
    ) -> Result<Self, PipelineError> {
        let weights = weights_at(path, variant)?;
        let (config, note) = match config_in(folder_of(path))? {
            Some(config) => (config, None),
            None => {
                let inferred = SanaTransformerConfig::infer(&weights, base)?;
                let assumed = inferred.assumed.join("; ");
                let note = format!(
                    "the config of {} is read off its shapes, and what they do not show is \
                     assumed: {assumed}",
                    path.display()
                );
                (
                    inferred.config,
                    (!inferred.assumed.is_empty()).then_some(note),
                )
            }
        };
        let weights = published(weights, &config)?;
        Ok(Self {
            // The config next to a single file is its own, if it was taken.
            f16: is_f16(path) || (note.is_none() && says_f16(folder_of(path))),
            ..Self::new(path, weights, config, note)
        })
    }

    /// As [`open`](Self::open), with this config in place of the one next to the weights, of which only
    /// `quantization_config` is read.
    pub fn with_config(
        path: &Path,
        variant: Option<&str>,
        config: SanaTransformerConfig,
    ) -> Result<Self, WeightError> {
        let weights = published(weights_at(path, variant)?, &config)?;
        Ok(Self::new(path, weights, config, None))
    }

    fn new(
        path: &Path,
        weights: Weights,
        config: SanaTransformerConfig,
        note: Option<String>,
    ) -> Self {
        Self {
            weights,
            config,
            folder: path.is_dir().then(|| path.to_path_buf()),
            note,
            f16: is_f16(path),
        }
    }
}

/// The weights of nunchaku as those that they stand for; others as they are.
fn published(weights: Weights, config: &SanaTransformerConfig) -> Result<Weights, WeightError> {
    let Some(layout) = NunchakuLayout::of(&weights) else {
        return Ok(weights);
    };
    // Any device will do: it is asked for the shapes of parameters only.
    let model = config.init(&Device::default());
    layout.published(&weights, config, &model)
}

/// The two files of a folder in the older form of nunchaku.
const NUNCHAKU: [&str; 2] = [
    "transformer_blocks.safetensors",
    "unquantized_layers.safetensors",
];

/// The weights in a file, or in a folder, as the transformer's config there describes them.
fn weights_at(path: &Path, variant: Option<&str>) -> Result<Weights, WeightError> {
    let config = read_bounded(&folder_of(path).join(CONFIG), LARGEST_CONFIG);
    if !path.is_dir() {
        let weights = Weights::open_file(path)?;
        return match config {
            Ok(config) if is_of_transformer(&config) => as_configured(weights, &config),
            _ => Ok(weights),
        };
    }
    let pair = NUNCHAKU.map(|name| path.join(name));
    if variant.is_none() && pair.iter().all(|file| file.is_file()) {
        return Weights::open_files(path.display().to_string(), &pair);
    }
    let stem = Component::Transformer.weights_stem().unwrap_or_default();
    let weights = open_weights(path, stem, variant)?;
    match config {
        Ok(config) => as_configured(weights, &config),
        Err(_) => Ok(weights),
    }
}

/// Where a config of the weights would be.
fn folder_of(path: &Path) -> &Path {
    match path.is_dir() {
        true => path,
        false => path.parent().unwrap_or(Path::new("")),
    }
}

impl TransformerFile {
    /// That its folder has files of a variant.
    pub fn check_variant(&self, variant: Option<&str>) -> Result<(), CheckpointError> {
        let (Some(folder), Some(variant)) = (&self.folder, variant) else {
            return Ok(());
        };
        let stem = Component::Transformer.weights_stem().unwrap_or_default();
        if has_variant_files(folder, stem, variant) {
            return Ok(());
        }
        Err(CheckpointError::NoVariant {
            variant: variant.to_owned(),
            origin: folder.display().to_string(),
            found: variants_in(folder, stem),
        })
    }
}

/// Whether the name of the file, or of one in the folder, says that it is of the variant `fp16`.
fn is_f16(path: &Path) -> bool {
    let own = path.file_name().unwrap_or_default();
    own.to_string_lossy().contains(".fp16") || (path.is_dir() && has_f16_files(path))
}

/// The transformer's config in a folder; `None` for that of another model.
fn config_in(folder: &Path) -> Result<Option<SanaTransformerConfig>, ConfigError> {
    let path = folder.join(CONFIG);
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(None);
    };
    match is_of_transformer(text.as_bytes()) {
        true => SanaTransformerConfig::from_json(&text, &path).map(Some),
        false => Ok(None),
    }
}

fn is_of_transformer(config: &[u8]) -> bool {
    let config = serde_json::from_slice::<Map<String, Value>>(config).unwrap_or_default();
    let class = config.get("_class_name").and_then(Value::as_str);
    class.is_some_and(|class| Component::Transformer.classes().contains(&class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_is_in_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.fp16.safetensors");
        assert!(is_f16(&file));
        assert!(!is_f16(&folder.path().join("model.safetensors")));
        assert!(!is_f16(folder.path()));
        std::fs::write(&file, "").unwrap();
        assert!(is_f16(folder.path()));
    }
}
