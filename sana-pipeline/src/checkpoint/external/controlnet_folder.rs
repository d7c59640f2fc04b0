//! ControlNets: where their files are, and what they consist of.
//!
//! ```text
//! config.json                                  of diffusers' SanaControlNetModel
//! diffusion_pytorch_model.safetensors          or a variant, or shards with their index
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sana_linear_attn::transformer::ControlNetError;
use sana_linear_attn::{
    ControlWiring, SanaControlNetConfig, SanaTransformerConfig, WeightError, Weights,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::checkpoint::component::{CONFIG, Component};
use crate::checkpoint::contents::weight_files::{has_f16_files, open_weights};
use crate::error::{CheckpointError, PipelineError};
use crate::support::escape::escaped;
use crate::support::units::{grouped, human};

/// The folder of a ControlNet, opened: its config has been read, its weights have not.
#[derive(Debug, Clone)]
pub struct ControlNetFolder {
    folder: PathBuf,
    config: SanaControlNetConfig,
    /// Whether it was asked for, and is not just a part of the checkpoint.
    requested: bool,
}

impl ControlNetFolder {
    /// Opens a ControlNet's own folder, or the folder `controlnet` in the given one.
    ///
    /// # Errors
    /// [`CheckpointError::NoFolder`]; [`CheckpointError::NotControlNet`] without a `config.json`;
    /// [`CheckpointError::ComponentClass`] when that is of another class; [`CheckpointError::Json`] or
    /// [`CheckpointError::Config`] when it is not usable.
    pub fn open(folder: &Path) -> Result<Self, PipelineError> {
        if !folder.is_dir() {
            return Err(PipelineError::Checkpoint(CheckpointError::NoFolder {
                path: folder.to_path_buf(),
            }));
        }
        let inner = folder.join(Component::ControlNet.folder());
        let found = [folder, &inner]
            .into_iter()
            .find(|folder| folder.join(CONFIG).is_file());
        let Some(found) = found else {
            return Err(PipelineError::Checkpoint(CheckpointError::NotControlNet {
                folder: folder.to_path_buf(),
            }));
        };
        let path = found.join(CONFIG);
        let text = read_text(&path)?;
        let keys: Map<String, Value> = serde_json::from_str(&text).map_err(|source| {
            PipelineError::Checkpoint(CheckpointError::Json {
                origin: path.display().to_string(),
                source,
            })
        })?;
        let class = keys.get("_class_name").and_then(Value::as_str);
        let expected = Component::ControlNet.classes();
        if let Some(class) = class.filter(|class| !expected.contains(class)) {
            return Err(PipelineError::Checkpoint(CheckpointError::ComponentClass {
                component: Component::ControlNet,
                origin: found.display().to_string(),
                found: class.to_owned(),
                expected,
            }));
        }
        Ok(Self {
            folder: found.to_path_buf(),
            config: SanaControlNetConfig::from_json(&text, &path)?,
            requested: true,
        })
    }

    /// Whether a folder says of itself that it is a ControlNet's.
    pub fn is_one(folder: &Path) -> bool {
        let Ok(text) = std::fs::read_to_string(folder.join(CONFIG)) else {
            return false;
        };
        let keys: Result<Map<String, Value>, _> = serde_json::from_str(&text);
        let class = keys.ok().and_then(|keys| keys.get("_class_name").cloned());
        let class = class.as_ref().and_then(Value::as_str);
        class.is_some_and(|class| Component::ControlNet.classes().contains(&class))
    }

    /// Not asked for, but found in a checkpoint.
    pub(in crate::checkpoint) fn found(self) -> Self {
        Self {
            requested: false,
            ..self
        }
    }

    /// With a wiring other than its config says, where one is given.
    pub fn with_wiring(mut self, wiring: Option<ControlWiring>) -> Self {
        self.config.wiring = wiring.unwrap_or(self.config.wiring);
        self
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its config.
    pub fn config(&self) -> &SanaControlNetConfig {
        &self.config
    }

    /// Whether it was named, rather than found in the checkpoint.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested
    }

    /// Checks that it can steer a transformer.
    pub(crate) fn check(&self, transformer: &SanaTransformerConfig) -> Result<(), ControlNetError> {
        self.config.check_transformer(transformer)
    }

    /// Opens its weights; nothing but their headers is read. Without files of the variant it is
    /// the plain ones.
    ///
    /// # Errors
    /// When there is no weight file, or a file is damaged.
    pub fn weights(&self, variant: Option<&str>) -> Result<Weights, WeightError> {
        let stem = Component::ControlNet.weights_stem().unwrap_or_default();
        open_weights(&self.folder, stem, variant)
    }

    /// Whether it was trained in f16, by the names of its files.
    pub(crate) fn has_f16_files(&self) -> bool {
        has_f16_files(&self.folder)
    }

    /// What it consists of, from its config and headers alone.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn describe(&self, variant: Option<&str>) -> Result<ControlNetDescription, WeightError> {
        let weights = self.weights(variant)?;
        Ok(ControlNetDescription {
            origin: self.folder.display().to_string(),
            class: Component::ControlNet.classes()[0].to_owned(),
            wiring: self.config.wiring,
            blocks: self.config.transformer.num_layers,
            width: self.config.transformer.width(),
            latent_channels: self.config.transformer.in_channels,
            caption_channels: self.config.transformer.caption_channels,
            parameters: weights.total_elements() as u64,
            bytes: weights.total_bytes() as u64,
            dtypes: weights.dtypes(),
        })
    }
}

fn read_text(path: &Path) -> Result<String, PipelineError> {
    std::fs::read(path)
        // What is not UTF-8 becomes a replacement character, at which the parser stops.
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|source| PipelineError::Read {
            path: path.to_path_buf(),
            source,
        })
}

/// A ControlNet at a glance. Its [`fmt::Display`] is a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ControlNetDescription {
    /// Its folder.
    pub origin: String,
    /// The reference's name of its class.
    pub class: String,
    /// Where its blocks sit between the transformer's.
    pub wiring: ControlWiring,
    /// Number of blocks; the transformer has more.
    pub blocks: usize,
    /// Channels of a token, which are the transformer's.
    pub width: usize,
    /// Latent channels, which are the transformer's.
    pub latent_channels: usize,
    /// Channels of the text embeddings, which are the transformer's.
    pub caption_channels: usize,
    /// Number of parameters.
    pub parameters: u64,
    /// Bytes of the tensors on disk.
    pub bytes: u64,
    /// Number of tensors of each dtype on disk.
    pub dtypes: BTreeMap<String, usize>,
}

impl fmt::Display for ControlNetDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtypes: Vec<&str> = self.dtypes.keys().map(String::as_str).collect();
        writeln!(f, "ControlNet  {}", escaped(&self.origin))?;
        writeln!(f, "class       {}", escaped(&self.class))?;
        writeln!(
            f,
            "blocks      {}, of {} channels, for a transformer of more blocks",
            self.blocks, self.width
        )?;
        let wiring = match self.wiring {
            ControlWiring::Diffusers => "diffusers",
            ControlWiring::Original => "original, as in the authors' code",
        };
        writeln!(f, "wiring      {wiring}")?;
        writeln!(
            f,
            "inputs      {} latent channels, {} text channels",
            self.latent_channels, self.caption_channels
        )?;
        writeln!(f, "parameters  {}", grouped(self.parameters))?;
        writeln!(
            f,
            "on disk     {}, {}",
            human(self.bytes),
            dtypes.join(", ")
        )?;
        writeln!(f)?;
        write!(
            f,
            "It is not a checkpoint of its own: it is loaded next to one."
        )
    }
}
