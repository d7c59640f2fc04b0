//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

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

/// The lock of a folder.
const LOCK: &str = ".sana-lock";
/// How long a process waits for others that begin at the same time.
const PATIENCE: Duration = Duration::from_secs(2);

/// A folder that one process at a time writes to, or several that each write to files of their own.
/// The lock is gone when this is dropped, and when the process is killed.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Locked while it is open.
    _file: File,
    /// Of a share of the folder: the folder's lock, which the shares hold together.
    shared: Option<(PathBuf, File)>,
}

impl FolderLock {
    /// Locks an existing folder.
    ///
    /// # Errors
    /// When another process has it, which the error names, or a lock cannot be written.
    pub fn take(folder: &Path) -> io::Result<Self> {
        Self::take_file(folder.join(LOCK))
    }

    /// Locks the share `number` of `count` of an existing folder. Shares of equal `count` are
    /// locked next to each other, and exclude one process for all of it.
    ///
    /// # Errors
    /// When another process has this share, shares of another `count`, or the folder, or a lock cannot
    /// be written.
    pub fn take_shard(folder: &Path, number: usize, count: usize) -> io::Result<Self> {
        let mut lock = Self::take_file(folder.join(format!("{LOCK}-{number}-of-{count}")))?;
        let path = folder.join(LOCK);
        lock.shared = Some((path.clone(), share(&path, &format!("{count} shares"))?));
        Ok(lock)
    }

    fn take_file(path: PathBuf) -> io::Result<Self> {
        loop {
            let mut file = open(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(busy(&mut file)),
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
            return Ok(Self {
                path,
                _file: file,
                shared: None,
            });
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        if let Some((path, file)) = &self.shared {
            // The last share takes it away.
            let _ = file.unlock();
            if file.try_lock().is_ok() && is_at(file, path).is_ok_and(|is| is) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Locks a file together with all others that write `what` into it. It is written by one that has the
/// file alone, and read by those that share it, so that all of them agree.
fn share(path: &Path, what: &str) -> io::Result<File> {
    let begin = Instant::now();
    loop {
        let mut file = open(path)?;
        // Looked at without a lock: many that begin at once would keep each other from writing it.
        let agreed = content(&mut file) == what;
        let locked = match agreed {
            true => file.try_lock_shared(),
            false => file.try_lock(),
        };
        let failed = match locked {
            Ok(()) if !is_at(&file, path)? => continue,
            Ok(()) if agreed => {
                if content(&mut file) == what {
                    return Ok(file);
                }
                // It was written in between.
                continue;
            }
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(what.as_bytes())?;
                continue;
            }
            Err(TryLockError::WouldBlock) => busy(&mut file),
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(error),
        };
        if begin.elapsed() > PATIENCE {
            return Err(failed);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Opens the file of a lock.
fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait, and a link may lead to a file of somebody else.
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            let reason = format!("{} is not a regular file", path.display());
            return Err(io::Error::other(reason));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// What a lock says.
fn content(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind();
    let _ = file.take(40).read_to_string(&mut text);
    text.trim().to_owned()
}

/// That others have a lock: who, as far as it says.
fn busy(file: &mut File) -> io::Error {
    let owner = content(file);
    let number = owner.split(' ').next().unwrap_or_default();
    let owner = match number.parse::<u32>() {
        Ok(count) if owner.ends_with(" shares") => format!(", of a job in {count} shares,"),
        Ok(process) => format!(", process {process},"),
        Err(_) => String::new(),
    };
    let reason = format!("another sana{owner} is writing there: wait until it has ended");
    io::Error::new(io::ErrorKind::ResourceBusy, reason)
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

    #[test]
    fn shares_of_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let reason = |lock: io::Result<FolderLock>| lock.unwrap_err().to_string();
        // As tasks of a job do, all at the same time.
        let shares: Vec<FolderLock> = thread::scope(|scope| {
            let take = |number| move || FolderLock::take_shard(folder, number, 8).unwrap();
            let tasks: Vec<_> = (1..=8).map(|number| scope.spawn(take(number))).collect();
            tasks.into_iter().map(|task| task.join().unwrap()).collect()
        });
        let process = format!("process {}", std::process::id());
        let same = reason(FolderLock::take_shard(folder, 3, 8));
        assert!(same.contains(&process), "{same}");
        for other in [
            FolderLock::take_shard(folder, 1, 2),
            FolderLock::take(folder),
        ] {
            let reason = reason(other);
            assert!(reason.contains("a job in 8 shares"), "{reason}");
        }
        drop(shares);
        assert_eq!(folder.read_dir().unwrap().count(), 0);
        // What a killed process left behind.
        fs::write(folder.join(LOCK), "3 shares").unwrap();
        let share = FolderLock::take_shard(folder, 1, 2).unwrap();
        drop(share);
        let whole = FolderLock::take(folder).unwrap();
        let share = reason(FolderLock::take_shard(folder, 2, 2));
        assert!(share.contains(&process), "{share}");
        drop(whole);
        assert_eq!(folder.read_dir().unwrap().count(), 0);
    }
}
