//! `state.safetensors`: what a run continues from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::Weights;
use sana_linear_attn::weights::write_tensors;

use super::meta::{Change, RunMeta, STATE_META, read_meta, write_meta};
use crate::train::error::TrainError;
use crate::train::optimizer::{DATA, EXP_AVG_SQ, MIN, Optimizer, Parameters, SCALE};

/// Parameters, moments and averages as one file of tensors: `SET.PARAMETER`, and the step.
pub(super) const STATE: &str = "state.safetensors";

const VALUE: &str = "value";
const AVERAGE: &str = "average";
const STEP: &str = "step";

/// Steps of a run, at most: the step is one of the state's tensors, of f32.
pub(super) const MOST_STEPS: usize = 1 << 24;

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
        let mut sets = vec![
            (VALUE, parameters.values[index].clone().into_data()),
            (AVERAGE, state.average.clone().into_data()),
        ];
        sets.extend(state.moments.tensors());
        for (set, data) in sets {
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
    write_meta(folder, &meta)?;
    Ok(write_tensors(&folder.join(STATE), tensors)?)
}

/// Reads the state that [`save`] wrote. All is read before anything is replaced.
pub(super) fn restore(
    folder: &Path,
    meta: &mut RunMeta,
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
    let read = |set: &str, name: &str, length: usize| -> Result<Tensor<1>, TrainError> {
        let name = format!("{set}.{name}");
        let tensor: Tensor<1> = weights.tensor(&name, DType::F32, &device)?;
        let found = tensor.dims()[0];
        if found != length {
            return Err(refused(format!(
                "{name} has {found} values instead of {length}"
            )));
        }
        // Means of squares, whole or factored.
        let square = set.starts_with(EXP_AVG_SQ) || set.starts_with("exp_avg_res");
        let possible = |value: &f32| value.is_finite() && (!square || *value >= 0.0);
        let data = tensor.clone().into_data();
        match data.iter::<f32>().find(|value| !possible(value)) {
            Some(value) => Err(refused(format!("a value of {name} is {value}"))),
            None => Ok(tensor),
        }
    };
    let (mut values, mut states) = (Vec::new(), optimizer.states.clone());
    let parameter_list = parameters.names.iter().zip(&parameters.shapes);
    for ((name, shape), state) in parameter_list.zip(&mut states) {
        let length = shape.iter().product();
        values.push(read(VALUE, name, length)?);
        for (set, tensor) in state.moments.floats_mut() {
            *tensor = read(set, name, tensor.dims()[0])?;
        }
        if let Some(quantized) = state.moments.quantized_mut() {
            let blocks = |set: &str| -> Result<Vec<f32>, TrainError> {
                let read = read(set, name, quantized.blocks())?.into_data();
                Ok(read.iter::<f32>().collect())
            };
            let (scale, min) = (blocks(SCALE)?, blocks(MIN)?);
            let levels = format!("{DATA}.{name}");
            let data = weights.bytes(&levels).unwrap_or_default();
            quantized
                .restore(data, scale, min)
                .map_err(|reason| refused(format!("{levels} has {reason}")))?;
        }
        state.average = read(AVERAGE, name, length)?;
    }
    let step = weights.tensor::<1>(STEP, DType::F32, &device)?.into_data();
    let step = step.iter::<f32>().next().unwrap_or(f32::NAN);
    if !(step >= 0.0 && step.fract() == 0.0 && step as usize <= MOST_STEPS) {
        return Err(refused(format!("its step is {step}")));
    }
    parameters.values = values;
    optimizer.states = states;
    optimizer.steps = step as usize;
    continue_meta(folder, saved, meta, optimizer.steps)
}

/// The settings of the run that is continued, with those that are asked for now.
fn continue_meta(
    folder: &Path,
    saved: RunMeta,
    meta: &mut RunMeta,
    step: usize,
) -> Result<(), TrainError> {
    let asked = std::mem::replace(&mut meta.settings, saved.options.settings());
    meta.settings.extend(saved.settings);
    meta.changes = saved.changes;
    let [from, to] = [saved.options.steps, meta.options.steps];
    if from != to {
        meta.changes.push(Change {
            step,
            name: "steps".to_owned(),
            from: from.into(),
            to: to.into(),
        });
    }
    meta.settle(folder, step, asked)
}

/// Whether a folder is that of a run, which may have taken no step yet.
pub fn holds_run(folder: &Path) -> bool {
    exists(folder) || folder.join(STATE_META).is_file()
}

/// Removes state, log and curve of the run in a folder, if there is one: the next one starts from the beginning.
///
/// # Errors
/// When a file cannot be removed.
pub fn discard_run(folder: &Path) -> Result<(), TrainError> {
    for name in [STATE, STATE_META, super::LOG, super::CURVE] {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainError::io(&path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The replicas of the run in a folder, if there is one that can be read: what it computes depends
/// on them, by rounding.
pub fn recorded_replicas(folder: &Path) -> Option<usize> {
    exists(folder)
        .then(|| read_meta(folder).ok())
        .flatten()
        .map(|meta| meta.options.replicas)
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
    let (saved, asked) = (saved.options.optimizer.kind, meta.options.optimizer.kind);
    if saved == asked {
        return Ok(());
    }
    Err(format!(
        "the run's optimizer is {saved:?}, not {asked:?}: name that one, or start a new run from \
         its weights"
    ))
}
