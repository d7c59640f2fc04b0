//! Folders of the cache, without following links.

use std::io;
use std::path::{Path, PathBuf};

use crate::hub::error::HubError;

/// Folders in folders, at most.
const DEEPEST: usize = 16;

/// Names in a folder, sorted; none where there is no folder.
pub fn names(folder: &Path) -> Result<Vec<String>, HubError> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(HubError::cache(folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(HubError::cache(folder))?;
        // Others are not of this cache.
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Files and links below a folder. Links are not followed. Folders that are too deep are an error: what
/// is not seen there would be taken for unused, and be removed.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>, HubError> {
    walked(folder, 0)
}

fn walked(folder: &Path, depth: usize) -> Result<Vec<PathBuf>, HubError> {
    let mut files = Vec::new();
    for name in names(folder)? {
        let path = folder.join(name);
        let kind = path.symlink_metadata().map_err(HubError::cache(&path))?;
        match kind.is_dir() {
            true if depth < DEEPEST => files.extend(walked(&path, depth + 1)?),
            true => {
                let error = io::Error::other("more folders in each other than a model has");
                return Err(HubError::cache(&path)(error));
            }
            false => files.push(path),
        }
    }
    Ok(files)
}

/// Bytes of a file, or of a link itself.
pub fn file_size(path: &Path) -> u64 {
    path.symlink_metadata().map_or(0, |found| found.len())
}

/// Bytes of what is left of a repository: lists and names.
pub fn size_below(folder: &Path) -> u64 {
    let files = files_below(folder).unwrap_or_default();
    files.iter().map(|path| file_size(path)).sum()
}
