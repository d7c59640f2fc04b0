//! Weights of files and of bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::path::{Path, PathBuf};

use super::{Entry, Weights};
use crate::weights::error::WeightError;
use crate::weights::file::container::Container;
use crate::weights::file::folder::{candidates, file_names, has_shards, shard_paths, variants_of};
use crate::weights::file::pytorch;
use crate::weights::file::read::Header;
use crate::weights::file::storage::Storage;

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
}
