//! GGUF, the file format of llama.cpp: metadata, descriptions of tensors, then their blocks.
//!
//! Own code, since a reader of files of strangers has to bound what it allocates by the file, and
//! the crates for this format take its counts on trust or come with a whole inference engine.

mod blocks;
mod header;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use safetensors::tensor::Dtype;

use super::{Encoded, EncodedRows, Slice};
use crate::weights::file::storage::Storage;
use blocks::{BlockType, Stored};
use header::Header;

/// A tensor of a file: where its bytes are, and how they become values if they are no floats.
pub(in crate::weights) struct GgufTensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub start: usize,
    pub end: usize,
    pub encoded: Option<EncodedRows>,
}

/// The tensors of a file, and its metadata.
///
/// # Errors
/// When it is damaged, or of a version or type that is not read.
pub(in crate::weights) fn read(
    storage: &Storage,
) -> Result<(Vec<GgufTensor>, BTreeMap<String, String>), String> {
    let header = Header::read(storage.as_slice())?;
    let tensors = header.tensors.into_iter().map(|tensor| {
        let (dtype, encoded) = match tensor.stored {
            Stored::Float(dtype) => (dtype, None),
            Stored::Blocks(kind) => {
                let bytes = tensor.end - tensor.start;
                let rows = tensor.shape.first().copied().unwrap_or(0);
                let source = BlockRows {
                    kind,
                    slice: Slice {
                        storage: storage.clone(),
                        start: tensor.start,
                        end: tensor.end,
                        dtype: Dtype::U8,
                        shape: vec![bytes],
                    },
                    row_bytes: bytes / rows.max(1),
                };
                // What it was quantized from, most likely, and enough for its precision.
                (Dtype::BF16, Some(EncodedRows::new(Box::new(source))))
            }
        };
        GgufTensor {
            name: tensor.name,
            dtype,
            shape: tensor.shape,
            start: tensor.start,
            end: tensor.end,
            encoded,
        }
    });
    Ok((tensors.collect(), header.metadata))
}

/// Rows of blocks.
#[derive(Debug)]
struct BlockRows {
    kind: &'static BlockType,
    slice: Slice,
    /// Bytes of what one step along the first axis has.
    row_bytes: usize,
}

impl Encoded for BlockRows {
    fn kind(&self) -> &'static str {
        self.kind.name
    }

    fn stored_bytes(&self) -> usize {
        self.slice.len()
    }

    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        let bytes = rows.start * self.row_bytes..rows.end * self.row_bytes;
        self.slice.read(bytes, |bytes| {
            let blocks = bytes.chunks_exact(self.kind.bytes);
            let values = values.chunks_exact_mut(self.kind.elements);
            for (block, values) in blocks.zip(values) {
                (self.kind.decode)(block, values);
            }
        })
    }
}
