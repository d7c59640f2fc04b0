//! The tensors of a checkpoint component: where each one is, and what it is stored as.

mod open;
mod upload;
mod values;
pub(super) mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use safetensors::tensor::Dtype;

use super::encoded::EncodedRows;
use super::error::WeightError;
use super::file::storage::Storage;
use crate::layers::QuantizedWeight;

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
