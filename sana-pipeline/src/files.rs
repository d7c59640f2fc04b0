//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use sana_linear_attn::weights::{check_replaceable, replace_file};

/// Writes a file in the folder of its final place and renames it; on failure nothing is left.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> io::Result<()> {
    replace_file(path, |file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        file.flush()
    })
}

/// Writes a text file, whole or not at all.
pub(crate) fn write_text(path: &Path, text: &str) -> io::Result<()> {
    write_whole(path, |file| file.write_all(text.as_bytes()))
}

/// Checks before the work that a file can be written at `path`; what is there stays as it is.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    check_replaceable(path)
}

/// A folder that one process at a time writes to. The lock is gone when this is dropped, and when the
/// process is killed.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Locked while it is open.
    _file: File,
}

impl FolderLock {
    /// Locks an existing folder.
    ///
    /// # Errors
    /// When another process has it, which the error names, or a lock cannot be written.
    pub fn take(folder: &Path) -> io::Result<Self> {
        let path = folder.join(".sana-lock");
        loop {
            // Opening a pipe would wait, and a link may lead to a file of somebody else.
            match fs::symlink_metadata(&path) {
                Ok(found) if !found.is_file() => {
                    let reason = format!("{} is not a regular file", path.display());
                    return Err(io::Error::other(reason));
                }
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = options.open(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    let _ = (&mut file).take(40).read_to_string(&mut owner);
                    let owner = owner.trim().parse::<u32>();
                    let owner =
                        owner.map_or(String::new(), |process| format!(", process {process},"));
                    let reason =
                        format!("another sana{owner} is writing there: wait until it has ended");
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, reason));
                }
                // A file system without locks.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                locked => locked.map_err(io::Error::from)?,
            }
            // The owner before may have removed it while it was being opened here.
            if !is_at(&file, &path)? {
                continue;
            }
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            return Ok(Self { path, _file: file });
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let own = file.metadata()?;
    Ok(fs::symlink_metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> io::Result<bool> {
    Ok(path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let error = write_whole(&path, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
