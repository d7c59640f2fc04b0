//! The header of a GGUF file.

use std::collections::{BTreeMap, BTreeSet};

use super::blocks::{SUPPORTED, Stored};

const MAGIC: &[u8] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
const LARGEST_ALIGNMENT: u64 = 1 << 16;
/// Entries of the metadata, and tensors, at most; files have a few hundred.
const MOST: u64 = 1 << 16;
/// Longest name of a tensor or a key.
const LONGEST_NAME: usize = 1 << 10;
/// Texts that are kept; longer ones are of tokenizers.
const LONGEST_TEXT: usize = 1 << 10;
/// Lists in lists.
const DEEPEST: usize = 4;

/// A tensor as the header describes it.
#[derive(Debug)]
pub(super) struct TensorHeader {
    pub name: String,
    pub stored: Stored,
    /// The fastest axis last, as everywhere else; the file has it first.
    pub shape: Vec<usize>,
    pub start: usize,
    pub end: usize,
}

#[derive(Debug)]
pub(super) struct Header {
    pub tensors: Vec<TensorHeader>,
    /// Numbers, switches and short texts; lists are left out.
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads the header of a whole file and checks that every tensor lies in it, in a place of its
    /// own, and is as long as its shape and type say.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor { file, at: 0 };
        if cursor.take(4)? != MAGIC {
            return Err("it does not begin with GGUF".to_owned());
        }
        match cursor.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => {
                return Err("it is big-endian, only little-endian files are read".to_owned());
            }
            version => return Err(format!("it is of version {version}, only 2 and 3 are read")),
        }
        let tensors = cursor.count("tensors")?;
        let entries = cursor.count("entries of metadata")?;
        let metadata = read_metadata(&mut cursor, entries)?;
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|&bytes: &u64| bytes.is_power_of_two() && bytes <= LARGEST_ALIGNMENT)
                .ok_or_else(|| format!("general.alignment is {text}"))?,
        };
        let mut placed = Vec::new();
        for _ in 0..tensors {
            placed.push(Described::read(&mut cursor)?);
        }
        let data = (cursor.at as u64).next_multiple_of(alignment);
        let tensors = placed
            .into_iter()
            .map(|tensor| tensor.placed(file, data, alignment));
        let tensors: Vec<TensorHeader> = tensors.collect::<Result<_, _>>()?;
        check_apart(&tensors)?;
        Ok(Self { tensors, metadata })
    }
}

/// No two tensors share bytes or a name.
fn check_apart(tensors: &[TensorHeader]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let mut places = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(format!("tensor {:?} is there twice", tensor.name));
        }
        places.push((tensor.start, tensor.end, tensor.name.as_str()));
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        let ((_, end, first), (start, _, second)) = (pair[0], pair[1]);
        if start < end {
            return Err(format!("tensors {first:?} and {second:?} share bytes"));
        }
    }
    Ok(())
}

fn read_metadata(cursor: &mut Cursor, entries: u64) -> Result<BTreeMap<String, String>, String> {
    let mut metadata = BTreeMap::new();
    for _ in 0..entries {
        let key = cursor.text(LONGEST_NAME)?.to_owned();
        let kind = cursor.u32()?;
        if let Some(text) = value(cursor, kind, 0)? {
            metadata.insert(key, text);
        }
    }
    Ok(metadata)
}

/// A value as text; `None` for what is not kept.
fn value(cursor: &mut Cursor, kind: u32, depth: usize) -> Result<Option<String>, String> {
    let text = match kind {
        0 => cursor.array::<1>()?[0].to_string(),
        1 => i8::from_le_bytes(cursor.array()?).to_string(),
        2 => u16::from_le_bytes(cursor.array()?).to_string(),
        3 => i16::from_le_bytes(cursor.array()?).to_string(),
        4 => cursor.u32()?.to_string(),
        5 => i32::from_le_bytes(cursor.array()?).to_string(),
        6 => f32::from_le_bytes(cursor.array()?).to_string(),
        7 => (cursor.array::<1>()?[0] != 0).to_string(),
        8 => {
            let length = cursor.length()?;
            let bytes = cursor.take(length)?;
            let short = bytes.get(..).filter(|bytes| bytes.len() <= LONGEST_TEXT);
            return Ok(short.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
        }
        9 => {
            skip_list(cursor, depth)?;
            return Ok(None);
        }
        10 => cursor.u64()?.to_string(),
        11 => i64::from_le_bytes(cursor.array()?).to_string(),
        12 => f64::from_le_bytes(cursor.array()?).to_string(),
        other => return Err(format!("a value of the unknown kind {other}")),
    };
    Ok(Some(text))
}

fn skip_list(cursor: &mut Cursor, depth: usize) -> Result<(), String> {
    if depth == DEEPEST {
        return Err(format!("lists in more than {DEEPEST} lists"));
    }
    let kind = cursor.u32()?;
    let items = cursor.length()?;
    let size = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        8 | 9 => {
            // Each takes eight bytes at least, so that the file ends this.
            for _ in 0..items {
                match kind {
                    8 => {
                        let length = cursor.length()?;
                        cursor.take(length)?;
                    }
                    _ => skip_list(cursor, depth + 1)?,
                }
            }
            return Ok(());
        }
        other => return Err(format!("a list of the unknown kind {other}")),
    };
    let bytes = items.checked_mul(size).ok_or_else(Cursor::ends)?;
    cursor.take(bytes).map(drop)
}

/// A description, before it is known where the tensors begin.
struct Described {
    name: String,
    stored: Stored,
    shape: Vec<usize>,
    bytes: u64,
    offset: u64,
}

impl Described {
    fn read(cursor: &mut Cursor) -> Result<Self, String> {
        let name = cursor.text(LONGEST_NAME)?.to_owned();
        let axes = cursor.u32()?;
        if !(1..=4).contains(&axes) {
            return Err(format!("tensor {name:?} has {axes} axes"));
        }
        let mut shape = Vec::with_capacity(4);
        for _ in 0..axes {
            shape.push(cursor.u64()?);
        }
        let stored = Stored::of(cursor.u32()?).map_err(|kind| {
            format!(
                "tensor {name:?} is stored as {kind}, which is not supported; use a file in {}",
                SUPPORTED
            )
        })?;
        let offset = cursor.u64()?;
        let [elements, block_bytes] = stored.block().map(|size| size as u64);
        let count = shape.iter().try_fold(1u64, |n, &axis| n.checked_mul(axis));
        // Not of nothing, so that no product of some of the axes is larger than that of all.
        let count = count.filter(|&n| n > 0);
        let whole = shape[0].is_multiple_of(elements);
        let bytes = count
            .filter(|_| whole)
            .and_then(|n| (n / elements).checked_mul(block_bytes));
        let bytes = bytes.ok_or_else(|| {
            format!("tensor {name:?} has the shape {shape:?}, in blocks of {elements}")
        })?;
        // In f32, which may be twelve times its bytes, it is to fit into what can be addressed.
        let in_memory = count.and_then(|n| n.checked_mul(4));
        let fits = in_memory.is_some_and(|bytes| isize::try_from(bytes).is_ok());
        let shape = shape.into_iter().rev().map(usize::try_from);
        let shape: Result<Vec<usize>, _> = shape.collect();
        Ok(Self {
            shape: shape
                .ok()
                .filter(|_| fits)
                .ok_or_else(|| format!("tensor {name:?} is too large"))?,
            name,
            stored,
            bytes,
            offset,
        })
    }

    fn placed(self, file: &[u8], data: u64, alignment: u64) -> Result<TensorHeader, String> {
        let start = data.checked_add(self.offset);
        let end = start.and_then(|start| start.checked_add(self.bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(Cursor::ends());
        };
        if end > file.len() as u64 || !self.offset.is_multiple_of(alignment) {
            return Err(format!(
                "tensor {:?} lies at bytes {start} to {end} of a file of {}",
                self.name,
                file.len()
            ));
        }
        Ok(TensorHeader {
            name: self.name,
            stored: self.stored,
            shape: self.shape,
            // Within a file that is in memory.
            start: start as usize,
            end: end as usize,
        })
    }
}

struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn ends() -> String {
        "it ends within its header".to_owned()
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(bytes).ok_or_else(Self::ends)?;
        let taken = self.file.get(self.at..end).ok_or_else(Self::ends)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| Self::ends())
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length in bytes or items, each of which is in the file.
    fn length(&mut self) -> Result<usize, String> {
        let length = self.u64()?;
        let rest = (self.file.len() - self.at) as u64;
        match usize::try_from(length) {
            Ok(bytes) if length <= rest => Ok(bytes),
            _ => Err(Self::ends()),
        }
    }

    fn count(&mut self, what: &str) -> Result<u64, String> {
        let count = self.u64()?;
        match count <= MOST {
            true => Ok(count),
            false => Err(format!("{count} {what}, more than {MOST}")),
        }
    }

    fn text(&mut self, longest: usize) -> Result<&'a str, String> {
        let length = self.length()?;
        if length > longest {
            return Err(format!("a name of {length} bytes"));
        }
        std::str::from_utf8(self.take(length)?).map_err(|error| format!("a name: {error}"))
    }
}
