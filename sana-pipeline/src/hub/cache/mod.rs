//! The cache: the folders that programs for the Hub share.
//!
//! ```text
//! models--OWNER--NAME/refs/REVISION            the commit that a branch or tag was at
//! models--OWNER--NAME/blobs/ETAG               the content of a file
//! models--OWNER--NAME/snapshots/COMMIT/FILE    a link to it
//! .locks/models--OWNER--NAME/ETAG.lock         held during a download
//! .locks/models--OWNER--NAME/download.lock     shared by those that download, all the while
//! ```

pub(super) mod checksum;
pub(super) mod inventory;
mod walk;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use self::checksum::is_intact;
use crate::hub::error::HubError;
use crate::hub::repo::HubRepo;
use crate::support::files::write_whole;

/// Names and, where they are known, sizes of the files of a commit.
pub(super) type Files = BTreeMap<String, Option<u64>>;

/// The files of one repository.
pub(super) struct RepoCache {
    repo: CacheRepo,
    revision: String,
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub fn new(folder: &Path, repo: &HubRepo) -> Self {
        let revision = repo.revision_name().to_owned();
        let described =
            Repo::with_revision(repo.id().to_owned(), RepoType::Model, revision.clone());
        let name = described.folder_name();
        Self {
            repo: Cache::new(folder.to_path_buf()).repo(described),
            revision,
            root: folder.join(&name),
            locks: folder.join(".locks").join(&name),
        }
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    /// A file of a commit, if it is there whole.
    pub fn find(&self, commit: &str, file: &str, size: Option<u64>) -> Option<PathBuf> {
        let path = self.snapshot(commit).join(file);
        let found = path.metadata().ok().filter(fs::Metadata::is_file)?;
        size.is_none_or(|size| size == found.len()).then_some(path)
    }

    /// Whether a file of a commit is not what the name of its content says. Where files are no links
    /// to contents, that is not known.
    pub fn is_damaged(&self, commit: &str, file: &str) -> Result<bool, HubError> {
        let path = self.snapshot(commit).join(file);
        let Ok(blob) = fs::read_link(&path) else {
            return Ok(false);
        };
        let etag = blob.file_name().unwrap_or_default().to_string_lossy();
        let intact = is_intact(&path, &etag).map_err(HubError::cache(&path))?;
        Ok(intact == Some(false))
    }

    /// Takes a file of a commit and its content away: the one among the contents of this repository,
    /// wherever the link leads.
    pub fn remove(&self, commit: &str, file: &str) -> Result<(), HubError> {
        let path = self.snapshot(commit).join(file);
        if let Ok(link) = fs::read_link(&path)
            && let Some(etag) = link.file_name()
        {
            let blob = self.root.join("blobs").join(etag);
            match fs::remove_file(&blob) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(HubError::cache(&blob)(error));
                }
                _ => {}
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::Cache {
                path,
                source: error,
            }),
            _ => Ok(()),
        }
    }

    /// The commit that the revision was at when it was last downloaded.
    pub fn commit(&self) -> Option<String> {
        let written = self.written_commit();
        let commit = written.unwrap_or_else(|| self.revision.clone());
        (is_commit(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    fn written_commit(&self) -> Option<String> {
        let path = self.root.join("refs").join(&self.revision);
        let written = fs::read_to_string(path).ok()?;
        Some(written.trim().to_owned())
    }

    /// Remembers the commit that the revision is at.
    pub fn remember(&self, commit: &str) -> Result<(), HubError> {
        if self.written_commit().as_deref() == Some(commit) {
            return Ok(());
        }
        self.repo
            .create_ref(commit)
            .map_err(HubError::cache(self.root.join("refs")))
    }

    /// The files of a commit, of a list that was kept of the server's answer, or else those that
    /// another program has downloaded.
    pub fn files(&self, commit: &str) -> Files {
        let kept = fs::read(self.list_path(commit)).ok();
        if let Some(files) = kept.and_then(|json| serde_json::from_slice(&json).ok()) {
            return files;
        }
        let names = |folder: &Path| {
            let entries = folder.read_dir().into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok())
        };
        let snapshot = self.snapshot(commit);
        let mut files = Files::new();
        for name in names(&snapshot).collect::<Vec<_>>() {
            let path = snapshot.join(&name);
            if path.is_dir() {
                let inside = names(&path).map(|file| (format!("{name}/{file}"), None));
                files.extend(inside);
            } else {
                files.insert(name, None);
            }
        }
        files
    }

    /// Keeps the list of a commit's files, for offline use.
    pub fn keep_files(&self, commit: &str, files: &Files) -> Result<(), HubError> {
        let path = self.list_path(commit);
        create_parent(&path)?;
        // Two programs at once would write to the same partial file.
        let _lock = self.lock(commit)?;
        write_whole(&path, |file| {
            serde_json::to_writer(file, files).map_err(io::Error::from)
        })
        .map_err(HubError::cache(&path))
    }

    fn list_path(&self, commit: &str) -> PathBuf {
        self.root.join("files").join(format!("{commit}.json"))
    }

    /// Where the content of an etag belongs.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Waits until no other program downloads this content, and keeps others from it as long as
    /// the file is held. A file system without locks has no such guard.
    pub fn lock(&self, etag: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(HubError::cache(&path))?;
        match file.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(HubError::Cache {
                path,
                source: error,
            }),
            _ => Ok(file),
        }
    }

    /// Keeps the repository from being removed as long as the file is held: also between the downloads
    /// of two files, when no content is locked. Any number of programs may hold it.
    pub fn keep(&self) -> Result<File, HubError> {
        let path = self.locks.join("download.lock");
        create_parent(&path)?;
        let file = File::create(&path).map_err(HubError::cache(&path))?;
        match file.lock_shared() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(HubError::Cache {
                path,
                source: error,
            }),
            _ => Ok(file),
        }
    }

    /// Makes content that is there a file of a commit.
    pub fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        let linked = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => link(&self.blob(etag), &path, file.matches('/').count()),
        };
        linked.map_err(HubError::cache(&path))?;
        Ok(path)
    }
}

/// Creates the folder that a file is in.
pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(HubError::cache(folder)),
        None => Ok(()),
    }
}

/// Whether a text can be a commit.
pub(super) fn is_commit(text: &str) -> bool {
    (40..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// A relative link, so that the cache can be moved: `depth` folders below that of the commit.
#[cfg(unix)]
fn link(blob: &Path, path: &Path, depth: usize) -> io::Result<()> {
    let mut target = PathBuf::new();
    for _ in 0..depth + 2 {
        target.push("..");
    }
    target.push("blobs");
    target.extend(blob.file_name());
    std::os::unix::fs::symlink(target, path)
}

/// A second name of the content: symbolic links need rights that few accounts have.
#[cfg(not(unix))]
fn link(blob: &Path, path: &Path, _depth: usize) -> io::Result<()> {
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(drop))
}
