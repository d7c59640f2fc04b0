//! LoRA files of the trainers in use.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::weights::{LARGEST_CONFIG, WeightError, Weights, read_text_bounded};

use super::error::LoraError;
use super::kind::{LoraKind, Tensors, kind_of};
use super::names::{Name, parse};
use super::settings::Settings;

/// A LoRA file of diffusers, PEFT, kohya or LyCORIS: for each layer that it changes
/// `LAYER.lora_A.weight` `[rank, in]` and `LAYER.lora_B.weight` `[out, rank]` (also called
/// `lora_down` and `lora_up`), and perhaps a scalar `LAYER.alpha` and DoRA's magnitudes; or the
/// factors of a LoHa or a LoKr. Nothing but its header has been read.
///
/// Layers bear the names of the transformer's checkpoint, bare or behind `transformer.` or
/// `base_model.model.`, or with underscores in place of dots; `lora_A.default.weight` is read as
/// `lora_A.weight`. Factors of 1x1 convolutions may have two further axes of length 1.
#[derive(Debug, Clone)]
pub struct Lora {
    pub(super) weights: Weights,
    pub(super) targets: BTreeMap<String, Tensors>,
    pub(super) unexpected: Vec<String>,
    /// How many tensors change a text encoder.
    text_encoder: usize,
    pub(super) settings: Settings,
}

/// PEFT's name of the file whose settings are in a file of their own.
const PEFT_FILE: &str = "adapter_model.safetensors";
const PEFT_SETTINGS: &str = "adapter_config.json";
const DIFFUSERS_FILE: &str = "pytorch_lora_weights.safetensors";

impl Lora {
    /// Opens a LoRA file, or the folder of PEFT or diffusers that holds one. Alpha comes from its tensors, else from its metadata, else from the
    /// `adapter_config.json` next to a file called `adapter_model.safetensors`; without any it is
    /// the rank.
    ///
    /// # Errors
    /// When the file cannot be read or is empty, or its settings are not usable.
    pub fn open(path: &Path) -> Result<Self, LoraError> {
        let path = &file_of(path);
        let weights = Weights::open_file(path)?;
        let adjacent = path.with_file_name(PEFT_SETTINGS);
        let text = if path.ends_with(PEFT_FILE) && adjacent.is_file() {
            let read = read_text_bounded(&adjacent, LARGEST_CONFIG);
            Some(read.map_err(|source| WeightError::Io {
                path: adjacent,
                source,
            })?)
        } else {
            None
        };
        Self::with_settings(weights, text.as_deref())
    }

    /// A LoRA of tensors that are open already, with the settings of their metadata.
    ///
    /// # Errors
    /// When there are no tensors, or the settings are not usable.
    pub fn from_weights(weights: Weights) -> Result<Self, LoraError> {
        Self::with_settings(weights, None)
    }

    fn with_settings(weights: Weights, settings: Option<&str>) -> Result<Self, LoraError> {
        let origin = weights.origin().to_owned();
        let mut targets: BTreeMap<String, Tensors> = BTreeMap::new();
        let mut unexpected = Vec::new();
        let mut text_encoder = 0;
        for name in weights.names() {
            match parse(name) {
                Name::Adapter { layer, role } => {
                    let tensors = targets.entry(layer).or_default();
                    match tensors.entry(role) {
                        Entry::Occupied(_) => unexpected.push(name.to_owned()),
                        Entry::Vacant(entry) => {
                            entry.insert(name.to_owned());
                        }
                    }
                }
                Name::TextEncoder => text_encoder += 1,
                Name::Unsupported(kind) => {
                    return Err(LoraError::Unsupported {
                        origin,
                        kind,
                        tensor: name.to_owned(),
                    });
                }
                Name::Unknown => unexpected.push(name.to_owned()),
            }
        }
        if targets.is_empty() && unexpected.is_empty() {
            return Err(match text_encoder {
                0 => LoraError::Empty { origin },
                _ => LoraError::TextEncoder { origin },
            });
        }
        let settings = Settings::read(&weights, settings)
            .and_then(|settings| {
                settings
                    .check(targets.keys().map(String::as_str))
                    .map(|()| settings)
            })
            .map_err(|reason| LoraError::Settings { origin, reason })?;
        Ok(Self {
            weights,
            targets,
            unexpected,
            text_encoder,
            settings,
        })
    }

    /// Where it comes from: a path, or the name given.
    pub fn origin(&self) -> &str {
        self.weights.origin()
    }

    /// Its tensors, as they are in the file.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The kinds of its changes.
    pub fn kinds(&self) -> BTreeSet<LoraKind> {
        self.targets.values().map(kind_of).collect()
    }

    /// The first kind whose change of a weight is not low rank.
    pub(super) fn dense_kind(&self) -> Option<LoraKind> {
        self.kinds()
            .into_iter()
            .find(|kind| *kind != LoraKind::Lora)
    }

    /// How many of its tensors change a text encoder. They are not applied.
    pub fn text_encoder_tensors(&self) -> usize {
        self.text_encoder
    }

    /// Elements of all its tensors.
    pub fn total_elements(&self) -> usize {
        self.weights.total_elements()
    }

    /// The layers that it changes, by the names of the transformer's checkpoint; of a file with
    /// underscores in place of dots, as they are there.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.targets.keys().map(String::as_str)
    }
}

/// The LoRA file of a path that may be a folder; a path without one is left as it is.
fn file_of(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let names = [PEFT_FILE, DIFFUSERS_FILE].map(|name| path.join(name));
    let [peft, _] = &names;
    let file = names.iter().find(|file| file.is_file());
    file.unwrap_or(peft).clone()
}
