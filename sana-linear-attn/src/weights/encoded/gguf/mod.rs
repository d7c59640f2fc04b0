//! GGUF, the file format of llama.cpp: metadata, descriptions of tensors, then their blocks.
//!
//! Own code: what it allocates is bounded by the file, as docs/hostile-input.md asks. No crate for this
//! format has been examined for that.

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
                let source = BlockRows {
                    kind,
                    slice: Slice {
                        storage: storage.clone(),
                        start: tensor.start,
                        end: tensor.end,
                        dtype: Dtype::U8,
                        shape: vec![tensor.end - tensor.start],
                    },
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

/// Blocks, which lie one after the other whatever the shape.
#[derive(Debug)]
struct BlockRows {
    kind: &'static BlockType,
    slice: Slice,
}

impl Encoded for BlockRows {
    fn kind(&self) -> &'static str {
        self.kind.name
    }

    fn stored_bytes(&self) -> usize {
        self.slice.len()
    }

    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        let columns = values.len() / rows.len().max(1);
        let elements = rows.start * columns..rows.end * columns;
        let block = self.kind.elements;
        let blocks = elements.start / block..elements.end.div_ceil(block);
        let bytes = blocks.start * self.kind.bytes..blocks.end * self.kind.bytes;
        self.slice.read(bytes, |bytes| {
            let bytes = bytes.chunks_exact(self.kind.bytes);
            if elements.start.is_multiple_of(block) && values.len().is_multiple_of(block) {
                for (bytes, values) in bytes.zip(values.chunks_exact_mut(block)) {
                    (self.kind.decode)(bytes, values);
                }
                return;
            }
            // Some elements of a tensor of one axis.
            let mut whole = vec![0.0; blocks.len() * block];
            for (bytes, values) in bytes.zip(whole.chunks_exact_mut(block)) {
                (self.kind.decode)(bytes, values);
            }
            let skipped = elements.start - blocks.start * block;
            values.copy_from_slice(&whole[skipped..][..values.len()]);
        })
    }
}
