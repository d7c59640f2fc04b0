//! Which files of a folder hold its weights.

use std::path::{Path, PathBuf};

use super::error::WeightError;
use super::read::{LARGEST_INDEX, read_text_bounded, shard_names};

/// The names under which [`Weights::open_folder`](crate::Weights::open_folder) looks for weights in a folder that holds the
/// files `present`; the first that is there is opened.
pub fn weight_file_names(stem: &str, variant: Option<&str>, present: &[String]) -> Vec<String> {
    if let Some(variant) = variant {
        return vec![
            format!("{stem}.{variant}.safetensors"),
            format!("{stem}.safetensors.index.{variant}.json"),
            format!("{stem}.{variant}.safetensors.index.json"),
        ];
    }
    let mut names = vec![
        format!("{stem}.safetensors"),
        format!("{stem}.safetensors.index.json"),
    ];
    names.extend(only_variant(stem, present).cloned());
    names
}

pub(super) fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// `STEM.VARIANT.safetensors` when exactly one such file is there.
fn only_variant<'a>(stem: &str, present: &'a [String]) -> Option<&'a String> {
    let prefix = format!("{stem}.");
    let mut found = present.iter().filter(|name| {
        name.strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".safetensors"))
            .is_some_and(|variant| !variant.contains('.'))
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Paths of the shards an index lists, each once: files of the index's own folder, or symbolic
/// links there, which may lead anywhere, as those of the usual download caches do.
///
/// # Errors
/// When the index cannot be read, is not an index, or names anything but plain files next to it.
pub fn shard_paths(path: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let bad = |reason: String| WeightError::Index {
        path: path.to_path_buf(),
        reason,
    };
    let text = read_text_bounded(path, LARGEST_INDEX).map_err(|source| WeightError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let shards = shard_names(&text).map_err(bad)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(shards.into_iter().map(|name| folder.join(name)).collect())
}
