use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Device};
use safetensors::tensor::Dtype;

use crate::layers::QuantizedWeight;

use super::encoded::EncodedRows;
use super::error::WeightError;
use crate::weights::file::container::Container;
use crate::weights::file::folder::{candidates, file_names, has_shards, shard_paths, variants_of};
use crate::weights::file::pytorch;
use crate::weights::file::read::Header;
use crate::weights::file::storage::Storage;

/// A tensor of [`Weights::row_shares`]: one of `parts` equal shares of the rows of a stored tensor.
pub(crate) struct RowShare {
    pub name: String,
    pub stored: String,
    pub part: usize,
    pub parts: usize,
}

/// The weight of a layer in another form than a tensor.
pub(super) trait Packed: fmt::Debug + Send + Sync {
    /// The name of the form, as inspection lists it among the dtypes.
    fn name(&self) -> &'static str;

    /// Bytes of all its tensors.
    fn bytes(&self) -> usize;

    /// Whether a low-rank term belongs to it.
    fn has_low_rank(&self) -> bool;

    /// Reads it onto a device.
    fn read(&self, weights: &Weights, device: &Device) -> Result<QuantizedWeight, WeightError>;
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub file: usize,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub start: usize,
    pub end: usize,
    /// Where its values are from, if they are not the bytes of a file. It then has the dtype in which it is
    /// loaded when none is asked for, and the bytes are those of that dtype.
    pub encoded: Option<EncodedRows>,
    /// What it is made of, for the weight of a layer in 8 or 4 bits. Then the shape is the weight's, and
    /// the rest has no meaning.
    pub packed: Option<Arc<dyn Packed>>,
}

impl Entry {
    pub fn encoded(shape: Vec<usize>, dtype: Dtype, encoded: EncodedRows) -> Self {
        let elements: usize = shape.iter().product();
        Self {
            file: 0,
            dtype,
            shape,
            start: 0,
            // Bytes for each first: bits of a large tensor have no place in 32.
            end: elements * (dtype.bitsize() / 8),
            encoded: Some(encoded),
            packed: None,
        }
    }

    fn bytes(&self) -> usize {
        match &self.packed {
            Some(packed) => packed.bytes(),
            None => self.end - self.start,
        }
    }

    fn float_dtype(&self) -> Option<DType> {
        match &self.packed {
            Some(_) => None,
            None => float_dtype(self.dtype),
        }
    }

    fn bytes_on_disk(&self) -> usize {
        match &self.encoded {
            // A share of the rows counts no more than what it stands for.
            Some(rows) => rows.source.stored_bytes().min(self.end - self.start),
            None => self.bytes(),
        }
    }

    fn stored_as(&self) -> String {
        match (&self.encoded, &self.packed) {
            (_, Some(packed)) => packed.name().to_owned(),
            (Some(rows), None) => rows.source.kind().to_owned(),
            (None, None) => dtype_name(self.dtype),
        }
    }
}

/// The tensors of a checkpoint part: one safetensors file, several shards, or bytes in memory.
/// Nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct Weights {
    pub(super) origin: String,
    pub(super) files: Vec<Storage>,
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Weights {
    /// Maps one safetensors file, or opens a PyTorch checkpoint (`.pth`, `.pt`, `.bin`). Of a
    /// PyTorch file the tensors alone are read, each when it is loaded; no code in it is run.
    /// Where it has a dictionary `state_dict`, or else `state_dict_ema`, that one is read.
    ///
    /// Tensors of a GGUF file, and matrices that bitsandbytes quantized, are those that they stand for:
    /// floats, computed when they are loaded.
    ///
    /// # Errors
    /// When the file cannot be opened or is of another kind. The file must not be changed
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
    /// transformers. Without `variant` the plain names come first, then the variant that is the only
    /// one there; quantized ones do not count. An index whose shards are not there comes last.
    ///
    /// # Errors
    /// When no such file exists, a shard is missing, or a file is not valid safetensors.
    pub fn open_folder(
        folder: &Path,
        stem: &str,
        variant: Option<&str>,
    ) -> Result<Self, WeightError> {
        let present = file_names(folder);
        let is_whole = |index: &str| has_shards(&folder.join(index));
        let candidates = candidates(stem, variant, &present, &is_whole);
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
            variants: variants_of(stem, &present, &is_whole),
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
        let storage = Storage::from(bytes.into());
        match Container::of(storage.as_slice()) {
            Some(Container::Gguf) => weights.add_gguf(Path::new(origin), storage)?,
            _ => weights.add(Path::new(origin), storage)?,
        }
        weights.fold_bitsandbytes()?;
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

    /// Opens files that hold the tensors of one component together.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), and when two of them have a tensor of the same name.
    #[doc(hidden)]
    pub fn open_files(origin: String, paths: &[PathBuf]) -> Result<Self, WeightError> {
        let mut weights = Self::empty(origin);
        for path in paths {
            let storage = Storage::map(path).map_err(|source| WeightError::Io {
                path: path.clone(),
                source,
            })?;
            match Container::of(storage.as_slice()) {
                Some(Container::Gguf) => weights.add_gguf(path, storage)?,
                Some(file) if file.may_be_pytorch() => {
                    weights.add_pytorch(path, storage.as_slice().len())?;
                }
                _ => weights.add(path, storage)?,
            }
        }
        weights.fold_bitsandbytes()?;
        Ok(weights)
    }

    fn add_pytorch(&mut self, path: &Path, file_bytes: usize) -> Result<(), WeightError> {
        for tensor in pytorch::tensors(path, file_bytes)? {
            let entry = Entry {
                file: self.files.len(),
                dtype: tensor.dtype,
                shape: tensor.shape,
                start: 0,
                end: tensor.bytes,
                encoded: None,
                packed: None,
            };
            if self.entries.insert(tensor.name.clone(), entry).is_some() {
                return Err(WeightError::Corrupt {
                    path: path.to_path_buf(),
                    reason: format!("tensor {:?} is in two shards", tensor.name),
                });
            }
            self.files.push(tensor.storage);
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, storage: Storage) -> Result<(), WeightError> {
        let corrupt = |reason: String| WeightError::Corrupt {
            path: path.to_path_buf(),
            reason,
        };
        let header = Header::read(storage.as_slice());
        let header = header.map_err(|reason| match Container::of(storage.as_slice()) {
            Some(container) => container.error(path),
            None => corrupt(reason),
        })?;
        let file = self.files.len();
        for tensor in header.tensors {
            let entry = Entry {
                file,
                dtype: tensor.dtype,
                shape: tensor.shape,
                start: tensor.start,
                end: tensor.end,
                encoded: None,
                packed: None,
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
                    return Err(corrupt(format!("tensor {name:?} is {shards}")));
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
            if stored.packed.is_some() && share.parts > 1 {
                return None;
            }
            let mut shape = stored.shape.clone();
            let rows = shape.first_mut()?;
            if !rows.is_multiple_of(share.parts) || share.part >= share.parts {
                return None;
            }
            *rows /= share.parts;
            let length = (stored.end - stored.start) / share.parts;
            let start = stored.start + share.part * length;
            let mut encoded = stored.encoded.clone();
            if let Some(encoded) = &mut encoded {
                encoded.first += share.part * *rows;
            }
            Some(Entry {
                shape,
                start,
                end: start + length,
                encoded,
                packed: stored.packed.clone(),
                ..*stored
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
        self.entries.get(name).and_then(Entry::float_dtype)
    }

    /// Dtype of a float tensor, or why it has none.
    pub(crate) fn checked_dtype(&self, name: &str) -> Result<DType, WeightError> {
        let origin = self.origin.clone();
        let name = name.to_owned();
        let Some(entry) = self.entries.get(&name) else {
            return Err(WeightError::NoTensor { name, origin });
        };
        entry.float_dtype().ok_or_else(|| WeightError::Dtype {
            name,
            origin,
            found: entry.stored_as(),
        })
    }

    /// Name of what a tensor of any kind is stored as, such as `f16`, `u8` or `nf4`.
    #[doc(hidden)]
    pub fn stored_dtype(&self, name: &str) -> Option<String> {
        self.entries.get(name).map(Entry::stored_as)
    }

    /// A text of the header's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The form of a weight that is not stored as a tensor, such as `int8`: its dtype is `None`, its
    /// shape the weight's.
    pub fn packed(&self, name: &str) -> Option<&'static str> {
        Some(self.packed_matrix(name)?.name())
    }

    pub(super) fn packed_matrix(&self, name: &str) -> Option<&dyn Packed> {
        self.entries.get(name)?.packed.as_deref()
    }

    /// The little-endian bytes of a tensor; `None` of one whose values are computed. Those of a PyTorch
    /// file stay in memory from now on.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let entry = self
            .entries
            .get(name)
            .filter(|entry| entry.encoded.is_none() && entry.packed.is_none())?;
        self.files[entry.file].get(entry.start..entry.end)
    }

    /// Number of bytes of a tensor in its dtype; nothing is read for it.
    pub fn byte_len(&self, name: &str) -> Option<usize> {
        self.entries.get(name).map(Entry::bytes)
    }

    /// Bytes of all tensors together, as they are stored.
    pub fn total_bytes(&self) -> usize {
        self.entries.values().map(Entry::bytes_on_disk).sum()
    }

    /// Elements of all tensors together.
    pub fn total_elements(&self) -> usize {
        self.entries
            .values()
            .map(|entry| entry.shape.iter().product::<usize>())
            .sum()
    }

    /// The dtypes that occur, with the number of tensors of each, by name. Quantized tensors are of what
    /// they are stored as, such as `nf4` or `q4_k`.
    pub fn dtypes(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.stored_as()).or_insert(0) += 1;
        }
        counts
    }

    /// The same files with a prefix taken off the names that have it.
    pub(crate) fn without_prefix(&self, prefix: &str) -> Self {
        let entries = self.entries.iter().map(|(name, entry)| {
            let name = name.strip_prefix(prefix).unwrap_or(name);
            (name.to_owned(), entry.clone())
        });
        Self {
            entries: entries.collect(),
            ..self.clone()
        }
    }
}

pub(super) fn dtype_name(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

pub(super) fn float_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}
