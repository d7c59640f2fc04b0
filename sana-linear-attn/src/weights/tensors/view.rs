//! Weights made of others: tensors of other formats, other names, values that are computed.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::Dtype;

use super::{Entry, Weights};
use crate::weights::encoded::{Encoded, EncodedRows, Rows, Slice, bitsandbytes, gguf};
use crate::weights::error::WeightError;
use crate::weights::file::storage::Storage;

/// A tensor of [`Weights::row_shares`]: one of `parts` equal shares of the rows of a stored tensor.
pub(crate) struct RowShare {
    pub name: String,
    pub stored: String,
    pub part: usize,
    pub parts: usize,
}

/// A tensor of [`Weights::with_tensors`].
pub(crate) enum NewTensor {
    /// One that is stored.
    Stored(String),
    /// One whose values are computed, in `dtype` when none is asked for.
    Encoded {
        shape: Vec<usize>,
        dtype: Dtype,
        source: Box<dyn Encoded>,
    },
}

impl Weights {
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

    /// Adds the tensors of a GGUF file, and its metadata.
    pub(super) fn add_gguf(&mut self, path: &Path, storage: Storage) -> Result<(), WeightError> {
        let error = |reason: String| WeightError::Gguf {
            path: path.to_path_buf(),
            reason,
        };
        let (tensors, metadata) = gguf::read(&storage).map_err(error)?;
        for tensor in tensors {
            let entry = match tensor.encoded {
                Some(encoded) => Entry::encoded(tensor.shape, tensor.dtype, encoded),
                None => Entry {
                    file: self.files.len(),
                    dtype: tensor.dtype,
                    shape: tensor.shape,
                    start: tensor.start,
                    end: tensor.end,
                    encoded: None,
                    packed: None,
                },
            };
            let name = tensor.name;
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(error(format!("tensor {name:?} is in two files")));
            }
        }
        self.metadata.extend(metadata);
        self.files.push(storage);
        Ok(())
    }

    /// Puts the parts of matrices that bitsandbytes quantized together.
    pub(super) fn fold_bitsandbytes(&mut self) -> Result<(), WeightError> {
        let folded = bitsandbytes::fold(self.names(), &|name| self.slice(name));
        let folded = folded.map_err(|reason| WeightError::Quantized {
            origin: self.origin.clone(),
            reason,
        })?;
        let usual = self.usual_float();
        for matrix in folded {
            for part in &matrix.parts {
                self.entries.remove(part);
            }
            let dtype = matrix.dtype.unwrap_or(usual);
            let entry = Entry::encoded(matrix.shape, dtype, EncodedRows::new(matrix.source));
            self.entries.insert(matrix.name, entry);
        }
        Ok(())
    }

    /// The same files with other tensors.
    pub(crate) fn with_tensors(&self, tensors: Vec<(String, NewTensor)>) -> Self {
        let entries = tensors.into_iter().filter_map(|(name, tensor)| {
            let entry = match tensor {
                NewTensor::Stored(stored) => self.entries.get(&stored)?.clone(),
                NewTensor::Encoded {
                    shape,
                    dtype,
                    source,
                } => Entry::encoded(shape, dtype, EncodedRows::new(source)),
            };
            Some((name, entry))
        });
        Self {
            entries: entries.collect(),
            ..self.clone()
        }
    }

    /// The same tensors under other names, those of float tensors plus a constant where that is not 0.
    ///
    /// # Errors
    /// [`WeightError::Corrupt`] when two tensors get the same name, [`WeightError::Quantized`] for a constant
    /// that is added to what is stored in another form.
    #[doc(hidden)]
    pub fn renamed(&self, rename: impl Fn(&str) -> (String, f32)) -> Result<Self, WeightError> {
        let mut entries = BTreeMap::new();
        for (name, entry) in &self.entries {
            let (renamed, plus) = rename(name);
            let entry = match (plus != 0.0).then(|| self.slice(name)) {
                None => entry.clone(),
                Some(None) => {
                    let stored = self.stored_dtype(name).unwrap_or_default();
                    return Err(WeightError::Quantized {
                        origin: self.origin.clone(),
                        reason: format!(
                            "{name:?} is stored as {stored}, expected f32, f16 or bf16"
                        ),
                    });
                }
                Some(Some(slice)) => {
                    let source = Rows {
                        slice,
                        place: |row| row,
                        plus,
                    };
                    let (shape, dtype) = (entry.shape.clone(), entry.dtype);
                    Entry::encoded(shape, dtype, EncodedRows::new(Box::new(source)))
                }
            };
            if entries.insert(renamed.clone(), entry).is_some() {
                return Err(WeightError::Corrupt {
                    path: self.origin.clone().into(),
                    reason: format!("tensor {renamed:?} is there twice"),
                });
            }
        }
        Ok(Self {
            entries,
            ..self.clone()
        })
    }

    /// The bytes of a tensor that is stored as it is; `None` for others.
    pub(crate) fn slice(&self, name: &str) -> Option<Slice> {
        let entry = self
            .entries
            .get(name)
            .filter(|entry| entry.encoded.is_none() && entry.packed.is_none())?;
        Some(Slice {
            storage: self.files.get(entry.file)?.clone(),
            start: entry.start,
            end: entry.end,
            dtype: entry.dtype,
            shape: entry.shape.clone(),
        })
    }

    /// The float dtype that most tensors have, or else bf16.
    fn usual_float(&self) -> Dtype {
        let floats = [Dtype::BF16, Dtype::F16, Dtype::F32];
        let count = |dtype: &Dtype| {
            let entries = self.entries.values();
            entries.filter(|entry| entry.dtype == *dtype).count()
        };
        // The last of equal ones would be taken.
        let most = floats.iter().rev().max_by_key(|dtype| count(dtype));
        most.copied().unwrap_or(Dtype::BF16)
    }
}
