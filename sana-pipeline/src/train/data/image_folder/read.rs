//! Which images of a folder have which captions.

use std::fs;
use std::path::{Component, Path, PathBuf};

use sana_linear_attn::weights::{LARGEST_CONFIG, read_bounded, read_text_bounded};

use crate::train::error::TrainError;

/// Bytes of a `metadata.jsonl`, at most: 256 MiB, a million captions and more.
const LARGEST_METADATA: u64 = 256 << 20;

/// What a folder has: pairs to train on, and images without a usable caption.
#[derive(Default)]
pub struct Found {
    pub items: Vec<(PathBuf, String)>,
    pub skipped: Vec<(PathBuf, String)>,
}

/// Images and captions of a folder, at least one pair.
pub fn find(folder: &Path) -> Result<Found, TrainError> {
    let metadata = folder.join("metadata.jsonl");
    // Also one that is a pipe or a dangling link: the error names it.
    let found = if fs::symlink_metadata(&metadata).is_ok() {
        read_metadata(&metadata)?
    } else {
        read_pairs(folder)?
    };
    if found.items.is_empty() {
        let expected = "expected NAME.png with NAME.txt, or metadata.jsonl with file_name and text";
        let reason = match found.skipped.first() {
            None => expected.to_owned(),
            Some((image, why)) => format!(
                "none of its {} images has a caption, such as {}: {why}; {expected}",
                found.skipped.len(),
                image.display()
            ),
        };
        return Err(TrainError::Data {
            path: folder.to_path_buf(),
            reason,
        });
    }
    Ok(found)
}

fn read_metadata(path: &Path) -> Result<Found, TrainError> {
    #[derive(serde::Deserialize)]
    struct Line {
        file_name: String,
        text: Option<String>,
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let bytes = read_bounded(path, LARGEST_METADATA).map_err(TrainError::io(path))?;
    let mut found = Found::default();
    for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let bad = |reason: String| TrainError::Data {
            path: path.to_path_buf(),
            reason: format!("line {}: {reason}", index + 1),
        };
        let line = String::from_utf8_lossy(bytes);
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
        let name = Path::new(&line.file_name);
        let inside = name
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        if !inside {
            return Err(bad(format!("{:?} leaves the folder", line.file_name)));
        }
        let image = folder.join(name);
        match (line.text, std::str::from_utf8(bytes)) {
            (Some(caption), Ok(_)) => found.items.push((image, caption)),
            (None, _) => found.skipped.push((image, "it has no text".to_owned())),
            (_, Err(error)) => found.skipped.push((image, error.to_string())),
        }
    }
    Ok(found)
}

fn read_pairs(folder: &Path) -> Result<Found, TrainError> {
    let mut found = Found::default();
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
        let path = entry.map_err(TrainError::io(folder))?.path();
        let is_image = path.extension().is_some_and(|e| {
            ["png", "jpg", "jpeg", "webp"]
                .iter()
                .any(|known| e.eq_ignore_ascii_case(known))
        });
        if !is_image {
            continue;
        }
        let caption = path.with_extension("txt");
        match read_text_bounded(&caption, LARGEST_CONFIG) {
            Ok(text) => found.items.push((path, text.trim().to_owned())),
            Err(error) => found
                .skipped
                .push((path, format!("{}: {error}", caption.display()))),
        }
    }
    // Folders list their files in no particular order; runs must not depend on it.
    found.items.sort();
    found.skipped.sort();
    Ok(found)
}
