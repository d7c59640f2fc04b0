//! Strict loading and saving of safetensors checkpoints.
//!
//! A file is mapped, its header checked, and every name and shape compared with the module's
//! parameters before anything is allocated. Missing, unexpected and mis-shaped tensors are one
//! error that lists them.
//!
//! On the CPU backend `flex` a parameter that keeps its file's dtype is not copied: it stays where
//! it is in the mapped file, or in the bytes given, for as long as the parameter lives. Operations
//! never write to it. Parameters on an autodiff device, on another device, of another dtype, or at
//! an odd place in the file have memory of their own.

mod storage;

mod read;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};

use self::read::{Header, LARGEST_INDEX, shard_names};

pub use self::read::{LARGEST_CONFIG, read_bounded, read_text_bounded};

use crate::precision::is_cpu;
use crate::widen::{Target, widened};
use storage::Storage;

/// What can go wrong with a checkpoint's weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A file could not be opened, read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No weight file of the expected names in a folder.
    #[error("no weights in {folder}: looked for {}", expected.join(", "))]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// File names that were looked for.
        expected: Vec<String>,
    },
    /// A file that is not valid safetensors: truncated, corrupt, or of an unsupported dtype.
    #[error("{path} is not a valid safetensors file: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        reason: String,
    },
    /// An index of shards that cannot be used.
    #[error("bad shard index {path}: {reason}")]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensors of a checkpoint are not those of the model.
    #[error(
        "{origin} does not fit the model{}",
        mismatch_lists(missing, unexpected, misshapen)
    )]
    Mismatch {
        /// Where the weights come from.
        origin: String,
        /// Tensors the model needs and the checkpoint lacks.
        missing: Vec<String>,
        /// Tensors of the checkpoint that the model does not have.
        unexpected: Vec<String>,
        /// Tensors of another shape: name, expected, found.
        misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    },
    /// A tensor asked for by name is not there.
    #[error("no tensor {name:?} in {origin}")]
    NoTensor {
        /// Its name.
        name: String,
        /// Where it was looked for.
        origin: String,
    },
    /// A tensor whose dtype is not a float of a supported kind.
    #[error("tensor {name:?} in {origin} has dtype {found}, expected f32, f16 or bf16")]
    Dtype {
        /// Its name.
        name: String,
        /// Where it was found.
        origin: String,
        /// The dtype found.
        found: String,
    },
}

pub(crate) fn mismatch_lists(
    missing: &[String],
    unexpected: &[String],
    misshapen: &[(String, Vec<usize>, Vec<usize>)],
) -> String {
    let mut text = String::new();
    if !missing.is_empty() {
        text += &format!("; missing {}: {}", missing.len(), missing.join(", "));
    }
    if !unexpected.is_empty() {
        text += &format!(
            "; unexpected {}: {}",
            unexpected.len(),
            unexpected.join(", ")
        );
    }
    if !misshapen.is_empty() {
        let items: Vec<String> = misshapen
            .iter()
            .map(|(name, expected, found)| format!("{name} expected {expected:?} found {found:?}"))
            .collect();
        text += &format!("; wrong shape {}: {}", misshapen.len(), items.join(", "));
    }
    text
}

/// A tensor of [`Weights::row_shares`]: one of `parts` equal shares of the rows of a stored tensor.
pub(crate) struct RowShare {
    pub name: String,
    pub stored: String,
    pub part: usize,
    pub parts: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// The tensors of a checkpoint part: one safetensors file, several shards, or bytes in memory.
/// Nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct Weights {
    origin: String,
    files: Vec<Storage>,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

impl Weights {
    /// Maps one safetensors file.
    ///
    /// # Errors
    /// When the file cannot be opened or is not valid safetensors. The file must not be changed
    /// while it is mapped, which it is for as long as these weights live, and on the CPU the
    /// parameters loaded from them. Replacing it, as saving does, is safe where the system allows
    /// it. Give [`from_bytes`](Self::from_bytes) the file's content to be independent of it.
    pub fn open_file(path: &Path) -> Result<Self, WeightError> {
        Self::open_files(path.display().to_string(), &[path.to_path_buf()])
    }

    /// Opens the weights of a folder in the published layout: `STEM.safetensors`,
    /// `STEM.VARIANT.safetensors`, or shards listed by `STEM.safetensors.index.json`
    /// (`STEM.safetensors.index.VARIANT.json`, `STEM.VARIANT.safetensors.index.json`).
    /// `stem` is `diffusion_pytorch_model` for networks of diffusers and `model` for those of
    /// transformers. Without `variant` the plain names come first, then a single variant that
    /// happens to be the only weights there.
    ///
    /// # Errors
    /// When no such file exists, a shard is missing, or a file is not valid safetensors.
    pub fn open_folder(
        folder: &Path,
        stem: &str,
        variant: Option<&str>,
    ) -> Result<Self, WeightError> {
        let candidates = weight_file_names(stem, variant, &file_names(folder));
        for name in &candidates {
            let path = folder.join(name);
            if path.is_file() {
                return if name.ends_with(".json") {
                    let shards = shard_paths(&path)?;
                    Self::open_files(folder.display().to_string(), &shards)
                } else {
                    Self::open_file(&path)
                };
            }
        }
        Err(WeightError::NoWeights {
            folder: folder.to_path_buf(),
            expected: candidates,
        })
    }

    /// Weights from bytes, for example of a checkpoint built into a program. `origin` names them
    /// in errors.
    ///
    /// # Errors
    /// When the bytes are not valid safetensors.
    pub fn from_bytes(
        origin: &str,
        bytes: impl Into<Cow<'static, [u8]>>,
    ) -> Result<Self, WeightError> {
        let mut weights = Self::empty(origin.to_owned());
        weights.add(Path::new(origin), Storage::from(bytes.into()))?;
        Ok(weights)
    }

    fn empty(origin: String) -> Self {
        Self {
            origin,
            files: Vec::new(),
            entries: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    fn open_files(origin: String, paths: &[PathBuf]) -> Result<Self, WeightError> {
        let mut weights = Self::empty(origin);
        for path in paths {
            let storage = Storage::map(path).map_err(|source| WeightError::Io {
                path: path.clone(),
                source,
            })?;
            weights.add(path, storage)?;
        }
        Ok(weights)
    }

    fn add(&mut self, path: &Path, storage: Storage) -> Result<(), WeightError> {
        let corrupt = |reason: String| WeightError::Corrupt {
            path: path.to_path_buf(),
            reason,
        };
        let header = Header::read(storage.as_slice()).map_err(corrupt)?;
        let file = self.files.len();
        for tensor in header.tensors {
            let entry = Entry {
                file,
                dtype: tensor.dtype,
                shape: tensor.shape,
                start: tensor.start,
                end: tensor.end,
            };
            match self.entries.entry(tensor.name) {
                btree_map::Entry::Vacant(place) => place.insert(entry),
                btree_map::Entry::Occupied(other) => {
                    let shards = if other.get().file == file {
                        "twice in one file"
                    } else {
                        "in two shards"
                    };
                    let name = other.key();
                    return Err(corrupt(format!("tensor {name:?} stands {shards}")));
                }
            };
        }
        self.metadata.extend(header.metadata);
        self.files.push(storage);
        Ok(())
    }

    /// The same files with other tensors: shares of the rows of those that are stored. Rows lie one
    /// after the other, so that a share is a range of the bytes and nothing is copied. Tensors that
    /// are absent or whose rows do not divide are left out.
    pub(crate) fn row_shares(&self, shares: Vec<RowShare>) -> Self {
        let entry = |share: &RowShare| {
            let stored = self.entries.get(&share.stored)?;
            let mut shape = stored.shape.clone();
            let rows = shape.first_mut()?;
            if !rows.is_multiple_of(share.parts) || share.part >= share.parts {
                return None;
            }
            *rows /= share.parts;
            let length = (stored.end - stored.start) / share.parts;
            let start = stored.start + share.part * length;
            Some(Entry {
                shape,
                start,
                end: start + length,
                ..stored.clone()
            })
        };
        let entries = shares.into_iter().filter_map(|share| {
            let entry = entry(&share)?;
            Some((share.name, entry))
        });
        Self {
            entries: entries.collect(),
            ..self.clone()
        }
    }

    /// Where the weights come from: a path or the name given.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether a tensor of that name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Dtype of a float tensor; `None` when it is absent or not f32, f16 or bf16.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.entries
            .get(name)
            .and_then(|entry| float_dtype(entry.dtype))
    }

    /// Dtype of a float tensor, or why it has none.
    pub(crate) fn checked_dtype(&self, name: &str) -> Result<DType, WeightError> {
        let origin = self.origin.clone();
        let name = name.to_owned();
        let Some(entry) = self.entries.get(&name) else {
            return Err(WeightError::NoTensor { name, origin });
        };
        float_dtype(entry.dtype).ok_or_else(|| WeightError::Dtype {
            name,
            origin,
            found: format!("{:?}", entry.dtype).to_lowercase(),
        })
    }

    /// A text of the header's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The little-endian bytes of a tensor.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let entry = self.entries.get(name)?;
        Some(&self.files[entry.file].as_slice()[entry.start..entry.end])
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> usize {
        self.entries
            .values()
            .map(|entry| entry.end - entry.start)
            .sum()
    }

    /// Elements of all tensors together.
    pub fn total_elements(&self) -> usize {
        self.entries
            .values()
            .map(|entry| entry.shape.iter().product::<usize>())
            .sum()
    }

    /// The dtypes that occur, with the number of tensors of each, by name.
    pub fn dtypes(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.values() {
            *counts
                .entry(format!("{:?}", entry.dtype).to_lowercase())
                .or_insert(0) += 1;
        }
        counts
    }

    /// Reads one float tensor onto a device, converted to `dtype`. On the CPU it may stay where it
    /// is: see the [module](self).
    ///
    /// # Errors
    /// When it is absent, not a float tensor, or not of rank `D`.
    pub fn tensor<const D: usize>(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor<D>, WeightError> {
        let origin = || self.origin.clone();
        let entry = self
            .entries
            .get(name)
            .ok_or_else(|| WeightError::NoTensor {
                name: name.to_owned(),
                origin: origin(),
            })?;
        if entry.shape.len() != D {
            return Err(WeightError::Mismatch {
                origin: origin(),
                missing: Vec::new(),
                unexpected: Vec::new(),
                misshapen: vec![(name.to_owned(), vec![0; D], entry.shape.clone())],
            });
        }
        let stored = float_dtype(entry.dtype).ok_or_else(|| WeightError::Dtype {
            name: name.to_owned(),
            origin: origin(),
            found: format!("{:?}", entry.dtype).to_lowercase(),
        })?;
        let data = self.data(entry, stored, dtype, device);
        Ok(Tensor::from_data(data, (device, dtype)))
    }

    /// The values of a tensor in `dtype`: where they are, or in memory of their own.
    fn data(&self, entry: &Entry, stored: DType, dtype: DType, device: &Device) -> TensorData {
        let (storage, range) = (&self.files[entry.file], entry.start..entry.end);
        // What trains is written to.
        let read_only = is_cpu(device) && !device.is_autodiff();
        if stored == dtype
            && read_only
            && let Some(bytes) = storage.shared(range.clone(), stored.size())
        {
            let bytes = Bytes::from_shared(bytes, AllocationProperty::File);
            return TensorData::from_bytes(bytes, entry.shape.clone(), stored);
        }
        let target = if read_only {
            Target::Pages
        } else {
            Target::Heap
        };
        storage.read(range, |bytes| {
            let shape = entry.shape.clone();
            let wide = (dtype == DType::F32).then(|| widened(bytes, stored, target));
            match wide.flatten() {
                Some(values) => TensorData::from_bytes(values, shape, dtype),
                None => TensorData::from_bytes(copied(bytes, stored), shape, stored)
                    .convert_dtype(dtype),
            }
        })
    }
}

/// A copy at a place that suits its elements.
fn copied(bytes: &[u8], dtype: DType) -> Bytes {
    match dtype.size() {
        2 => Bytes::from_elems(elements(bytes, u16::from_ne_bytes)),
        _ => Bytes::from_elems(elements(bytes, f32::from_ne_bytes)),
    }
}

fn elements<const N: usize, T>(bytes: &[u8], from_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().copied().map(from_bytes).collect()
}

fn float_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// The names under which [`Weights::open_folder`] looks for weights in a folder that holds the
/// files `present`; the first that is there is opened.
pub fn weight_file_names(stem: &str, variant: Option<&str>, present: &[String]) -> Vec<String> {
    if let Some(variant) = variant {
        return vec![
            format!("{stem}.{variant}.safetensors"),
            format!("{stem}.safetensors.index.{variant}.json"),
            format!("{stem}.{variant}.safetensors.index.json"),
        ];
    }
    let mut names = vec![
        format!("{stem}.safetensors"),
        format!("{stem}.safetensors.index.json"),
    ];
    names.extend(only_variant(stem, present).cloned());
    names
}

fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// `STEM.VARIANT.safetensors` when exactly one such file is there.
fn only_variant<'a>(stem: &str, present: &'a [String]) -> Option<&'a String> {
    let prefix = format!("{stem}.");
    let mut found = present.iter().filter(|name| {
        name.strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".safetensors"))
            .is_some_and(|variant| !variant.contains('.'))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Paths of the shards an index lists, each once: files of the index's own folder, or symbolic
/// links there, which may lead anywhere, as those of the usual download caches do.
///
/// # Errors
/// When the index cannot be read, is no index, or names anything but plain files beside it.
pub fn shard_paths(path: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let bad = |reason: String| WeightError::Index {
        path: path.to_path_buf(),
        reason,
    };
    let text = read_text_bounded(path, LARGEST_INDEX).map_err(|source| WeightError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let shards = shard_names(&text).map_err(bad)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(shards.into_iter().map(|name| folder.join(name)).collect())
}

/// How parameter names become checkpoint names: `(ours, theirs)` replacements of dotted parts,
/// tried in order, the first that matches applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyMap(pub &'static [(&'static str, &'static str)]);

impl KeyMap {
    fn to_checkpoint(self, ours: &str) -> String {
        for (from, to) in self.0 {
            if ours.contains(from) {
                return ours.replacen(from, to, 1);
            }
        }
        ours.to_owned()
    }
}

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
    let names = checked_names(&module, weights, options)?;
    let mut loader = Loader {
        path: ModulePath::default(),
        names,
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
    let mut expected = ShapeVisitor {
        path: ModulePath::default(),
        shapes: Vec::new(),
    };
    module.visit(&mut expected);

    let mut missing = Vec::new();
    let mut misshapen = Vec::new();
    let mut used = BTreeSet::new();
    for (path, shape) in &expected.shapes {
        let key = options.key_map.to_checkpoint(path);
        match names.get(key.as_str()) {
            None => missing.push(key),
            Some(&name) => {
                let found = weights.shape(name).unwrap_or_default();
                if found != shape.as_slice() {
                    misshapen.push((key, shape.clone(), found.to_vec()));
                } else if weights.dtype(name).is_none() {
                    let entry = &weights.entries[name];
                    return Err(WeightError::Dtype {
                        name: key,
                        origin: weights.origin.clone(),
                        found: format!("{:?}", entry.dtype).to_lowercase(),
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
            origin: weights.origin.clone(),
            missing,
            unexpected,
            misshapen,
        });
    }
    Ok(names)
}

/// Options of [`save_module`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SaveOptions {
    /// Dtype on disk; the parameters' own when `None`.
    pub dtype: Option<DType>,
    /// Renaming of parameters, the same as for loading.
    pub key_map: KeyMap,
    /// Prefix of every name on disk.
    pub prefix: &'static str,
}

/// Writes every parameter of a module to one safetensors file with the checkpoint's names. The
/// file appears whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn save_module<M: Module>(
    module: &M,
    path: &Path,
    options: &SaveOptions,
) -> Result<(), WeightError> {
    let mut collector = Collector {
        path: ModulePath::default(),
        options,
        tensors: Vec::new(),
    };
    module.visit(&mut collector);
    write_tensors(path, collector.tensors)
}

/// Writes named tensors to one safetensors file, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_tensors(path: &Path, tensors: Vec<(String, TensorData)>) -> Result<(), WeightError> {
    let io = |source| WeightError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in &tensors {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            DType::I64 => Dtype::I64,
            other => {
                return Err(WeightError::Dtype {
                    name: name.clone(),
                    origin: path.display().to_string(),
                    found: format!("{other:?}").to_lowercase(),
                });
            }
        };
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
            .map_err(|error| io(std::io::Error::other(error)))?;
        views.push((name.as_str(), view));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    safetensors::serialize_to_file(views, Some(metadata), &partial)
        .map_err(|error| io(std::io::Error::other(error)))
        .and_then(|()| std::fs::rename(&partial, path).map_err(io))
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&partial);
        })
}

/// The dotted path of the parameter being visited: fields and list indices; options and enum
/// variants add nothing.
#[derive(Debug, Default)]
struct ModulePath(Vec<String>);

impl ModulePath {
    fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    fn join(&self) -> String {
        self.0.join(".")
    }
}

struct ShapeVisitor {
    path: ModulePath,
    shapes: Vec<(String, Vec<usize>)>,
}

impl ModuleVisitor for ShapeVisitor {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.shapes
            .push((self.path.join(), param.lazy_shape().to_vec()));
    }
}

/// Names and shapes of a module's parameters as a checkpoint has them. Allocates nothing.
pub fn parameter_shapes<M: Module>(module: &M, key_map: KeyMap) -> Vec<(String, Vec<usize>)> {
    let mut visitor = ShapeVisitor {
        path: ModulePath::default(),
        shapes: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor
        .shapes
        .into_iter()
        .map(|(path, shape)| (key_map.to_checkpoint(&path), shape))
        .collect()
}

struct Loader<'a> {
    path: ModulePath,
    names: BTreeMap<&'a str, &'a str>,
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

struct Collector<'a> {
    path: ModulePath,
    options: &'a SaveOptions,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = format!(
            "{}{}",
            self.options.prefix,
            self.options.key_map.to_checkpoint(&self.path.join())
        );
        let data = param.val().into_data();
        let data = match self.options.dtype {
            Some(dtype) => data.convert_dtype(dtype),
            None => data,
        };
        self.tensors.push((name, data));
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    /// A file whose header is padded to `padding` more bytes than it needs, with one tensor of each
    /// of two dtypes.
    fn file(padding: usize) -> Vec<u8> {
        let header = r#"{"half":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
            "full":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}"#;
        let header = format!("{header}{}", " ".repeat(padding + 8 - header.len() % 8));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend(0..20);
        bytes
    }

    fn data(weights: &Weights, name: &str, dtype: DType, device: &Device) -> TensorData {
        let entry = &weights.entries[name];
        weights.data(entry, weights.dtype(name).unwrap(), dtype, device)
    }

    /// On the CPU a parameter is the file's own bytes, unless it trains, changes its dtype or would
    /// stand at an odd address.
    #[test]
    fn parameters_stay_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let cpu = Device::flex();
        for (padding, borrows) in [(0, true), (1, false)] {
            let path = folder.path().join(format!("{padding}.safetensors"));
            std::fs::write(&path, file(padding)).unwrap();
            let mapped = Weights::open_file(&path).unwrap();
            for (name, dtype) in [("half", DType::BF16), ("full", DType::F32)] {
                let own = mapped.bytes(name).unwrap();
                let ours = data(&mapped, name, dtype, &cpu);
                assert_eq!(ours.as_bytes(), own);
                assert_eq!(ours.as_bytes().as_ptr() == own.as_ptr(), borrows, "{name}");
                let trains = data(&mapped, name, dtype, &cpu.clone().autodiff());
                assert_eq!(trains.as_bytes(), own);
                assert_ne!(trains.as_bytes().as_ptr(), own.as_ptr(), "{name}");
            }
            let wide = data(&mapped, "half", DType::F32, &cpu);
            let kept = data(&mapped, "half", DType::BF16, &cpu);
            assert_eq!(wide, kept.convert_dtype(DType::F32));
            let other = data(&mapped, "full", DType::F16, &cpu);
            assert_eq!(other.dtype(), DType::F16);
        }
    }
}
