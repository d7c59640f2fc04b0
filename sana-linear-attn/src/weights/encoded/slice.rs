//! Bytes of a tensor, and plain floats in another order.

use std::io;
use std::ops::Range;

use half::{bf16, f16};
use safetensors::tensor::Dtype;

use super::{Encoded, invalid};
use crate::weights::file::storage::Storage;

/// The bytes of a stored tensor. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub(in crate::weights) storage: Storage,
    pub(in crate::weights) start: usize,
    pub(in crate::weights) end: usize,
    pub(in crate::weights) dtype: Dtype,
    pub(in crate::weights) shape: Vec<usize>,
}

impl Slice {
    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Elements that it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Name of the dtype of a float tensor.
    pub fn float_kind(&self) -> &'static str {
        match self.dtype {
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
            _ => "f32",
        }
    }

    /// Shows some of its bytes for a while.
    pub fn read<T>(&self, range: Range<usize>, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        if range.end > self.len() || range.start > range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let range = self.start + range.start..self.start + range.end;
        self.storage.read(range, read)
    }

    /// Elements of a float tensor, or of an 8-bit one as numbers.
    pub fn floats(&self, elements: Range<usize>) -> io::Result<Vec<f32>> {
        let size = self.dtype.bitsize() / 8;
        let bytes = elements.start * size..elements.end * size;
        self.read(bytes, |bytes| floats(bytes, self.dtype))?
    }

    /// All elements, of which there are few.
    pub fn all(&self) -> io::Result<Vec<f32>> {
        self.floats(0..self.elements())
    }
}

/// Little-endian numbers as f32, which changes none of them.
fn floats(bytes: &[u8], dtype: Dtype) -> io::Result<Vec<f32>> {
    Ok(match dtype {
        Dtype::F32 => numbers(bytes, f32::from_le_bytes),
        Dtype::F16 => numbers(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => numbers(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::U8 => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        Dtype::I8 => bytes.iter().map(|&byte| f32::from(byte as i8)).collect(),
        other => return Err(invalid(format!("{other:?} in place of floats"))),
    })
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().copied().map(number).collect()
}

/// Plain floats, rows of which are taken from elsewhere, plus a constant.
pub(crate) struct Rows<F> {
    pub slice: Slice,
    /// Which stored row a row is.
    pub place: F,
    pub plus: f32,
}

impl<F> std::fmt::Debug for Rows<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}

impl<F: Fn(usize) -> usize + Send + Sync> Encoded for Rows<F> {
    fn kind(&self) -> &'static str {
        self.slice.float_kind()
    }

    fn stored_bytes(&self) -> usize {
        self.slice.len()
    }

    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        let columns = (values.len() / rows.len().max(1)).max(1);
        let places: Vec<usize> = rows.map(&self.place).collect();
        let (Some(&first), Some(&last)) = (places.iter().min(), places.iter().max()) else {
            return Ok(());
        };
        // Read at once: they are near each other.
        let stored = self.slice.floats(first * columns..(last + 1) * columns)?;
        for (place, values) in places.into_iter().zip(values.chunks_exact_mut(columns)) {
            let stored = &stored[(place - first) * columns..][..columns];
            for (value, stored) in values.iter_mut().zip(stored) {
                *value = stored + self.plus;
            }
        }
        Ok(())
    }
}
