//! Matrices that bitsandbytes quantized, as diffusers and transformers save them.
//!
//! | tensor | 4 bits | int8 |
//! |---|---|---|
//! | `X` | u8, two elements a byte, the first in the high half | i8 `[out, in]` |
//! | `X.absmax` | the largest magnitude of each block; f32, or u8 when nested | |
//! | `X.quant_map` | the 16 values that a block is scaled to | |
//! | `X.nested_absmax`, `X.nested_quant_map` | the scales of blocks of `absmax`, their 256 values | |
//! | `X.quant_state.bitsandbytes__nf4` | JSON: shape, dtype, block sizes, offset | |
//! | `X` without its ending, then `SCB` | | f32 `[out]`, the largest magnitude of a row |
//!
//! A value is `quant_map[q] * absmax` or `q * SCB / 127`. The parts that one format spreads over
//! several tensors become one tensor here.

use std::io;
use std::ops::Range;

use safetensors::tensor::Dtype;
use serde::Deserialize;

use super::{Encoded, Slice};

/// Where the JSON of a 4-bit matrix is; what follows is `nf4` or `fp4`.
const STATE: &str = ".quant_state.bitsandbytes__";
const STATE_BYTES: usize = 1 << 16;

/// A matrix in place of its parts.
pub(in crate::weights) struct Folded {
    pub name: String,
    pub shape: Vec<usize>,
    /// What it was quantized from, where that is known.
    pub dtype: Option<Dtype>,
    pub source: Box<dyn Encoded>,
    /// The tensors that are its parts, but for the one of its name.
    pub parts: Vec<String>,
}

/// A stored tensor by its name.
pub(in crate::weights) type Find<'a> = &'a dyn Fn(&str) -> Option<Slice>;

/// The matrices of which parts are among `names`.
///
/// # Errors
/// When parts are missing or do not fit together.
pub(in crate::weights) fn fold<'a>(
    names: impl Iterator<Item = &'a str>,
    find: Find,
) -> Result<Vec<Folded>, String> {
    let mut folded = Vec::new();
    for name in names {
        let (matrix, found) = if let Some((matrix, _)) = name.split_once(STATE) {
            let mut parts: Vec<String> = PARTS
                .iter()
                .map(|part| format!("{matrix}.{part}"))
                .collect();
            parts.push(name.to_owned());
            let opened = FourBit::open(find, name, matrix);
            let found = opened.map(|(shape, dtype, source)| Folded {
                name: matrix.to_owned(),
                shape,
                dtype: Some(dtype),
                source: Box::new(source),
                parts,
            });
            (matrix.to_owned(), found)
        } else if let Some(layer) = name.strip_suffix(".SCB") {
            let matrix = format!("{layer}.weight");
            let found = EightBit::open(find, layer, &matrix).map(|(shape, source)| Folded {
                name: matrix.clone(),
                shape,
                dtype: None,
                source: Box::new(source),
                parts: vec![name.to_owned(), format!("{layer}.weight_format")],
            });
            (matrix, found)
        } else {
            continue;
        };
        let found = found.map_err(|reason| format!("{matrix:?}, saved by bitsandbytes: {reason}"));
        folded.push(found?);
    }
    Ok(folded)
}

const PARTS: [&str; 4] = ["absmax", "quant_map", "nested_absmax", "nested_quant_map"];

/// The JSON of a 4-bit matrix.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

#[derive(Debug)]
struct FourBit {
    kind: &'static str,
    packed: Slice,
    absmax: Slice,
    quant_map: [f32; 16],
    blocksize: usize,
    nested: Option<Nested>,
    elements: usize,
}

/// Scales of the scales.
#[derive(Debug)]
struct Nested {
    absmax: Slice,
    quant_map: Vec<f32>,
    blocksize: usize,
    offset: f32,
}

impl FourBit {
    fn open(find: Find, state: &str, matrix: &str) -> Result<(Vec<usize>, Dtype, Self), String> {
        let json = find(state).ok_or("it has no state")?;
        if json.len() > STATE_BYTES || json.dtype != Dtype::U8 {
            return Err(format!(
                "its state has {} bytes of {:?}",
                json.len(),
                json.dtype
            ));
        }
        let parsed = json.read(0..json.len(), |bytes| {
            serde_json::from_slice::<State>(bytes)
        });
        let parsed = parsed.map_err(|error| error.to_string())?;
        let state = parsed.map_err(|error| format!("its state is not understood: {error}"))?;
        let kind = match state.quant_type.as_str() {
            "nf4" => "nf4",
            "fp4" => "fp4",
            other => {
                return Err(format!(
                    "the type {other:?} is not supported, only nf4 and fp4"
                ));
            }
        };
        let dtype = match state.dtype.as_str() {
            "bfloat16" => Dtype::BF16,
            "float16" => Dtype::F16,
            "float32" => Dtype::F32,
            other => return Err(format!("it is of the dtype {other:?}")),
        };
        let elements = elements(&state.shape)?;
        let blocks = blocks(elements, state.blocksize, "blocksize")?;
        let part = |part: &str, dtype: Dtype, elements: usize| {
            let name = format!("{matrix}.{part}");
            sized(find, &name, dtype, elements)
        };
        let packed = sized(find, matrix, Dtype::U8, elements.div_ceil(2))?;
        let quant_map = part("quant_map", Dtype::F32, 16)?.all();
        let quant_map = quant_map.map_err(|error| error.to_string())?;
        let quant_map = quant_map
            .try_into()
            .map_err(|_| "it has no map of values")?;
        let (absmax, nested) = match state.nested_blocksize {
            None => (part("absmax", Dtype::F32, blocks)?, None),
            Some(blocksize) => {
                let outer = self::blocks(blocks, blocksize, "nested_blocksize")?;
                let map = part("nested_quant_map", Dtype::F32, 256)?.all();
                let nested = Nested {
                    absmax: part("nested_absmax", Dtype::F32, outer)?,
                    quant_map: map.map_err(|error| error.to_string())?,
                    blocksize,
                    offset: state.nested_offset.unwrap_or(0.0),
                };
                (part("absmax", Dtype::U8, blocks)?, Some(nested))
            }
        };
        let source = Self {
            kind,
            packed,
            absmax,
            quant_map,
            blocksize: state.blocksize,
            nested,
            elements,
        };
        Ok((state.shape, dtype, source))
    }

    /// The largest magnitudes of some blocks.
    fn scales(&self, blocks: Range<usize>) -> io::Result<Vec<f32>> {
        let mut scales = self.absmax.floats(blocks.clone())?;
        let Some(nested) = &self.nested else {
            return Ok(scales);
        };
        let first = blocks.start / nested.blocksize;
        let outer = nested
            .absmax
            .floats(first..blocks.end.div_ceil(nested.blocksize))?;
        for (block, scale) in blocks.zip(&mut scales) {
            // A byte, so that it has a place in the map.
            let value = nested.quant_map[*scale as usize];
            *scale = value * outer[block / nested.blocksize - first] + nested.offset;
        }
        Ok(scales)
    }
}

impl Encoded for FourBit {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn stored_bytes(&self) -> usize {
        let nested = self.nested.as_ref().map_or(0, |nested| nested.absmax.len());
        self.packed.len() + self.absmax.len() + nested
    }

    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        let columns = values.len() / rows.len().max(1);
        let elements = rows.start * columns..rows.end * columns;
        if values.is_empty() || elements.end > self.elements {
            return match values.is_empty() {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let first = elements.start / self.blocksize;
        let scales = self.scales(first..elements.end.div_ceil(self.blocksize))?;
        let bytes = elements.start / 2..elements.end.div_ceil(2);
        self.packed.read(bytes, |bytes| {
            for (element, value) in elements.clone().zip(values) {
                let byte = bytes[element / 2 - elements.start / 2];
                let index = if element % 2 == 0 {
                    byte >> 4
                } else {
                    byte & 15
                };
                let scale = scales[element / self.blocksize - first];
                *value = self.quant_map[usize::from(index)] * scale;
            }
        })
    }
}

#[derive(Debug)]
struct EightBit {
    values: Slice,
    absmax: Slice,
}

impl EightBit {
    fn open(find: Find, layer: &str, matrix: &str) -> Result<(Vec<usize>, Self), String> {
        let values = find(matrix).ok_or("it has scales but is not there")?;
        let &[rows, columns] = values.shape() else {
            return Err(format!(
                "it has the shape {:?}, expected two axes",
                values.shape()
            ));
        };
        if let Some(format) = find(&format!("{layer}.weight_format")) {
            // 0 is rows; the others are orders of old GPU kernels.
            let format = format.read(0..format.len(), |bytes| bytes.to_vec());
            if format.map_err(|error| error.to_string())? != [0] {
                return Err(
                    "it is not stored by rows; load it with bitsandbytes 0.45 or later \
                            and save it again"
                        .to_owned(),
                );
            }
        }
        let values = sized(find, matrix, Dtype::I8, rows * columns)?;
        let absmax = sized(find, &format!("{layer}.SCB"), Dtype::F32, rows)?;
        Ok((vec![rows, columns], Self { values, absmax }))
    }
}

/// 1 / 127, as bitsandbytes has it.
const STEP: f32 = 1.0 / 127.0;

impl Encoded for EightBit {
    fn kind(&self) -> &'static str {
        "int8"
    }

    fn stored_bytes(&self) -> usize {
        self.values.len() + self.absmax.len()
    }

    fn decode(&self, rows: Range<usize>, values: &mut [f32]) -> io::Result<()> {
        let columns = (values.len() / rows.len().max(1)).max(1);
        let scales = self.absmax.floats(rows.clone())?;
        let bytes = rows.start * columns..rows.end * columns;
        self.values.read(bytes, |bytes| {
            let rows = values
                .chunks_exact_mut(columns)
                .zip(bytes.chunks_exact(columns));
            for ((values, bytes), scale) in rows.zip(scales) {
                for (value, &byte) in values.iter_mut().zip(bytes) {
                    *value = f32::from(byte as i8) * scale * STEP;
                }
            }
        })
    }
}

fn elements(shape: &[usize]) -> Result<usize, String> {
    if shape.is_empty() || shape.len() > 8 {
        return Err(format!("it has the shape {shape:?}"));
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |n, &axis| n.checked_mul(axis));
    // What is one byte in the file may be eight in memory. Of nothing the axes may be of any length.
    elements
        .filter(|elements| (1..=usize::MAX / 16).contains(elements))
        .ok_or_else(|| format!("it has the shape {shape:?}"))
}

fn blocks(elements: usize, blocksize: usize, name: &str) -> Result<usize, String> {
    if !blocksize.is_power_of_two() || !(16..=1 << 16).contains(&blocksize) {
        return Err(format!("its {name} is {blocksize}"));
    }
    Ok(elements.div_ceil(blocksize))
}

/// A part of a dtype and a number of elements.
fn sized(find: Find, name: &str, dtype: Dtype, elements: usize) -> Result<Slice, String> {
    let slice = find(name);
    let slice = slice.ok_or_else(|| format!("{name:?} is missing"))?;
    if slice.dtype != dtype || slice.elements() != elements {
        let (found, shape) = (slice.dtype, slice.shape());
        return Err(format!(
            "{name:?} is {found:?} of the shape {shape:?}, expected {elements} elements of {dtype:?}"
        ));
    }
    Ok(slice)
}
