//! Results as lines of JSON that a run which was stopped is continued from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A file whose first line says what was measured and how; each further line is a result.
pub struct Lines {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Lines {
    /// Opens a file with the results that it has already. A line that was cut off is measured again.
    ///
    /// # Errors
    /// When the file is of another measurement.
    pub fn open<T: DeserializeOwned>(
        path: &Path,
        header: &Value,
    ) -> anyhow::Result<(Self, Vec<T>)> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        // As text: a number that is read is not always the one that was written.
        let begin = header.to_string();
        if let Some(first) = lines.next()
            && first != begin
        {
            bail!(
                "{} holds other results: it begins with {first}, and this run with {begin}; \
                 remove it or name another file",
                path.display()
            );
        }
        let mut results = Vec::new();
        for (index, line) in lines.enumerate() {
            let result = serde_json::from_str(line)
                .with_context(|| format!("line {} of {}", index + 2, path.display()))?;
            results.push(result);
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(path);
        let file = file.and_then(|mut file| {
            file.set_len(whole as u64)?;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            Ok(file)
        });
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let mut lines = Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
        };
        if whole == 0 {
            lines.add([header])?;
        }
        Ok((lines, results))
    }

    /// Adds results, which are in the file when this returns.
    pub fn add<T: Serialize>(
        &mut self,
        results: impl IntoIterator<Item = T>,
    ) -> anyhow::Result<()> {
        let write = || -> io::Result<()> {
            for result in results {
                serde_json::to_writer(&mut self.file, &result)?;
                self.file.write_all(b"\n")?;
            }
            self.file.flush()
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))
    }
}
