use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::path::{Path, PathBuf};

use burn::tensor::{AllocationProperty, Bytes, DType, Device, Tensor, TensorData};
use safetensors::tensor::Dtype;

use super::container::Container;
use super::error::WeightError;
use super::folder::{file_names, shard_paths, weight_file_names};
use super::pytorch;
use super::read::Header;
use super::storage::Storage;
use super::widen::{Target, widened};
use crate::precision::is_cpu;

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
    /// Maps one safetensors file, or opens a PyTorch checkpoint (`.pth`, `.pt`, `.bin`). Of a
    /// PyTorch file the tensors alone are read, each when it is loaded; no code in it is run.
    /// Where it has a dictionary `state_dict`, or else `state_dict_ema`, that one is read.
    ///
    /// # Errors
    /// When the file cannot be opened or is neither. The file must not be changed
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
            let file = Container::of(storage.as_slice());
            if file.is_some_and(Container::may_be_pytorch) {
                weights.add_pytorch(path, storage.as_slice().len())?;
            } else {
                weights.add(path, storage)?;
            }
        }
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
            found: dtype_name(entry.dtype),
        })
    }

    /// Name of the dtype of a tensor of any kind.
    pub(super) fn stored_dtype(&self, name: &str) -> Option<String> {
        self.entries.get(name).map(|entry| dtype_name(entry.dtype))
    }

    /// A text of the header's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The little-endian bytes of a tensor. Those of a PyTorch file stay in memory from now on.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let entry = self.entries.get(name)?;
        self.files[entry.file].get(entry.start..entry.end)
    }

    /// Number of bytes of a tensor; nothing is read for it.
    pub fn byte_len(&self, name: &str) -> Option<usize> {
        self.entries.get(name).map(|entry| entry.end - entry.start)
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
            *counts.entry(dtype_name(entry.dtype)).or_insert(0) += 1;
        }
        counts
    }

    /// Reads one float tensor onto a device, converted to `dtype`. On the CPU it may stay where it
    /// is: see the [module](super).
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
            found: dtype_name(entry.dtype),
        })?;
        let data = self.data(entry, stored, dtype, device)?;
        Ok(Tensor::from_data(data, (device, dtype)))
    }

    /// The values of a float tensor, in its own dtype where `dtype` is `None`.
    pub(crate) fn tensor_data(
        &self,
        name: &str,
        dtype: Option<DType>,
        device: &Device,
    ) -> Result<TensorData, WeightError> {
        let stored = self.checked_dtype(name)?;
        self.data(&self.entries[name], stored, dtype.unwrap_or(stored), device)
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

    /// The values of a tensor in `dtype`: where they are, or in memory of their own.
    fn data(
        &self,
        entry: &Entry,
        stored: DType,
        dtype: DType,
        device: &Device,
    ) -> Result<TensorData, WeightError> {
        let (storage, range) = (&self.files[entry.file], entry.start..entry.end);
        // What trains is written to.
        let read_only = is_cpu(device) && !device.is_autodiff();
        if stored == dtype
            && read_only
            && let Some(bytes) = storage.shared(range.clone(), stored.size())
        {
            let bytes = Bytes::from_shared(bytes, AllocationProperty::File);
            return Ok(TensorData::from_bytes(bytes, entry.shape.clone(), stored));
        }
        let target = if read_only {
            Target::Pages
        } else {
            Target::Heap
        };
        let data = storage.read(range, |bytes| {
            let shape = entry.shape.clone();
            let wide = (dtype == DType::F32).then(|| widened(bytes, stored, target));
            match wide.flatten() {
                Some(values) => TensorData::from_bytes(values, shape, dtype),
                None => TensorData::from_bytes(copied(bytes, stored), shape, stored)
                    .convert_dtype(dtype),
            }
        });
        data.map_err(|source| WeightError::Io {
            path: self.origin.clone().into(),
            source,
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

fn dtype_name(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

fn float_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
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
        let stored = weights.dtype(name).unwrap();
        weights.data(entry, stored, dtype, device).unwrap()
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
