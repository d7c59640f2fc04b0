//! The files that a run reads and writes: none is written that it also reads, or twice.

pub mod marked;
pub mod paths;

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use anyhow::bail;
use sana_linear_attn::weights::follow_links;
use sana_pipeline::image::FileFormat;

/// What the files of a run are, by where they are.
#[derive(Default)]
pub struct Files {
    known: HashMap<Place, &'static str>,
}

/// Where a file is, however it is spelled.
#[derive(PartialEq, Eq, Hash)]
enum Place {
    Path(PathBuf),
    /// Device and number, which hard links share.
    #[cfg_attr(not(unix), expect(dead_code, reason = "files have no numbers there"))]
    Inode(u64, u64),
}

impl Files {
    /// The run reads `path`, which is `what`, such as "the image of --image".
    pub fn reads(&mut self, path: &Path, what: &'static str) {
        for place in places(path) {
            self.known.entry(place).or_insert(what);
        }
    }

    /// The run reads what is in the folder `path` and in the folders there, which is `what`; a file, or
    /// a name of the Hub, is as it is. Images in the folder do not count.
    pub fn reads_folder(&mut self, path: &Path, what: &'static str) {
        self.reads(path, what);
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        for entry in entries(path) {
            let inner = entries(&entry.path()).map(|file| file.path());
            for file in inner.chain([entry.path()]) {
                if FileFormat::of(&file).is_err() {
                    self.reads(&file, what);
                }
            }
        }
    }

    /// The run writes `path`, which `option` names; it is `what`, such as "an image".
    ///
    /// # Errors
    /// When it reads or writes that file already.
    pub fn writes(&mut self, path: &Path, option: &str, what: &'static str) -> anyhow::Result<()> {
        let places = places(path);
        if let Some(other) = places.iter().find_map(|place| self.known.get(place)) {
            bail!("{option} names the file of {other}: {}", path.display());
        }
        self.known
            .extend(places.into_iter().map(|place| (place, what)));
        Ok(())
    }
}

/// Refuses a folder with something in it that would be mixed with what is written.
pub fn check_empty(folder: &Path) -> anyhow::Result<()> {
    let found = [
        ("model_index.json", "checkpoint"),
        ("config.json", "checkpoint"),
        ("state.json", "training run"),
    ];
    for (file, what) in found {
        if folder.join(file).exists() {
            bail!(
                "{} holds a {what} already: name another folder with --out",
                folder.display()
            );
        }
    }
    Ok(())
}

fn places(path: &Path) -> Vec<Place> {
    let mut places = vec![Place::Path(resolved(path))];
    if let Ok(found) = fs::metadata(path) {
        places.extend(inode(&found));
    }
    places
}

#[cfg(unix)]
fn inode(found: &Metadata) -> Option<Place> {
    use std::os::unix::fs::MetadataExt;

    Some(Place::Inode(found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> Option<Place> {
    None
}

/// The path without links and dots; what is not there yet is named in its folder.
fn resolved(path: &Path) -> PathBuf {
    let path = follow_links(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let folder = folder.canonicalize().unwrap_or(folder);
    folder.join(path.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_by_any_spelling() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("in.png"), "").unwrap();
        fs::create_dir(path("sub")).unwrap();
        let mut files = Files::default();
        files.reads(&path("in.png"), "the image");
        files.writes(&path("new.png"), "--out", "an image").unwrap();
        let mut spellings = vec!["./in.png", "sub/../in.png", "new.png", "sub/.././new.png"];
        if cfg!(unix) {
            fs::hard_link(path("in.png"), path("hard.png")).unwrap();
            spellings.push("hard.png");
        }
        #[cfg(unix)]
        for (target, link) in [("in.png", "soft.png"), ("new.png", "dangling.png")] {
            std::os::unix::fs::symlink(target, path(link)).unwrap();
            spellings.push(link);
        }
        for spelling in spellings {
            let error = files
                .writes(&path(spelling), "--grid", "the grid")
                .unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with("--grid names the file of "),
                "{spelling}: {error}"
            );
        }
        files
            .writes(&path("other.png"), "--grid", "the grid")
            .unwrap();
    }
}
