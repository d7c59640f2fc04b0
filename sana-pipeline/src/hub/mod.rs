//! Published checkpoints by name, `owner/name`, from the [Hugging Face
//! Hub](https://huggingface.co/docs/hub) (feature `hub`).
//!
//! ```no_run
//! use sana_pipeline::hub::{self, HubOptions, HubRepo};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let repo = HubRepo::new("Efficient-Large-Model/Sana_600M_512px_diffusers")?;
//! let snapshot = hub::fetch(&repo, Some("fp16"), &HubOptions::from_env()?, &mut |progress| {
//!     println!("{}: {} of {} bytes", progress.file, progress.done, progress.total);
//! })?;
//! let checkpoint = snapshot.open()?;
//! # Ok(())
//! # }
//! ```
//!
//! Only what a pipeline needs is downloaded: `model_index.json`, configs, the tokenizer, and the
//! safetensors of the variant that was asked for. Files are kept in the cache that other programs
//! for the Hub use too, so that nothing is downloaded twice; one that is not whole has a name of
//! its own, and the next download continues with it.

mod cache;
mod client;
mod download;
mod error;
mod list;
mod options;
mod plan;
mod repo;

use std::path::PathBuf;

use self::cache::{Files, RepoCache};
use self::client::Client;
use self::download::Source;
use self::list::read_list;
use crate::checkpoint::{Checkpoint, Component, INDEX};
use crate::error::PipelineError;

pub use cache::inventory::{CachedRepo, CachedRevision, Removed, cached, damaged, remove};
pub use error::HubError;
pub use options::HubOptions;
pub use repo::HubRepo;

/// How far [`fetch`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubProgress<'a> {
    /// The file that is being downloaded, relative to the repository.
    pub file: &'a str,
    /// Bytes that are there, of the files that this call downloads.
    pub done: u64,
    /// All bytes of them, as far as they are known: first the configs, then the weights.
    pub total: u64,
}

/// A checkpoint in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its folder, in the published layout.
    pub folder: PathBuf,
    /// The commit that it is at.
    pub commit: String,
    /// Bytes that this call downloaded; 0 when all was there.
    pub downloaded: u64,
    /// Whether the repository has transformer weights of the variant `fp16`. Such a model needs
    /// the limit on self-attention outputs in every dtype, and the files in the folder alone would
    /// not show it.
    pub trained_in_f16: bool,
}

impl Snapshot {
    /// Opens the checkpoint.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(&self) -> Result<Checkpoint, PipelineError> {
        let mut checkpoint = Checkpoint::open(&self.folder)?;
        if self.trained_in_f16 {
            checkpoint.mark_trained_in_f16();
        }
        Ok(checkpoint)
    }
}

/// Downloads a checkpoint, or what of it is not in the cache yet. `variant` is a suffix of weight
/// files such as `fp16`; a part without files of it has its plain ones.
///
/// The server is asked for the list of files each time, so that a branch that moved is followed;
/// offline, the commit that it was last seen at is used.
///
/// # Errors
/// [`HubError`]; what was downloaded by then is kept.
pub fn fetch(
    repo: &HubRepo,
    variant: Option<&str>,
    options: &HubOptions,
    observe: &mut dyn FnMut(HubProgress<'_>),
) -> Result<Snapshot, HubError> {
    let cache = RepoCache::new(&options.cache, repo);
    // Held to the end, so that what is downloaded is not removed before all of it is there.
    let (client, commit, files, _kept) = if options.offline {
        let nothing = || offline(repo, options, Vec::new());
        let commit = cache.commit().ok_or_else(nothing)?;
        let files = cache.files(&commit);
        (None, commit, files, None)
    } else {
        let client = Client::new(options)?;
        let (url, list) = client.list(repo)?;
        let (commit, files) =
            read_list(&list).map_err(|reason| HubError::Answer { url, reason })?;
        let kept = cache.keep()?;
        cache.keep_files(&commit, &files)?;
        (Some(client), commit, files, Some(kept))
    };
    let mut fetching = Fetching {
        repo,
        cache: &cache,
        client: client.as_ref(),
        options,
        commit: &commit,
        files: &files,
        done: 0,
        total: 0,
        downloaded: 0,
        observe,
    };
    fetching.all(variant)?;
    let downloaded = fetching.downloaded;
    if client.is_some() {
        cache.remember(&commit)?;
    }
    Ok(Snapshot {
        folder: cache.snapshot(&commit),
        downloaded,
        trained_in_f16: plan::has_f16_transformer(&files),
        commit,
    })
}

/// That files are not in the cache.
fn offline(repo: &HubRepo, options: &HubOptions, files: Vec<String>) -> HubError {
    HubError::Offline {
        repo: repo.id().to_owned(),
        revision: repo.revision_name().to_owned(),
        files,
        cache: options.cache.clone(),
    }
}

/// A download of several files.
struct Fetching<'a> {
    repo: &'a HubRepo,
    cache: &'a RepoCache,
    /// `None` offline.
    client: Option<&'a Client>,
    options: &'a HubOptions,
    commit: &'a str,
    files: &'a Files,
    done: u64,
    total: u64,
    downloaded: u64,
    observe: &'a mut dyn FnMut(HubProgress<'_>),
}

impl Fetching<'_> {
    /// First what lists the files, then the weights.
    fn all(&mut self, variant: Option<&str>) -> Result<(), HubError> {
        if !self.files.contains_key(INDEX) {
            let otherwise = HubError::NotCheckpoint {
                repo: self.repo.id().to_owned(),
            };
            return Err(self.absent(vec![INDEX.to_owned()], otherwise));
        }
        self.get(&[INDEX.to_owned()])?;
        let index = self.cache.snapshot(self.commit).join(INDEX);
        let text = std::fs::read(&index).map_err(HubError::cache(&index))?;
        let parts = plan::parts(&text).ok_or_else(|| HubError::NotCheckpoint {
            repo: self.repo.id().to_owned(),
        })?;
        let configs = parts.iter().map(|part| part.config_file().to_owned());
        let mut configs: Vec<String> = configs.collect();
        // Not every repository has them, nor every cache that an older program filled.
        for (part, optional) in plan::OPTIONAL {
            let has_part = parts.contains(&part);
            if has_part && self.files.contains_key(optional) && self.can_get(optional) {
                configs.push(optional.to_owned());
            }
        }
        self.get(&configs)?;
        // Without a variant that was asked for, what is in the cache is chosen from offline, by the same
        // rules; else the list says what is absent.
        let here = match variant {
            Some(_) => self.files.clone(),
            None => self.files_here(),
        };
        if let Some(variant) = variant
            && let Some(found) = plan::without_variant(self.files, &parts, variant)
        {
            return Err(HubError::NoVariant {
                repo: self.repo.id().to_owned(),
                variant: variant.to_owned(),
                found,
            });
        }

        let mut weights = Vec::new();
        for &part in &parts {
            let Some(stem) = part.weights_stem() else {
                continue;
            };
            let folder = part.folder();
            let found = plan::weight_file(&here, folder, stem, variant);
            let found = match found {
                Err(absent) if absent.variants.is_empty() => {
                    plan::weight_file(self.files, folder, stem, variant)
                }
                found => found,
            };
            weights.push(found.map_err(|absent| {
                let ambiguous = !absent.variants.is_empty();
                let otherwise = HubError::NoWeights {
                    repo: self.repo.id().to_owned(),
                    folder,
                    expected: absent.expected,
                    variants: absent.variants,
                };
                match ambiguous {
                    true => otherwise,
                    false => self.absent(vec![format!("the weights in {folder}")], otherwise),
                }
            })?);
        }
        let (indices, mut files): (Vec<_>, Vec<_>) = weights
            .into_iter()
            .partition(|name| name.ends_with(".json"));
        self.get(&indices)?;
        for index in indices {
            let path = self.cache.snapshot(self.commit).join(&index);
            files.extend(plan::shards(&index, &path)?);
        }
        self.get(&files)
    }

    /// Whether a file is in the cache or can be fetched.
    fn can_get(&self, file: &str) -> bool {
        self.client.is_some() || self.cache.find(self.commit, file, None).is_some()
    }

    /// The files that can be had: all, or offline those in the cache.
    fn files_here(&self) -> Files {
        let files = self.files.iter();
        let files = files.filter(|(name, _)| self.can_get(name));
        files.map(|(name, size)| (name.clone(), *size)).collect()
    }

    /// That files are absent. Offline, where the list may be that of another program's download,
    /// they are not known to be absent from the repository.
    fn absent(&self, files: Vec<String>, otherwise: HubError) -> HubError {
        match self.client {
            Some(_) => otherwise,
            None => offline(self.repo, self.options, files),
        }
    }

    /// Takes files away that are not what their hashes say, so that they are downloaded again.
    fn remove_damaged(&self, names: &[String]) -> Result<(), HubError> {
        for file in names {
            if self.cache.find(self.commit, file, None).is_none()
                || !self.cache.is_damaged(self.commit, file)?
            {
                continue;
            }
            if self.client.is_none() {
                return Err(HubError::Damaged {
                    file: file.clone(),
                    path: self.cache.snapshot(self.commit).join(file),
                });
            }
            self.cache.remove(self.commit, file)?;
        }
        Ok(())
    }

    /// Sees to it that files are in the snapshot.
    fn get(&mut self, names: &[String]) -> Result<(), HubError> {
        let unlisted = names.iter().filter(|name| !self.files.contains_key(*name));
        let unlisted: Vec<String> = unlisted.cloned().collect();
        if self.options.verify {
            self.remove_damaged(names)?;
        }
        let wanted: Vec<(&String, Option<u64>)> = names
            .iter()
            .map(|name| (name, self.files.get(name).copied().flatten()))
            .filter(|(name, size)| self.cache.find(self.commit, name, *size).is_none())
            .collect();
        let Some(client) = self.client else {
            let absent: Vec<String> = wanted.into_iter().map(|(name, _)| name.clone()).collect();
            return match absent.is_empty() {
                true => Ok(()),
                false => Err(offline(self.repo, self.options, absent)),
            };
        };
        if !unlisted.is_empty() {
            return Err(HubError::Incomplete {
                repo: self.repo.id().to_owned(),
                sentencepiece_model: unlisted
                    .iter()
                    .any(|name| name == Component::Tokenizer.config_file())
                    && self.files.contains_key(plan::SENTENCEPIECE),
                files: unlisted,
            });
        }
        self.total += wanted.iter().filter_map(|(_, size)| *size).sum::<u64>();
        let source = Source {
            client,
            cache: self.cache,
            repo: self.repo,
            commit: self.commit,
        };
        for (file, size) in wanted {
            // One whose size was not listed counts from when it is known.
            let (before, mut total) = (self.done, self.total);
            let observe = &mut self.observe;
            let mut finished = 0;
            self.downloaded += source.download(file, size, &mut |done, of| {
                if size.is_none() && total == self.total {
                    total += of;
                }
                finished = of;
                observe(HubProgress {
                    file,
                    done: before + done,
                    total,
                });
            })?;
            self.done = before + size.unwrap_or(finished);
            self.total = total;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever files of it are in the folder.
    #[test]
    fn a_model_trained_in_f16_stays_one() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pipeline/sana");
        for trained_in_f16 in [false, true] {
            let snapshot = Snapshot {
                folder: fixtures.into(),
                commit: "0".repeat(40),
                downloaded: 0,
                trained_in_f16,
            };
            let checkpoint = snapshot.open().unwrap();
            assert_eq!(checkpoint.has_f16_transformer(), trained_in_f16);
        }
    }
}
