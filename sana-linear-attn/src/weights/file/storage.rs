//! The bytes of a checkpoint: a mapped file, memory, or a tensor of a PyTorch file.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

use crate::weights::file::read::open_regular;

/// A file, bytes in memory, or a tensor that is read when it is asked for. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    bytes: Bytes,
    file: Option<Arc<Mapped>>,
    unread: Option<Arc<Unread>>,
}

type ReadTensor = Box<dyn Fn() -> io::Result<Vec<u8>> + Send + Sync>;

/// A tensor that is read when it is asked for.
struct Unread {
    read: ReadTensor,
    /// Its bytes, once somebody borrowed them.
    kept: OnceLock<Bytes>,
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unread").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Mapped {
    file: File,
    map: Mmap,
}

/// Keeps the file mapped for as long as any of its bytes are borrowed.
struct Owner(Arc<Mapped>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

impl From<Cow<'static, [u8]>> for Storage {
    fn from(bytes: Cow<'static, [u8]>) -> Self {
        let bytes = match bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        Self {
            bytes,
            file: None,
            unread: None,
        }
    }
}

impl Storage {
    /// Maps a file, which must not be changed for as long as it is mapped.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        let map = map(&MmapOptions::new(), &file)?;
        let file = Arc::new(Mapped { file, map });
        Ok(Self {
            bytes: Bytes::from_owner(Owner(file.clone())),
            file: Some(file),
            unread: None,
        })
    }

    /// A tensor that `read` reads each time it is asked for.
    pub fn unread(read: impl Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self {
            bytes: Bytes::new(),
            file: None,
            unread: Some(Arc::new(Unread {
                read: Box::new(read),
                kept: OnceLock::new(),
            })),
        }
    }

    /// Some of the bytes. Those of an unread tensor are in memory from now on; `None` when they cannot be
    /// read.
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        let bytes = match &self.unread {
            None => &self.bytes,
            Some(tensor) => {
                if tensor.kept.get().is_none() {
                    let _ = tensor.kept.set(Bytes::from((tensor.read)().ok()?));
                }
                tensor.kept.get()?
            }
        };
        bytes.get(range)
    }

    /// The bytes of a file or of memory.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Some of the bytes where they are: nothing is copied, and they are in memory when this
    /// returns. `None` where they are not at a multiple of `align` bytes.
    pub fn shared(&self, range: Range<usize>, align: usize) -> Option<Bytes> {
        if self.unread.is_some() {
            return None;
        }
        let start = self.as_slice()[range.clone()].as_ptr();
        if !start.addr().is_multiple_of(align) {
            return None;
        }
        self.populate(&range);
        Some(self.bytes.slice(range))
    }

    /// Reads pages of a mapped file now and in order, and not one by one at first use. A hint:
    /// without it the first use does so.
    fn populate(&self, range: &Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Some(file) = self.file.as_ref().filter(|_| !range.is_empty()) {
            let advice = memmap2::Advice::PopulateRead;
            let _ = file.map.advise_range(advice, range.start, range.len());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// Shows some of the bytes for a while. Those of a file are mapped again for that, so that they
    /// do not stay in the memory of the process afterwards.
    ///
    /// # Errors
    /// When a tensor that was not read yet cannot be read.
    pub fn read<T>(&self, range: Range<usize>, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        if let Some(tensor) = &self.unread {
            let bytes = (tensor.read)()?;
            let part = bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
            return Ok(read(part));
        }
        let window = self.file.as_ref().filter(|_| !range.is_empty());
        let window = window.and_then(|mapped| {
            let mut options = MmapOptions::new();
            options.offset(range.start as u64).len(range.len());
            map(&options, &mapped.file).ok()
        });
        Ok(match window {
            Some(window) => read(&window),
            None => read(&self.as_slice()[range]),
        })
    }
}

fn map(options: &MmapOptions, file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and owned by what borrows from it; the documented contract is
    // that the file is not changed meanwhile.
    #[allow(unsafe_code)]
    unsafe {
        options.map(file)
    }
}
