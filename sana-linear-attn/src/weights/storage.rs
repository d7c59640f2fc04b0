//! The bytes of a checkpoint: a mapped file, or memory.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

use super::read::open_regular;

/// A file or bytes in memory. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    bytes: Bytes,
    file: Option<Arc<Mapped>>,
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
        Self { bytes, file: None }
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
        })
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Some of the bytes where they are: nothing is copied, and they are in memory when this
    /// returns. `None` where they are not at a multiple of `align` bytes.
    pub fn shared(&self, range: Range<usize>, align: usize) -> Option<Bytes> {
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
    pub fn read<T>(&self, range: Range<usize>, read: impl FnOnce(&[u8]) -> T) -> T {
        let window = self.file.as_ref().filter(|_| !range.is_empty());
        let window = window.and_then(|mapped| {
            let mut options = MmapOptions::new();
            options.offset(range.start as u64).len(range.len());
            map(&options, &mapped.file).ok()
        });
        match window {
            Some(window) => read(&window),
            None => read(&self.as_slice()[range]),
        }
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
