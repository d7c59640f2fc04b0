//! One file from the Hub into the cache.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::cache::checksum::is_intact;
use super::cache::{RepoCache, create_parent};
use super::client::Client;
use super::error::HubError;
use super::repo::HubRepo;

/// How often a download is taken up again within one call when its connection breaks.
const ATTEMPTS: u32 = 3;

/// What one download works on.
pub(super) struct Source<'a> {
    pub client: &'a Client,
    pub cache: &'a RepoCache,
    pub repo: &'a HubRepo,
    pub commit: &'a str,
}

impl Source<'_> {
    /// Downloads a file; `observe(done, size)` in bytes of it. It appears in the snapshot when it
    /// is whole: until then it has the ending `.incomplete`, and the next download continues
    /// with that.
    pub fn download(
        &self,
        file: &str,
        listed_size: Option<u64>,
        observe: &mut dyn FnMut(u64, u64),
    ) -> Result<u64, HubError> {
        let url = self.client.url(self.repo, self.commit, file);
        let info = self.client.file_info(self.repo, self.commit, &url)?;
        let size = info.size.or(listed_size).ok_or_else(|| HubError::Answer {
            url: url.clone(),
            reason: "it does not report the size of the file".to_owned(),
        })?;
        let blob = self.cache.blob(&info.etag);
        create_parent(&blob)?;
        // Held until the file is linked.
        let _lock = self.cache.lock(&info.etag)?;
        if self.cache.find(self.commit, file, Some(size)).is_some() {
            // Another program was faster.
            return Ok(0);
        }
        let there = blob.metadata().is_ok_and(|found| found.len() == size);
        let mut downloaded = 0;
        if !there || is_damaged(&blob, &info.etag)? {
            let mut partial = Partial::open(&blob, file, size)?;
            let mut again = false;
            loop {
                downloaded += size - partial.done.min(size);
                self.complete(&mut partial, &url, observe)?;
                if !is_damaged(&partial.path, &info.etag)? {
                    break;
                }
                // What was there of an earlier download may be what is wrong.
                partial.cut(0)?;
                if again {
                    return Err(HubError::Damaged {
                        file: file.to_owned(),
                        path: blob,
                    });
                }
                again = true;
            }
            partial.finish(&blob)?;
        }
        self.cache.link(self.commit, file, &info.etag)?;
        Ok(downloaded)
    }

    fn complete(
        &self,
        partial: &mut Partial,
        url: &str,
        observe: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let mut attempt = 1;
        while partial.done < partial.size {
            match self.receive(partial, url, observe) {
                Err(HubError::BrokenOff { .. } | HubError::Unreachable { .. })
                    if attempt < ATTEMPTS =>
                {
                    thread::sleep(Duration::from_millis(250) * attempt);
                    attempt += 1;
                }
                received => received?,
            }
        }
        Ok(())
    }

    fn receive(
        &self,
        partial: &mut Partial,
        url: &str,
        observe: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let download = self
            .client
            .download(self.repo, url, partial.done, partial.size)?;
        partial.cut(download.start)?;
        let mut reader = download.reader;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(partial.broken_off(&error.to_string())),
            };
            if read == 0 {
                break;
            }
            if partial.done + read as u64 > partial.size {
                let size = partial.size;
                partial.cut(0)?;
                return Err(HubError::Answer {
                    url: url.to_owned(),
                    reason: format!("it is longer than the {size} bytes that it should have"),
                });
            }
            partial.write(&buffer[..read])?;
            observe(partial.done, partial.size);
        }
        match partial.done == partial.size {
            true => Ok(()),
            false => Err(partial.broken_off("the connection was closed")),
        }
    }
}

/// Whether a file is not what its etag says, as far as that is a hash.
fn is_damaged(path: &Path, etag: &str) -> Result<bool, HubError> {
    let intact = is_intact(path, etag).map_err(HubError::cache(path))?;
    Ok(intact == Some(false))
}

/// A file that is not whole yet.
struct Partial {
    file: File,
    path: PathBuf,
    /// What it is called in the repository.
    name: String,
    done: u64,
    size: u64,
}

impl Partial {
    fn open(blob: &Path, name: &str, size: u64) -> Result<Self, HubError> {
        let mut path = blob.as_os_str().to_owned();
        path.push(".incomplete");
        let path = PathBuf::from(path);
        let open = || {
            let mut file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            let done = file.metadata()?.len();
            file.seek(SeekFrom::Start(done))?;
            Ok((file, done))
        };
        let (file, done) = open().map_err(HubError::cache(&path))?;
        let mut partial = Self {
            file,
            path,
            name: name.to_owned(),
            done,
            size,
        };
        if done > size {
            partial.cut(0)?;
        }
        // An empty file has nothing to wait for.
        Ok(partial)
    }

    /// Keeps the first bytes alone.
    fn cut(&mut self, length: u64) -> Result<(), HubError> {
        if length == self.done {
            return Ok(());
        }
        let file = &mut self.file;
        file.set_len(length)
            .and_then(|()| file.seek(SeekFrom::Start(length)))
            .map_err(HubError::cache(&self.path))?;
        self.done = length;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file
            .write_all(bytes)
            .map_err(|error| self.failed(error))?;
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Gives the content its place.
    fn finish(self, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(|error| self.failed(error))?;
        drop(self.file);
        fs::rename(&self.path, blob).map_err(HubError::cache(blob))
    }

    fn failed(&self, source: io::Error) -> HubError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HubError::NoSpace {
                file: self.name.clone(),
                size: self.size,
                path: self.path.clone(),
            },
            _ => HubError::Cache {
                path: self.path.clone(),
                source,
            },
        }
    }

    fn broken_off(&self, reason: &str) -> HubError {
        HubError::BrokenOff {
            file: self.name.clone(),
            done: self.done,
            size: self.size,
            reason: reason.to_owned(),
        }
    }
}
