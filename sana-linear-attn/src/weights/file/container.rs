//! What a file is that is not safetensors, by its first bytes.

use std::path::Path;

use crate::weights::error::WeightError;
use crate::weights::file::read::Header;

/// Kinds of files that are found in the place of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    LfsPointer,
    Gguf,
    Html,
    Zip,
    Pickle,
    Gzip,
}

impl Container {
    /// The kind of a file; `None` for safetensors and what is not known.
    pub fn of(file: &[u8]) -> Option<Self> {
        let text = file.trim_ascii_start();
        let begins = |word: &[u8]| {
            text.get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        if file.starts_with(b"version https://git-lfs.github.com/") {
            Some(Self::LfsPointer)
        } else if file.starts_with(b"GGUF") {
            Some(Self::Gguf)
        } else if begins(b"<!doctype html") || begins(b"<html") {
            Some(Self::Html)
        } else if file.starts_with(b"PK\x03\x04") {
            Some(Self::Zip)
        } else if file.starts_with(&[0x1f, 0x8b, 8]) {
            Some(Self::Gzip)
        } else if matches!(file, [0x80, 2..=5, ..]) && Header::read(file).is_err() {
            // The length of a safetensors header can begin with the same bytes.
            Some(Self::Pickle)
        } else {
            None
        }
    }

    pub fn may_be_pytorch(self) -> bool {
        matches!(self, Self::Zip | Self::Pickle)
    }

    pub fn error(self, path: &Path) -> WeightError {
        let (found, advice) = match self {
            Self::LfsPointer => (
                "a pointer of Git LFS, which only says where the weights are",
                "download the file itself, in a clone with `git lfs pull`",
            ),
            Self::Gguf => (
                "a GGUF file",
                "only a text encoder can be a GGUF file, one that is named on its own",
            ),
            Self::Html => (
                "a web page saved as weights",
                "download the file again, from the link of the file itself and, if the model \
                 asks for it, after logging in",
            ),
            Self::Zip => (
                "a zip archive that is not a PyTorch checkpoint",
                "unpack it and use the weights in it",
            ),
            Self::Pickle => (
                "a pickle that is not a PyTorch checkpoint",
                "use the model's safetensors or .pth file",
            ),
            Self::Gzip => ("a gzip archive", "unpack it and use the weights in it"),
        };
        WeightError::OtherFile {
            path: path.to_path_buf(),
            found: found.to_owned(),
            advice: advice.to_owned(),
        }
    }
}
