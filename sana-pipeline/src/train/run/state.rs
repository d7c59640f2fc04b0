//! `state.safetensors` and `state.json`: what a run continues from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::Weights;
use sana_linear_attn::weights::write_tensors;
use serde::{Deserialize, Serialize};

use super::options::RunOptions;
use crate::files;
use crate::train::error::TrainError;
use crate::train::optimizer::{Optimizer, Parameters};

/// Parameters, moments and averages as one file of tensors: `SET.PARAMETER`, and the step.
pub(super) const STATE: &str = "state.safetensors";
/// What the run is of.
pub(super) const STATE_META: &str = "state.json";

const VALUE: &str = "value";
const EXP_AVG: &str = "exp_avg";
const EXP_AVG_SQ: &str = "exp_avg_sq";
const AVERAGE: &str = "average";
const STEP: &str = "step";

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
}

impl RunMeta {
    /// Of a run that has not begun.
    pub fn new<M>(options: RunOptions, frozen: &Parameters) -> Self {
        let model = std::any::type_name::<M>();
        Self {
            step: 0,
            model: model.rsplit("::").next().unwrap_or(model).to_owned(),
            frozen_hash: (!frozen.values.is_empty()).then(|| hash(&frozen.values)),
            options,
        }
    }
}

/// Whether a folder holds the state of a run.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(STATE).is_file()
}

/// Saves the state, if all of it is finite. Both files appear whole or not at all.
pub(super) fn save(
    folder: &Path,
    meta: &RunMeta,
    parameters: &Parameters,
    optimizer: &Optimizer,
) -> Result<(), TrainError> {
    let mut tensors = Vec::new();
    for (index, state) in optimizer.states.iter().enumerate() {
        let name = &parameters.names[index];
        let sets = [
            (VALUE, &parameters.values[index]),
            (EXP_AVG, &state.exp_avg),
            (EXP_AVG_SQ, &state.exp_avg_sq),
            (AVERAGE, &state.average),
        ];
        for (set, value) in sets {
            let data = value.clone().into_data();
            if let Some(value) = data.iter::<f32>().find(|value| !value.is_finite()) {
                return Err(TrainError::Diverged {
                    step: optimizer.steps,
                    quantity: format!("a value of {name}"),
                    value,
                });
            }
            tensors.push((format!("{set}.{name}"), data));
        }
    }
    // The step travels with the tensors, so that the two cannot disagree after a crash. The
    // options are written first: there is never a state without them.
    let step = TensorData::from([optimizer.steps as f32]);
    tensors.push((STEP.to_owned(), step));
    let meta = RunMeta {
        step: optimizer.steps,
        ..meta.clone()
    };
    let path = folder.join(STATE_META);
    let json = serde_json::to_string_pretty(&meta)
        .map_err(|error| TrainError::io(&path)(std::io::Error::other(error)))?;
    files::write_text(&path, &json).map_err(TrainError::io(&path))?;
    Ok(write_tensors(&folder.join(STATE), tensors)?)
}

/// Reads the state that [`save`] wrote. All is read before anything is replaced.
pub(super) fn restore(
    folder: &Path,
    meta: &RunMeta,
    parameters: &mut Parameters,
    optimizer: &mut Optimizer,
) -> Result<(), TrainError> {
    let weights = Weights::open_file(&folder.join(STATE))?;
    let saved = read_meta(folder)?;
    let refused = |reason: String| TrainError::State {
        path: folder.to_path_buf(),
        reason,
    };
    if let Some(difference) = other_model(&saved, &weights, meta, parameters) {
        return Err(refused(difference));
    }
    check_optimizer(&saved, meta).map_err(refused)?;

    let device = parameters.values[0].device();
    let read = |set: &str, name: &str| -> Result<Tensor<1>, TrainError> {
        Ok(weights.tensor(&format!("{set}.{name}"), DType::F32, &device)?)
    };
    let (mut values, mut states) = (Vec::new(), optimizer.states.clone());
    for (name, state) in parameters.names.iter().zip(&mut states) {
        values.push(read(VALUE, name)?);
        state.exp_avg = read(EXP_AVG, name)?;
        state.exp_avg_sq = read(EXP_AVG_SQ, name)?;
        state.average = read(AVERAGE, name)?;
    }
    let step: Tensor<1> = weights.tensor(STEP, DType::F32, &device)?;
    parameters.values = values;
    optimizer.states = states;
    optimizer.steps = step.into_scalar::<f32>() as usize;
    Ok(())
}

fn read_meta(folder: &Path) -> Result<RunMeta, TrainError> {
    let path = folder.join(STATE_META);
    let text = fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    serde_json::from_str(&text).map_err(|error| TrainError::State {
        path,
        reason: error.to_string(),
    })
}

/// Whose run it is, if not that of this model.
fn other_model(
    saved: &RunMeta,
    weights: &Weights,
    meta: &RunMeta,
    parameters: &Parameters,
) -> Option<String> {
    let length = |shape: &[usize]| shape.iter().product::<usize>();
    let there: BTreeMap<&str, usize> = weights
        .names()
        .filter_map(|name| {
            let parameter = name.strip_prefix(VALUE)?.strip_prefix('.')?;
            Some((parameter, length(weights.shape(name)?)))
        })
        .collect();
    let shapes = parameters.shapes.iter().map(|shape| length(shape));
    let here: BTreeMap<&str, usize> = parameters
        .names
        .iter()
        .map(String::as_str)
        .zip(shapes)
        .collect();
    let count = |parameters: &BTreeMap<&str, usize>| parameters.values().sum::<usize>();
    if saved.model != meta.model {
        return Some(format!(
            "it is the run of a {} with {} trained parameters, and this model is a {} with {}",
            saved.model,
            count(&there),
            meta.model,
            count(&here),
        ));
    }
    let difference = here
        .iter()
        .find_map(|(name, here)| match there.get(name) {
            None => Some(format!("{name} is not trained there")),
            Some(there) if there != here => {
                Some(format!("{name} has {there} values there and {here} here"))
            }
            _ => None,
        })
        .or_else(|| {
            let mut names = there.keys();
            let name = names.find(|name| !here.contains_key(*name))?;
            Some(format!("{name} is trained there and not here"))
        });
    if let Some(difference) = difference {
        return Some(format!(
            "it is the run of another {}, with {} trained parameters where this one has {}: \
             {difference}",
            saved.model,
            count(&there),
            count(&here),
        ));
    }
    (saved.frozen_hash != meta.frozen_hash).then(|| {
        "the parameters that are not trained differ from those that the run was started with"
            .to_owned()
    })
}

/// Moments of one optimizer mean nothing to the other.
fn check_optimizer(saved: &RunMeta, meta: &RunMeta) -> Result<(), String> {
    let (saved, asked) = (
        saved.options.optimizer.matrices,
        meta.options.optimizer.matrices,
    );
    if saved == asked {
        return Ok(());
    }
    Err(format!(
        "the run's optimizer is {saved:?}, not {asked:?}: name that one, or start a new run from \
         its weights"
    ))
}

/// FNV-1a over the bytes of tensors, eight at a time.
fn hash(tensors: &[Tensor<1>]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
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
