//! Reading of files that may be anything: how large they may be, and the header of a safetensors
//! file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use safetensors::tensor::Dtype;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes of a config, at most: a megabyte. Published ones have a few thousand.
pub const LARGEST_CONFIG: u64 = 1 << 20;

/// Bytes of a list of shards, at most: 16 MiB, a hundred thousand tensors and more.
pub(crate) const LARGEST_INDEX: u64 = 16 << 20;

/// Bytes of a safetensors header, at most; the format's own limit.
const LARGEST_HEADER: u64 = 100_000_000;

/// Axes of a tensor, at most; weights have up to 4.
const MOST_AXES: usize = 8;

/// Opens a regular file, through symbolic links. Anything else, such as a device or a pipe, could
/// have no end.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        let reason = "it is not a regular file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
    }
}

/// Reads a whole regular file of at most `largest` bytes.
///
/// # Errors
/// When it cannot be read, is not a regular file or is larger.
pub fn read_bounded(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Not by the size that the system reports: a file may grow, and some report 0.
    open_regular(path)?
        .take(largest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        let reason = format!("it is larger than {largest} bytes, the most such a file may have");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// The first bytes of a regular file.
pub(crate) fn read_start(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// [`read_bounded`] as text.
///
/// # Errors
/// As [`read_bounded`], and when it is not UTF-8.
pub fn read_text_bounded(path: &Path, largest: u64) -> io::Result<String> {
    String::from_utf8(read_bounded(path, largest)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// The files that a list of shards names, each once.
///
/// # Errors
/// When it is not such a list, or names what is not a plain file name: nothing that could lead out of
/// the folder on any system.
pub(crate) fn shard_names(json: &str) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Option<BTreeMap<String, String>>,
    }

    if !json.trim_start().starts_with('{') {
        return Err("it is not a JSON object".to_owned());
    }
    let index: Index = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let map = index.weight_map.ok_or("no weight_map")?;
    let mut shards = BTreeSet::new();
    for name in map.into_values() {
        let special = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
        if name.is_empty() || name == "." || name == ".." || name.contains(special) {
            return Err(format!("shard {name:?} is not a plain file name"));
        }
        shards.insert(name);
    }
    if shards.is_empty() {
        return Err("weight_map is empty".to_owned());
    }
    Ok(shards)
}

/// A tensor as the header of a safetensors file describes it.
#[derive(Debug)]
pub(crate) struct TensorHeader {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub start: usize,
    pub end: usize,
}

/// The header of a safetensors file.
#[derive(Debug)]
pub(crate) struct Header {
    /// In the order of their bytes.
    pub tensors: Vec<TensorHeader>,
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads the header of a whole file and checks that it describes every byte of it: the tensors
    /// lie one after the other, each as long as its shape and dtype say, up to the end.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let Some((length, rest)) = file.split_first_chunk::<8>() else {
            return Err(format!(
                "{} bytes, shorter than the length of a header",
                file.len()
            ));
        };
        let length = u64::from_le_bytes(*length);
        if length > LARGEST_HEADER {
            return Err(format!(
                "a header of {length} bytes, more than {LARGEST_HEADER}"
            ));
        }
        let header = usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length))
            .ok_or_else(|| format!("a header of {length} bytes in a file of {}", file.len()))?;
        let header = std::str::from_utf8(header).map_err(|error| format!("header: {error}"))?;
        let Entries {
            mut tensors,
            metadata,
        } = serde_json::from_str(header).map_err(|error| format!("header: {error}"))?;
        tensors.sort_by_key(|(_, info)| info.data_offsets);

        let data_start = 8 + header.len();
        let data = file.len() - data_start;
        let mut position = 0;
        let mut placed = Vec::with_capacity(tensors.len());
        for (name, info) in tensors {
            let (start, end) = info.data_offsets;
            if start != position || end < start || end > data {
                return Err(format!(
                    "tensor {name:?} lies at bytes {start} to {end}, expected from {position} on \
                     and at most to {data}"
                ));
            }
            let Shape(shape) = info.shape;
            let bits = shape
                .iter()
                .try_fold(1usize, |product, &length| product.checked_mul(length))
                .and_then(|elements| elements.checked_mul(info.dtype.bitsize()));
            if bits.is_none_or(|bits| bits % 8 != 0 || bits / 8 != end - start) {
                let (dtype, bytes) = (info.dtype, end - start);
                return Err(format!(
                    "tensor {name:?} has {bytes} bytes, which is not the shape {shape:?} in {dtype:?}"
                ));
            }
            position = end;
            placed.push(TensorHeader {
                name,
                dtype: info.dtype,
                shape,
                start: data_start + start,
                end: data_start + end,
            });
        }
        if position != data {
            return Err(format!(
                "{} bytes where the header promises {}",
                file.len(),
                data_start + position
            ));
        }
        Ok(Self {
            tensors: placed,
            metadata,
        })
    }
}

/// One entry of the header.
#[derive(Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// A shape, given up at once when it has too many axes.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Axes;

        impl<'de> Visitor<'de> for Axes {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a shape of at most {MOST_AXES} axes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut axes: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(length) = axes.next_element()? {
                    if shape.len() == MOST_AXES {
                        return Err(de::Error::invalid_length(MOST_AXES + 1, &self));
                    }
                    shape.push(length);
                }
                Ok(Shape(shape))
            }
        }

        deserializer.deserialize_seq(Axes)
    }
}

/// All entries, read one by one: nothing of an entry that is refused is kept.
struct Entries {
    tensors: Vec<(String, Info)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries {
                    tensors: Vec::new(),
                    metadata: BTreeMap::new(),
                };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        let texts: Option<BTreeMap<String, String>> = map.next_value()?;
                        entries.metadata.extend(texts.unwrap_or_default());
                    } else {
                        entries.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(Map)
    }
}
