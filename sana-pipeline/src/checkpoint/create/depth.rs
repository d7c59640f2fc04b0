use std::fs::{self, File};
use std::io;
use std::path::Path;

use burn::tensor::{DType, Device};
use sana_linear_attn::transformer::F16Clamp;
use sana_linear_attn::transformer::depth::DepthPlan;
use sana_linear_attn::weights::file_names;
use serde_json::{Map, Value};

use super::folder::{text, transformer_json};
use super::random::WeightDtype;
use super::{create_folder, write_text};
use crate::checkpoint::{CONFIG, Checkpoint, Component, INDEX};
use crate::error::{CheckpointError, PipelineError};
use crate::support::files::write_whole;

/// What a plan's network has behind the name of the first one.
const WITH: &str = " with ";

/// Writes the checkpoint with a transformer of another depth: grown, or with some of its blocks
/// alone. The other components are copied, but for a ControlNet, which is of the first transformer.
///
/// The transformer's weights are in `dtype`, or as in the files of `variant`; [`DepthPlan::write`]
/// describes them and `progress`. Every file appears whole or not at all, and `model_index.json`
/// comes last.
///
/// # Errors
/// [`CheckpointError::WeightDtype`], [`CheckpointError::Exists`], [`PipelineError::Read`],
/// [`PipelineError::Write`], or when the plan is of another transformer.
pub fn write_with_depth(
    checkpoint: &Checkpoint,
    variant: Option<&str>,
    plan: &DepthPlan,
    folder: &Path,
    dtype: Option<DType>,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), PipelineError> {
    dtype.map(WeightDtype::new).transpose()?;
    if folder.join(INDEX).exists() {
        return Err(PipelineError::Checkpoint(CheckpointError::Exists {
            folder: folder.to_path_buf(),
        }));
    }
    let weights = checkpoint.weights(Component::Transformer, variant)?;
    let index = index_with_depth(checkpoint, plan)?;
    let part = create_folder(folder, Component::Transformer)?;
    plan.write(&weights, &part, dtype, device, progress)?;
    let clamp = is_clamped(checkpoint, plan)?;
    write_text(&part.join(CONFIG), &transformer_json(plan.config(), clamp))?;
    for component in checkpoint.parts() {
        match component {
            Component::Transformer | Component::ControlNet => {}
            component => copy(checkpoint, component, folder)?,
        }
    }
    write_text(&folder.join(INDEX), &text(&index))
}

/// `model_index.json` of the new checkpoint: the first one's, and in this project's own key a name
/// and what the new files do not show.
fn index_with_depth(checkpoint: &Checkpoint, plan: &DepthPlan) -> Result<Value, PipelineError> {
    let bytes = checkpoint.read(INDEX)?;
    let mut index: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|source| {
        PipelineError::Checkpoint(CheckpointError::Json {
            origin: checkpoint.name_of(INDEX),
            source,
        })
    })?;
    index.remove(Component::ControlNet.folder());
    let mut keys = match index.remove("_sana") {
        Some(Value::Object(keys)) => keys,
        _ => Map::new(),
    };
    let name = checkpoint.variant_name()?;
    let name = name.unwrap_or_else(|| checkpoint.pipeline_class().to_owned());
    let name = name
        .split_once(WITH)
        .map_or(name.as_str(), |(name, _)| name);
    let blocks = plan.config().num_layers;
    let name = format!("{name}{WITH}{blocks} blocks");
    keys.insert("variant".to_owned(), name.into());
    if is_clamped(checkpoint, plan)? {
        keys.insert("f16_clamp".to_owned(), true.into());
    }
    index.insert("_sana".to_owned(), keys.into());
    Ok(index.into())
}

/// Whether the new transformer is loaded with the limit of f16, which its files do not show.
fn is_clamped(checkpoint: &Checkpoint, plan: &DepthPlan) -> Result<bool, PipelineError> {
    Ok(checkpoint.f16_clamp()? == F16Clamp::On && plan.config().qk_norm.is_none())
}

/// The names of a component's files.
pub(super) fn names(checkpoint: &Checkpoint, component: Component) -> Vec<String> {
    match checkpoint.folder() {
        Some(source) => file_names(&source.join(component.folder())),
        None => names_built_in(component),
    }
}

#[cfg(feature = "scenes-model")]
fn names_built_in(component: Component) -> Vec<String> {
    let files = crate::checkpoint::contents::built_in::files_of(component.folder());
    files.map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(feature = "scenes-model"))]
fn names_built_in(_: Component) -> Vec<String> {
    Vec::new()
}

/// Copies the files of a component.
pub(super) fn copy(
    checkpoint: &Checkpoint,
    component: Component,
    folder: &Path,
) -> Result<(), PipelineError> {
    let to = create_folder(folder, component)?;
    let Some(source) = checkpoint.folder() else {
        return copy_built_in(component, &to);
    };
    let from = source.join(component.folder());
    let read = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PipelineError::Read { path, source }
    };
    for entry in fs::read_dir(&from).map_err(read(&from))? {
        let path = entry.map_err(read(&from))?.path();
        let (Some(name), true) = (path.file_name(), path.is_file()) else {
            continue;
        };
        let target = to.join(name);
        let mut file = File::open(&path).map_err(read(&path))?;
        write_whole(&target, |out| io::copy(&mut file, out).map(drop))
            .map_err(PipelineError::write(&target))?;
    }
    Ok(())
}

#[cfg(feature = "scenes-model")]
fn copy_built_in(component: Component, to: &Path) -> Result<(), PipelineError> {
    for (name, bytes) in crate::checkpoint::contents::built_in::files_of(component.folder()) {
        let target = to.join(name);
        write_whole(&target, |out| io::Write::write_all(out, bytes))
            .map_err(PipelineError::write(&target))?;
    }
    Ok(())
}

#[cfg(not(feature = "scenes-model"))]
fn copy_built_in(_: Component, _: &Path) -> Result<(), PipelineError> {
    Err(PipelineError::Checkpoint(CheckpointError::NoBuiltIn {
        needs: "a copy of its components",
    }))
}
