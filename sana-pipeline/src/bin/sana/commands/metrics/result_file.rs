//! Results as lines of JSON that a run which was stopped is continued from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A file whose first line says what was measured and how; each further line is a result.
pub struct ResultFile {
    file: BufWriter<File>,
    path: PathBuf,
}

impl ResultFile {
    /// Opens a file with the results that it has already. A line that was cut off is measured again.
    ///
    /// # Errors
    /// When the file is of another measurement.
    pub fn open<T: DeserializeOwned>(
        path: &Path,
        header: &Value,
    ) -> anyhow::Result<(Self, Vec<T>)> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        // A line that was cut off may end within a character.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |end| end + 1);
        // As text: a number that is read is not always the one that was written.
        let begin = header.to_string();
        let cut_header = whole == 0 && begin.as_bytes().starts_with(&bytes);
        let text = str::from_utf8(&bytes[..whole]).ok();
        let Some(text) = text.filter(|_| whole > 0 || cut_header) else {
            bail!(
                "{} holds no results of a measurement: name another file",
                path.display()
            );
        };
        let mut lines = text.lines();
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_results_are_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let header = json!({ "metric": "clip-score" });
        let open = || ResultFile::open::<String>(&path, &header).map(|(_, results)| results);
        assert_eq!(open().unwrap(), [""; 0]);
        let begin = fs::read(&path).unwrap();
        assert_eq!(begin, b"{\"metric\":\"clip-score\"}\n");
        let cases: [(&[u8], Option<&[&str]>); 6] = [
            (b"\"one\"\n\"two\"\n", Some(&["one", "two"])),
            // Cut off, also within a character.
            (b"\"one\"\n\"tw", Some(&["one"])),
            (b"\"one\"\n\"\xc3", Some(&["one"])),
            (b"one\n", None),
            (b"\"\xff\"\n", None),
            (b"", Some(&[])),
        ];
        for (rest, expected) in cases {
            fs::write(&path, [&begin, rest].concat()).unwrap();
            assert_eq!(
                open().ok().as_deref(),
                expected
                    .map(|all| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
                    .as_deref()
            );
        }
        // A header that was cut off does not count.
        fs::write(&path, &begin[..9]).unwrap();
        assert_eq!(open().unwrap(), [""; 0]);
        // What somebody else wrote stays.
        for other in [&b"{\"a\": 1}"[..], b"{\"a\": 1}\n", b"\xff\xd8"] {
            fs::write(&path, other).unwrap();
            assert!(open().is_err());
            assert_eq!(fs::read(&path).unwrap(), other);
        }
    }
}
