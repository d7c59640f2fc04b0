//! Files that appear whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// Prefix and suffix of the name of a temporary file; between them is a number that cannot be guessed.
const UNFINISHED: (&str, &str) = (".sana-", ".part");
/// Links that are followed to a file, as the kernel does.
const LINKS: usize = 40;

/// Lets `write` write a new file in the folder of its final place, flushes it to the disk and renames
/// it: it appears whole or not at all, and on failure nothing is left. A link at `path` stays, and
/// its target is replaced.
///
/// # Errors
/// Those of `write`, of the system, and when what is at `path` is read-only or not a regular file.
pub fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let target = target(path)?;
    let mut unfinished = Unfinished::create(folder_of(&target))?;
    write(&mut unfinished.file)?;
    match unfinished.file.sync_all() {
        Err(error) if !is_unsupported(&error) => return Err(error),
        _ => {}
    }
    fs::rename(&unfinished.path, &target)?;
    unfinished.renamed = true;
    Ok(())
}

/// Checks before the work that [`replace_file`] can write at `path`, which stays as it is, and
/// removes what killed processes left unfinished in its folder.
///
/// # Errors
/// As [`replace_file`].
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    let target = target(path)?;
    let folder = folder_of(&target);
    remove_abandoned(folder);
    Unfinished::create(folder).map(drop)
}

/// The file that is replaced for `path`: where its links lead, whether anything is there or not.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => {
            return Err(io::Error::other("what is there is not a regular file"));
        }
        Ok(found) if found.permissions().readonly() => {
            let reason = "the file there is read-only";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    follow_links(path)
}

/// Where the links at `path` lead, whether anything is there or not.
///
/// # Errors
/// When they lead in a circle.
pub fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = folder_of(&path).join(link),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file, removed unless it is renamed. It is locked while it is written, so that it is not
/// taken for one that a killed process left behind.
struct Unfinished {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Unfinished {
    /// A new file: what has its name already, such as a link, is never opened.
    fn create(folder: &Path) -> io::Result<Self> {
        loop {
            let (before, after) = UNFINISHED;
            let number = RandomState::new().hash_one(std::process::id());
            let path = folder.join(format!("{before}{number:016x}{after}"));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            let unfinished = Self {
                path,
                file,
                renamed: false,
            };
            // Where the file system has no locks, nothing is taken for abandoned either.
            let _ = unfinished.file.lock();
            // Between the two lines above another process may have taken it for abandoned.
            if fs::symlink_metadata(&unfinished.path).is_ok() {
                return Ok(unfinished);
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.renamed {
            // The first error is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the unfinished files of processes that were killed.
fn remove_abandoned(folder: &Path) {
    let (before, after) = UNFINISHED;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(before) && name.ends_with(after);
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = OpenOptions::new().write(true).open(entry.path()) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => {
                let _ = fs::remove_file(entry.path());
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// Whether the file system cannot do this at all.
fn is_unsupported(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    [InvalidInput, Unsupported].contains(&error.kind())
}
