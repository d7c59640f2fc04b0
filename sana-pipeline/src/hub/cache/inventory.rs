//! What is in the cache, and taking it away.
//!
//! Several revisions of a repository may link to one content, so a revision is taken away first and
//! then the contents that no other one links to. A snapshot leaves its place in one step: a process
//! that is killed leaves whole snapshots, and at worst contents that nothing links to, which the next
//! removal takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::checksum::is_intact;
use super::walk::{file_size, files_below, names, size_below};
use crate::checkpoint::INDEX;
use crate::hub::error::HubError;

/// Characters of a commit that name it.
const SHORTEST_COMMIT: usize = 7;
/// The folder of snapshots that are being removed.
const REMOVED: &str = "removed";

/// A repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedRepo {
    /// `owner/name`.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its revisions, by commit.
    pub revisions: Vec<CachedRevision>,
    /// Bytes of all contents, each counted once.
    pub bytes: u64,
    /// Bytes of contents that no revision links to.
    pub unused_bytes: u64,
    /// Bytes of downloads that are not whole.
    pub incomplete_bytes: u64,
}

/// A revision in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedRevision {
    /// Its commit.
    pub commit: String,
    /// Branches and tags that were at this commit when they were last downloaded.
    pub refs: Vec<String>,
    /// Files that are there; not all of the repository's are downloaded.
    pub files: usize,
    /// Files whose content is gone.
    pub absent: usize,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes of contents that no other revision links to: what removing it gives back.
    pub own_bytes: u64,
    /// Whether it is a checkpoint in the published layout.
    pub is_checkpoint: bool,
}

/// What a removal took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The commits.
    pub commits: Vec<String>,
    /// Bytes that are free again.
    pub bytes: u64,
}

/// The files of a revision: each with what its link leads to, or with no link.
type Links = BTreeMap<PathBuf, Option<String>>;

/// A repository's folders.
struct Folders {
    root: PathBuf,
    locks: PathBuf,
}

/// The repositories in the folder of a cache, by name. A folder that is not there holds none.
///
/// # Errors
/// [`HubError::Cache`] when a folder cannot be read.
pub fn cached(cache: &Path) -> Result<Vec<CachedRepo>, HubError> {
    let mut found = Vec::new();
    for name in names(cache)? {
        let Some(id) = name.strip_prefix("models--") else {
            continue;
        };
        let folders = Folders::new(cache, &name);
        if folders.root.is_dir() {
            found.push(folders.repo(id.replacen("--", "/", 1))?);
        }
    }
    Ok(found)
}

/// The files of a repository in the cache whose content is not what its name says, or is gone, relative
/// to the snapshots' folder. Reads all of them.
///
/// # Errors
/// [`HubError::NotCached`], or [`HubError::Cache`] when something cannot be read.
pub fn damaged(cache: &Path, id: &str) -> Result<Vec<PathBuf>, HubError> {
    let folders = Folders::of(cache, id)?;
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    let mut damaged = Vec::new();
    for commit in folders.commits()? {
        for (file, link) in folders.links(&commit)? {
            let Some(etag) = link else { continue };
            let blob = folders.blob(&etag);
            let intact = match seen.get(&etag) {
                Some(intact) => *intact,
                None => match is_intact(&blob, &etag) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                    Err(error) => return Err(HubError::cache(&blob)(error)),
                    Ok(_) if !blob.is_file() => false,
                    Ok(intact) => intact != Some(false),
                },
            };
            seen.insert(etag, intact);
            if !intact {
                damaged.push(Path::new(&commit).join(file));
            }
        }
    }
    Ok(damaged)
}

/// Takes a revision, a branch, tag or commit of at least seven characters, out of the cache, or all of
/// the repository.
///
/// # Errors
/// [`HubError::NotCached`] when it is not there, [`HubError::Busy`] when it is being downloaded,
/// [`HubError::Cache`] when something cannot be removed: then it is gone, or whole.
pub fn remove(cache: &Path, id: &str, revision: Option<&str>) -> Result<Removed, HubError> {
    let folders = Folders::of(cache, id)?;
    // Held to the end, so that nothing is linked to what is removed.
    let _locks = folders.lock_all(id)?;
    let commits = folders.commits()?;
    let chosen = match revision {
        None => commits.clone(),
        Some(revision) => {
            let commit = folders.commit(revision, &commits)?;
            vec![commit.ok_or_else(|| HubError::NotCached {
                repo: id.to_owned(),
                revision: Some(revision.to_owned()),
                cache: cache.to_owned(),
            })?]
        }
    };
    for commit in &chosen {
        folders.remove_snapshot(commit)?;
    }
    let whole = chosen.len() == commits.len();
    let mut bytes = folders.remove_unused(whole)?;
    if whole {
        bytes += size_below(&folders.root);
        for folder in [&folders.root, &folders.locks] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(HubError::cache(folder)(error));
                }
                _ => {}
            }
        }
    }
    Ok(Removed {
        commits: chosen,
        bytes,
    })
}

impl Folders {
    fn new(cache: &Path, name: &str) -> Self {
        Self {
            root: cache.join(name),
            locks: cache.join(".locks").join(name),
        }
    }

    /// Those of a repository that is there.
    fn of(cache: &Path, id: &str) -> Result<Self, HubError> {
        let absent = || HubError::NotCached {
            repo: id.to_owned(),
            revision: None,
            cache: cache.to_owned(),
        };
        // A name that leaves the folder is not one that is listed.
        let listed = names(cache)?.into_iter().find(|name| {
            let found = name.strip_prefix("models--");
            found.is_some_and(|found| found.replacen("--", "/", 1) == id)
        });
        let folders = Self::new(cache, &listed.ok_or_else(absent)?);
        match folders.root.is_dir() {
            true => Ok(folders),
            false => Err(absent()),
        }
    }

    fn repo(&self, id: String) -> Result<CachedRepo, HubError> {
        let refs = self.refs()?;
        let mut links = Vec::new();
        for commit in self.commits()? {
            let of = self.links(&commit)?;
            links.push((commit, of));
        }
        let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (commit, of) in &links {
            for etag in of.values().flatten() {
                uses.entry(etag).or_default().insert(commit);
            }
        }
        let revisions = links.iter().map(|(commit, of)| {
            let etags: BTreeSet<&String> = of.values().flatten().collect();
            let size = |etag: &&String| self.size(etag).unwrap_or(0);
            let own = etags.iter().copied();
            let own = own.filter(|etag| uses.get(etag.as_str()).is_some_and(|by| by.len() == 1));
            let plain = of.iter().filter(|(_, link)| link.is_none());
            let plain = plain.map(|(file, _)| file_size(&self.snapshot(commit).join(file)));
            let plain: u64 = plain.sum();
            CachedRevision {
                refs: refs
                    .iter()
                    .filter(|(_, at)| *at == commit)
                    .map(|(name, _)| name.clone())
                    .collect(),
                files: of.len(),
                absent: etags
                    .iter()
                    .filter(|etag| self.size(etag).is_none())
                    .count(),
                bytes: etags.iter().map(size).sum::<u64>() + plain,
                own_bytes: own.map(|etag| size(&etag)).sum::<u64>() + plain,
                is_checkpoint: of.contains_key(Path::new(INDEX)),
                commit: commit.clone(),
            }
        });
        let revisions = revisions.collect();
        let mut repo = CachedRepo {
            id,
            folder: self.root.clone(),
            revisions,
            bytes: 0,
            unused_bytes: 0,
            incomplete_bytes: 0,
        };
        for name in names(&self.root.join("blobs"))? {
            let size = self.size(&name).unwrap_or(0);
            if name.ends_with(INCOMPLETE) {
                repo.incomplete_bytes += size;
            } else {
                repo.bytes += size;
                if !uses.contains_key(name.as_str()) {
                    repo.unused_bytes += size;
                }
            }
        }
        Ok(repo)
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Bytes of a content that is there.
    fn size(&self, etag: &str) -> Option<u64> {
        let found = self.blob(etag).metadata().ok()?;
        found.is_file().then_some(found.len())
    }

    fn commits(&self) -> Result<Vec<String>, HubError> {
        names(&self.root.join("snapshots"))
    }

    /// Branches and tags with their commits.
    fn refs(&self) -> Result<BTreeMap<String, String>, HubError> {
        let folder = self.root.join("refs");
        let mut refs = BTreeMap::new();
        for path in files_below(&folder)? {
            let text = fs::read_to_string(&path).map_err(HubError::cache(&path))?;
            let name = path.strip_prefix(&folder).unwrap_or(&path);
            let name = name.to_string_lossy().replace('\\', "/");
            refs.insert(name, text.trim().to_owned());
        }
        Ok(refs)
    }

    /// The commit that a revision names.
    fn commit(&self, revision: &str, commits: &[String]) -> Result<Option<String>, HubError> {
        let of_ref = self.refs()?.remove(revision);
        if let Some(commit) = of_ref.filter(|commit| commits.contains(commit)) {
            return Ok(Some(commit));
        }
        let mut matching = commits.iter().filter(|commit| {
            *commit == revision || revision.len() >= SHORTEST_COMMIT && commit.starts_with(revision)
        });
        let first = matching.next();
        Ok(first.filter(|_| matching.next().is_none()).cloned())
    }

    /// The files of a commit, relative to its folder.
    fn links(&self, commit: &str) -> Result<Links, HubError> {
        let folder = self.snapshot(commit);
        let mut links = Links::new();
        for path in files_below(&folder)? {
            let found = path.symlink_metadata().map_err(HubError::cache(&path))?;
            // A link that cannot be read is an error: its content would be taken for unused.
            let link = match found.is_symlink() {
                true => Some(fs::read_link(&path).map_err(HubError::cache(&path))?),
                false => None,
            };
            let etag = link.and_then(|link| link.file_name()?.to_str().map(str::to_owned));
            let file = path.strip_prefix(&folder).unwrap_or(&path).to_owned();
            links.insert(file, etag);
        }
        Ok(links)
    }

    /// The locks of all downloads of the repository.
    fn lock_all(&self, id: &str) -> Result<Vec<File>, HubError> {
        let mut held = Vec::new();
        for name in names(&self.locks)? {
            held.extend(self.lock(&self.locks.join(name), id)?);
        }
        Ok(held)
    }

    /// A lock, if it is there.
    fn lock(&self, path: &Path, id: &str) -> Result<Option<File>, HubError> {
        let file = match File::options().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(HubError::cache(path))?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(HubError::Busy {
                repo: id.to_owned(),
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                Err(HubError::cache(path)(error))
            }
            _ => Ok(Some(file)),
        }
    }

    /// Takes a snapshot away: first what names it, so that no name leads to nothing, then all of it in
    /// one step.
    fn remove_snapshot(&self, commit: &str) -> Result<(), HubError> {
        for (name, at) in self.refs()? {
            if at == commit {
                let path = self.root.join("refs").join(name);
                fs::remove_file(&path).map_err(HubError::cache(&path))?;
            }
        }
        let (from, removed) = (self.snapshot(commit), self.root.join(REMOVED));
        fs::create_dir_all(&removed).map_err(HubError::cache(&removed))?;
        let to = removed.join(commit);
        // Of a process that was killed.
        let _ = fs::remove_dir_all(&to);
        fs::rename(&from, &to).map_err(HubError::cache(&from))?;
        let list = self.root.join("files").join(format!("{commit}.json"));
        let _ = fs::remove_file(list);
        Ok(())
    }

    /// Removes the contents that no snapshot links to, and with `all` unfinished ones too; returns how
    /// many bytes they had.
    fn remove_unused(&self, all: bool) -> Result<u64, HubError> {
        let removed = self.root.join(REMOVED);
        if removed.is_dir() {
            fs::remove_dir_all(&removed).map_err(HubError::cache(&removed))?;
        }
        let blobs = self.root.join("blobs");
        // Contents that a link leads to may be those of others too.
        if blobs.is_symlink() {
            return Ok(0);
        }
        let mut used = BTreeSet::new();
        for commit in self.commits()? {
            used.extend(self.links(&commit)?.into_values().flatten());
        }
        let mut bytes = 0;
        for name in names(&blobs)? {
            if used.contains(&name) || (name.ends_with(INCOMPLETE) && !all) {
                continue;
            }
            let path = self.blob(&name);
            bytes += self.size(&name).unwrap_or(0);
            fs::remove_file(&path).map_err(HubError::cache(&path))?;
        }
        Ok(bytes)
    }
}

/// The ending of contents that are not whole.
const INCOMPLETE: &str = ".incomplete";
