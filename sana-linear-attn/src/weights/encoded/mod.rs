//! Tensors that other programs stored in another form than plain floats. Their values are computed
//! when they are loaded, rows at a time, from the mapped file: nothing but the result is allocated.

pub(in crate::weights) mod bitsandbytes;
pub(in crate::weights) mod gguf;
mod slice;
pub(crate) mod svdquant;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Bytes, DType, TensorData};
use half::{bf16, f16};
#[cfg(feature = "flex")]
use rayon::prelude::*;

pub(crate) use slice::{Rows, Slice};

/// Values of one task, about: 256 KiB of f32.
const CHUNK: usize = 1 << 16;

/// A tensor as rows of values, whatever they are stored as. The first axis counts the rows.
pub(crate) trait Encoded: fmt::Debug + Send + Sync {
    /// What it is stored as, such as `nf4`.
    fn kind(&self) -> &'static str;

    /// Bytes that it takes in its files, with scales and tables.
    fn stored_bytes(&self) -> usize;

    /// Rows that share work, so that they are best decoded together.
    fn rows_at_once(&self) -> usize {
        1
    }

    /// The values of some rows, one after the other.
    ///
    /// # Errors
    /// When they cannot be read, or are not values at all.
    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()>;
}

/// Some of the rows of an encoded tensor.
#[derive(Debug, Clone)]
pub(in crate::weights) struct EncodedRows {
    pub source: Arc<dyn Encoded>,
    /// The first row.
    pub first: usize,
}

impl EncodedRows {
    pub fn new(source: Box<dyn Encoded>) -> Self {
        Self {
            source: source.into(),
            first: 0,
        }
    }

    /// The values of `shape` in `dtype`: f32, f16 or bf16, each rounded once.
    pub fn data(&self, shape: &[usize], dtype: DType) -> io::Result<TensorData> {
        let bytes = match dtype {
            DType::BF16 => Bytes::from_elems(self.values(shape, bf16::from_f32)?),
            DType::F16 => Bytes::from_elems(self.values(shape, f16::from_f32)?),
            _ => Bytes::from_elems(self.values(shape, |value| value)?),
        };
        let stored = match dtype {
            DType::BF16 | DType::F16 => dtype,
            _ => DType::F32,
        };
        let data = TensorData::from_bytes(bytes, shape.to_vec(), stored);
        Ok(match stored == dtype {
            true => data,
            false => data.convert_dtype(dtype),
        })
    }

    /// One row.
    pub fn row(&self, row: usize, values: &mut [f32]) -> io::Result<()> {
        let row = self.first + row;
        self.source.decode(row..row + 1, values)
    }

    fn values<T: Clone + Default + Send>(
        &self,
        shape: &[usize],
        convert: impl Fn(f32) -> T + Sync,
    ) -> io::Result<Vec<T>> {
        let rows = shape.first().copied().unwrap_or(1);
        let columns: usize = shape.iter().skip(1).product();
        let mut values = vec![T::default(); rows * columns];
        if values.is_empty() {
            return Ok(values);
        }
        let at_once = self.source.rows_at_once().max(1);
        let rows_of_chunk = (CHUNK / columns / at_once).max(1) * at_once;
        let decode = |(index, part): (usize, &mut [T])| {
            let start = self.first + index * rows_of_chunk;
            let mut decoded = vec![0.0; part.len()];
            let end = start + part.len() / columns;
            self.source.decode(start..end, &mut decoded)?;
            for (value, &decoded) in part.iter_mut().zip(&decoded) {
                *value = convert(decoded);
            }
            Ok(())
        };
        let size = rows_of_chunk * columns;
        #[cfg(feature = "flex")]
        let done: io::Result<()> = values.par_chunks_mut(size).enumerate().try_for_each(decode);
        #[cfg(not(feature = "flex"))]
        let done: io::Result<()> = values.chunks_mut(size).enumerate().try_for_each(decode);
        done.map(|()| values)
    }
}

/// The error of bytes that are not what they should be.
fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}
