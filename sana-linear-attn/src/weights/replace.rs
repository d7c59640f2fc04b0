use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Lets `write` make a file next to its final place and renames it: it appears whole or not at all,
/// and on failure nothing is left.
///
/// # Errors
/// Those of `write` and of the renaming.
pub fn replace_file(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let partial = partial_path(path);
    let written = write(&partial).and_then(|()| fs::rename(&partial, path));
    written.inspect_err(|_| {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    })
}

/// `NAME.part` next to the file: where it is while it is not whole.
pub fn partial_path(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    PathBuf::from(partial)
}
