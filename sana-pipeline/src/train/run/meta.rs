//! `state.json`: what a run is of, and what its numbers depend on.

use std::fmt;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Tensor;
use sana_linear_attn::weights::read_text_bounded;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::{RunOptions, Settings};
use crate::support::files;
use crate::support::fnv::{OFFSET, fnv1a};
use crate::train::error::TrainError;
use crate::train::optimizer::Parameters;

pub(super) const STATE_META: &str = "state.json";

/// Bytes of `state.json`, at most: 16 MiB.
const LARGEST_META: u64 = 16 << 20;

/// What a run is of, and its options.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunMeta {
    /// Steps taken at the last save.
    pub step: usize,
    /// The kind of model, such as `DcAe`.
    pub model: String,
    /// Hash of the parameters that are not trained, if there are any.
    #[serde(default)]
    pub frozen_hash: Option<String>,
    pub options: RunOptions,
    /// What its numbers depend on: the options, and what task and caller added.
    #[serde(default)]
    pub settings: Settings,
    /// Changes that were accepted, in their order.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// A setting that was changed while a run was continued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Steps taken before it.
    pub step: usize,
    /// The setting.
    pub name: String,
    /// Its value before.
    pub from: Value,
    /// Its value from there on.
    pub to: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {} there and {} here",
            self.name, self.from, self.to
        )
    }
}

impl RunMeta {
    /// Of a run that has not begun.
    pub fn new<M>(options: RunOptions, frozen: &Parameters) -> Self {
        let model = std::any::type_name::<M>();
        Self {
            step: 0,
            model: model.rsplit("::").next().unwrap_or(model).to_owned(),
            frozen_hash: (!frozen.values.is_empty()).then(|| hash(&frozen.values)),
            settings: options.settings(),
            changes: Vec::new(),
            options,
        }
    }

    /// Takes settings over that the numbers of the run depend on. Those that differ from the ones
    /// that are known are changes, if these are accepted.
    pub fn settle(
        &mut self,
        folder: &Path,
        step: usize,
        settings: Settings,
    ) -> Result<(), TrainError> {
        let mut changes = Vec::new();
        for (name, to) in &settings {
            if let Some(from) = self.settings.get(name)
                && !is_same(from, to)
            {
                changes.push(Change {
                    step,
                    name: name.clone(),
                    from: from.clone(),
                    to: to.clone(),
                });
            }
        }
        if !changes.is_empty() && !self.options.accept_changes {
            let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
            return Err(TrainError::Settings {
                path: folder.to_path_buf(),
                changes: changes.join(", "),
            });
        }
        self.settings.extend(settings);
        self.changes.extend(changes);
        Ok(())
    }
}

/// Equal, or as near as JSON keeps a number.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(a), Some(b)) if left.is_f64() || right.is_f64() => {
            (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
        }
        _ => left == right,
    }
}

/// Writes `state.json`.
pub(super) fn write_meta(folder: &Path, meta: &RunMeta) -> Result<(), TrainError> {
    let path = folder.join(STATE_META);
    let json = serde_json::to_string_pretty(meta)
        .map_err(|error| TrainError::io(&path)(std::io::Error::other(error)))?;
    files::write_text(&path, &json).map_err(TrainError::io(&path))
}

/// Reads it.
pub(super) fn read_meta(folder: &Path) -> Result<RunMeta, TrainError> {
    let path = folder.join(STATE_META);
    let text = read_text_bounded(&path, LARGEST_META).map_err(TrainError::io(&path))?;
    serde_json::from_str(&text).map_err(|error| TrainError::State {
        path,
        reason: error.to_string(),
    })
}

/// A hash of the parameters of a module, to be recorded among the [`Settings`] of a run that depends
/// on it.
pub fn weights_hash<M: Module>(module: &M) -> String {
    hash(&Parameters::of(module).values)
}

/// A hash of a text, such as a tokenizer, to be recorded as [`weights_hash`] is.
pub fn text_hash(text: &str) -> String {
    format!("{:016x}", fnv1a(OFFSET, text.as_bytes()))
}

/// FNV-1a over the bytes of tensors, eight at a time.
fn hash(tensors: &[Tensor<1>]) -> String {
    let mut hash = OFFSET;
    for tensor in tensors {
        let data = tensor.clone().into_data();
        for word in data.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            hash ^= u64::from_le_bytes(bytes);
            hash = hash.wrapping_mul(0x100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}
