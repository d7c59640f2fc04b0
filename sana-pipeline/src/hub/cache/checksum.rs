//! What the name of a content in the cache says about its bytes.
//!
//! The Hub names large files by their SHA-256, and small ones as git does: by the SHA-1 of
//! `blob SIZE`, a zero byte and the content. Other servers may have names of other kinds, which say
//! nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Whether a file has the content that this etag names; `None` when the etag is not a hash.
pub(crate) fn is_intact(path: &Path, etag: &str) -> io::Result<Option<bool>> {
    let hex = etag.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let file = match etag.len() {
        40 | 64 if hex => File::open(path)?,
        _ => return Ok(None),
    };
    let found = if etag.len() == 64 {
        digest(file, Sha256::new())?
    } else {
        let size = file.metadata()?.len();
        digest(file, Sha1::new_with_prefix(format!("blob {size}\0")))?
    };
    Ok(Some(found == etag))
}

fn digest(mut file: File, mut hash: impl Digest) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let hash = hash.finalize();
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_contents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        let intact = |etag: &str| is_intact(&path, etag).unwrap();
        // `git hash-object` and `sha256sum` of it.
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        for etag in [git, sha256] {
            assert_eq!(intact(etag), Some(true));
            assert_eq!(intact(&etag.replace('5', "6")), Some(false));
        }
        for other in ["", "an-etag", &git[1..], &git.to_uppercase()] {
            assert_eq!(intact(other), None, "{other}");
        }
        assert!(is_intact(&folder.path().join("none"), git).is_err());
    }
}
