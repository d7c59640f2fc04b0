//! The values of tensors: in the file's memory, or read and converted.

use std::io;

use burn::tensor::{AllocationProperty, Bytes, DType, Device, Tensor, TensorData};

use super::upload::upload;
use super::{Entry, Weights};
use crate::precision::is_cpu;
use crate::weights::error::WeightError;
use crate::weights::widen::{Target, widened};

impl Weights {
    /// Reads one float tensor onto a device, converted to `dtype`. On the CPU it may stay where it
    /// is: see the [module](crate::weights).
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
        if let Some(packed) = self.packed_matrix(name) {
            let dense = packed.read(self, device)?.dense(dtype);
            let mut shape = [0; D];
            shape.copy_from_slice(&entry.shape);
            return Ok(dense.reshape(shape));
        }
        let stored = self.checked_dtype(name)?;
        // What trains is written to.
        let read_only = is_cpu(device) && !device.is_autodiff();
        let data = self.data(entry, stored, dtype, read_only)?;
        Ok(upload(data, dtype, device))
    }

    /// The values of a tensor as floats to be read, in its own dtype where `dtype` is `None`, in f32 of one
    /// in 8 or 4 bits.
    pub(crate) fn tensor_data(
        &self,
        name: &str,
        dtype: Option<DType>,
    ) -> Result<TensorData, WeightError> {
        #[cfg(feature = "flex")]
        if let Some(packed) = self.packed_matrix(name) {
            let dtype = dtype.unwrap_or(DType::F32);
            let dense = packed.read(self, &Device::flex())?.dense(dtype);
            let shape = self.entries[name].shape.clone();
            let bytes = dense.into_data().into_bytes();
            return Ok(TensorData::from_bytes(bytes, shape, dtype));
        }
        let stored = self.checked_dtype(name)?;
        self.data(&self.entries[name], stored, dtype.unwrap_or(stored), true)
    }

    /// The values of a tensor in `dtype`: where they are if they are only read, or in memory of their
    /// own.
    pub(in crate::weights) fn data(
        &self,
        entry: &Entry,
        stored: DType,
        dtype: DType,
        read_only: bool,
    ) -> Result<TensorData, WeightError> {
        if let Some(rows) = &entry.encoded {
            let data = rows.data(&entry.shape, dtype);
            return data.map_err(|source| self.unreadable(source));
        }
        let (storage, range) = (&self.files[entry.file], entry.start..entry.end);
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
        data.map_err(|source| self.unreadable(source))
    }

    fn unreadable(&self, source: io::Error) -> WeightError {
        WeightError::Io {
            path: self.origin.clone().into(),
            source,
        }
    }

    /// The values of some rows of a tensor that is [not stored as floats](Self::bytes), one after the
    /// other; `None` of others, and of rows that are not there.
    ///
    /// # Errors
    /// When they cannot be read.
    #[doc(hidden)]
    pub fn encoded_rows(
        &self,
        name: &str,
        rows: &[usize],
    ) -> Result<Option<Vec<f32>>, WeightError> {
        let entry = self.entries.get(name);
        let Some((entry, encoded)) = entry.and_then(|entry| Some((entry, entry.encoded.as_ref()?)))
        else {
            return Ok(None);
        };
        let columns: usize = entry.shape.iter().skip(1).product();
        let there = entry.shape.first().copied().unwrap_or(0);
        if columns == 0 || rows.iter().any(|&row| row >= there) {
            return Ok(None);
        }
        let mut values = vec![0.0; rows.len() * columns];
        for (&row, values) in rows.iter().zip(values.chunks_exact_mut(columns)) {
            let decoded = encoded.row(row, values);
            decoded.map_err(|source| self.unreadable(source))?;
        }
        Ok(Some(values))
    }

    /// The dtype of a tensor as floats: its own, or f32 of one in 8 or 4 bits; or why it has none.
    pub(crate) fn dtype_of_floats(&self, name: &str) -> Result<DType, WeightError> {
        match self.packed(name) {
            Some(_) => Ok(DType::F32),
            None => self.checked_dtype(name),
        }
    }

    /// Shows the little-endian bytes of a float tensor, and their dtype, for a while: f32 where its values are
    /// computed. `None` where there is no such tensor or it cannot be read.
    #[doc(hidden)]
    pub fn with_floats<T>(&self, name: &str, show: impl FnOnce(&[u8], DType) -> T) -> Option<T> {
        let entry = self.entries.get(name)?;
        if entry.encoded.is_some() || entry.packed.is_some() {
            let data = self.tensor_data(name, Some(DType::F32)).ok()?;
            return Some(show(data.as_bytes(), DType::F32));
        }
        let dtype = self.dtype(name)?;
        Some(show(self.bytes(name)?, dtype))
    }

    /// Whether a low-rank term belongs to a weight of a layer in [another form](Self::packed).
    #[doc(hidden)]
    pub fn has_low_rank(&self, name: &str) -> bool {
        self.packed_matrix(name)
            .is_some_and(|packed| packed.has_low_rank())
    }
}

/// A copy at a place that suits its elements.
fn copied(bytes: &[u8], dtype: DType) -> Bytes {
    match dtype.size() {
        1 => Bytes::from_bytes_vec(bytes.to_vec()),
        2 => Bytes::from_elems(elements(bytes, u16::from_ne_bytes)),
        _ => Bytes::from_elems(elements(bytes, f32::from_ne_bytes)),
    }
}

fn elements<const N: usize, T>(bytes: &[u8], from_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().copied().map(from_bytes).collect()
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

    fn data(weights: &Weights, name: &str, dtype: DType, read_only: bool) -> TensorData {
        let entry = &weights.entries[name];
        let stored = weights.dtype(name).unwrap();
        weights.data(entry, stored, dtype, read_only).unwrap()
    }

    /// A parameter that is only read, as on the CPU, is the file's own bytes, unless it trains, changes its dtype or would
    /// stand at an odd address.
    #[test]
    fn parameters_stay_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for (padding, borrows) in [(0, true), (1, false)] {
            let path = folder.path().join(format!("{padding}.safetensors"));
            std::fs::write(&path, file(padding)).unwrap();
            let mapped = Weights::open_file(&path).unwrap();
            for (name, dtype) in [("half", DType::BF16), ("full", DType::F32)] {
                let own = mapped.bytes(name).unwrap();
                let ours = data(&mapped, name, dtype, true);
                assert_eq!(ours.as_bytes(), own);
                assert_eq!(ours.as_bytes().as_ptr() == own.as_ptr(), borrows, "{name}");
                let trains = data(&mapped, name, dtype, false);
                assert_eq!(trains.as_bytes(), own);
                assert_ne!(trains.as_bytes().as_ptr(), own.as_ptr(), "{name}");
            }
            let wide = data(&mapped, "half", DType::F32, true);
            let kept = data(&mapped, "half", DType::BF16, true);
            assert_eq!(wide, kept.convert_dtype(DType::F32));
            let other = data(&mapped, "full", DType::F16, true);
            assert_eq!(other.dtype(), DType::F16);
        }
    }
}
