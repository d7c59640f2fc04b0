//! Loading of modules.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};

use super::error::WeightError;
use super::names::{KeyMap, ModulePath, parameter_shapes};
use super::tensors::Weights;

/// Options of [`load_module`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Dtype of the loaded parameters; the file's own when `None`. What the module computes in is
    /// its own affair: see [`precision`](crate::precision).
    pub dtype: Option<DType>,
    /// Renaming of parameters.
    pub key_map: KeyMap,
    /// A prefix that the checkpoint's names may bear, such as `model.`; it is taken off when the
    /// names have it.
    pub strip_prefix: &'static str,
    /// Tensors that may be in the file without being in the model: names that start or end with
    /// one of these.
    pub ignore: &'static [&'static str],
}

/// Loads every parameter of a module from `weights`.
///
/// # Errors
/// When tensors are missing, unexpected or of another shape: one error with all their names. The
/// check runs on the headers, before anything is allocated.
pub fn load_module<M: Module>(
    module: M,
    weights: &Weights,
    options: &LoadOptions,
    device: &Device,
) -> Result<M, WeightError> {
    load_all_but(module, weights, options, &BTreeSet::new(), device)
}

/// As [`load_module`], but for the parameters of these names of the checkpoint without prefix, which
/// are checked and stay as they are.
pub(super) fn load_all_but<M: Module>(
    module: M,
    weights: &Weights,
    options: &LoadOptions,
    kept: &BTreeSet<String>,
    device: &Device,
) -> Result<M, WeightError> {
    let names = checked_names(&module, weights, options)?;
    let mut loader = Loader {
        path: ModulePath::default(),
        names,
        kept,
        weights,
        options,
        device,
        error: None,
    };
    let module = module.map(&mut loader);
    match loader.error {
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Checks that [`load_module`] can load every parameter of a module from `weights`, by headers
/// alone: nothing is allocated, whatever the size.
///
/// # Errors
/// As [`load_module`].
pub fn check_module<M: Module>(
    module: &M,
    weights: &Weights,
    options: &LoadOptions,
) -> Result<(), WeightError> {
    checked_names(module, weights, options).map(drop)
}

/// The names of the checkpoint by those without prefix, of weights that are the module's.
fn checked_names<'a, M: Module>(
    module: &M,
    weights: &'a Weights,
    options: &LoadOptions,
) -> Result<BTreeMap<&'a str, &'a str>, WeightError> {
    let names: BTreeMap<&str, &str> = weights
        .names()
        .map(|name| {
            (
                name.strip_prefix(options.strip_prefix).unwrap_or(name),
                name,
            )
        })
        .collect();
    let mut missing = Vec::new();
    let mut misshapen = Vec::new();
    let mut used = BTreeSet::new();
    for (key, shape) in parameter_shapes(module, options.key_map) {
        match names.get(key.as_str()) {
            None => missing.push(key),
            Some(&name) => {
                let found = weights.shape(name).unwrap_or_default();
                if found != shape.as_slice() {
                    misshapen.push((key, shape, found.to_vec()));
                } else if weights.dtype(name).is_none() && weights.packed(name).is_none() {
                    return Err(WeightError::Dtype {
                        name: key,
                        origin: weights.origin().to_owned(),
                        found: weights.stored_dtype(name).unwrap_or_default(),
                    });
                }
                used.insert(name);
            }
        }
    }
    let unexpected: Vec<String> = names
        .iter()
        .filter(|(_, name)| !used.contains(*name))
        .filter(|(key, _)| {
            !options
                .ignore
                .iter()
                .any(|part| key.starts_with(part) || key.ends_with(part))
        })
        .map(|(key, _)| (*key).to_owned())
        .collect();
    if !missing.is_empty() || !unexpected.is_empty() || !misshapen.is_empty() {
        return Err(WeightError::Mismatch {
            origin: weights.origin().to_owned(),
            missing,
            unexpected,
            misshapen,
        });
    }
    Ok(names)
}

struct Loader<'a> {
    path: ModulePath,
    names: BTreeMap<&'a str, &'a str>,
    kept: &'a BTreeSet<String>,
    weights: &'a Weights,
    options: &'a LoadOptions,
    device: &'a Device,
    error: Option<WeightError>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let key = self.options.key_map.to_checkpoint(&self.path.join());
        if self.kept.contains(&key) {
            return param;
        }
        let name = self.names[key.as_str()];
        let dtype = self
            .options
            .dtype
            .or(self.weights.dtype(name))
            .unwrap_or(DType::F32);
        match self.weights.tensor::<D>(name, dtype, self.device) {
            Ok(tensor) => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}
