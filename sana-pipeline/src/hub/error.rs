//! What can go wrong between a name on the Hub and a folder.

use std::io;
use std::path::PathBuf;

use sana_linear_attn::WeightError;

/// An error of [`fetch`](super::fetch).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A text that is not `owner/name`.
    #[error("{text:?} is not the name of a repository, such as owner/name")]
    Name {
        /// The text.
        text: String,
    },
    /// A revision that cannot be one.
    #[error("{text:?} is not a revision: a branch, a tag or a commit is")]
    Revision {
        /// The text.
        text: String,
    },
    /// An endpoint that is no URL.
    #[error("HF_ENDPOINT {text:?} is not usable: expected a URL such as https://huggingface.co")]
    Endpoint {
        /// The text.
        text: String,
    },
    /// A token that cannot be sent.
    #[error("the token for the Hub has characters that no token has; look at HF_TOKEN")]
    Token,
    /// No folder for the cache is known.
    #[error("no home folder is known for the cache of the Hub; set HF_HOME to a folder")]
    NoHome,
    /// No repository of that name.
    #[error(
        "no folder and no repository {repo} at {endpoint}: check the name, and set HF_TOKEN if it \
         is private"
    )]
    NoSuchRepo {
        /// `owner/name`.
        repo: String,
        /// The server.
        endpoint: String,
    },
    /// No such branch, tag or commit.
    #[error("{repo} has no revision {revision}: a branch, a tag or a commit is expected")]
    NoSuchRevision {
        /// `owner/name`.
        repo: String,
        /// What was asked for.
        revision: String,
    },
    /// A repository or revision that is not in the cache.
    #[error("{} is not in the cache {}", of_revision(repo, revision), cache.display())]
    NotCached {
        /// `owner/name`.
        repo: String,
        /// What was asked for.
        revision: Option<String>,
        /// The folder of the cache.
        cache: PathBuf,
    },
    /// A repository that another process downloads.
    #[error("{repo} is being downloaded: wait until that has ended ({} is locked)", path.display())]
    Busy {
        /// `owner/name`.
        repo: String,
        /// The lock.
        path: PathBuf,
    },
    /// A gated repository, or a token that is not valid.
    #[error(
        "access to {repo} was denied (status {status}{}): accept its licence at {endpoint}/{repo}, \
         and set HF_TOKEN to a token of the account that did",
        said(message)
    )]
    Denied {
        /// `owner/name`.
        repo: String,
        /// The server.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// What the server says, if it says anything.
        message: String,
    },
    /// The server cannot be reached.
    #[error(
        "cannot reach {host}: {reason}; check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 \
         to use what was downloaded before"
    )]
    Unreachable {
        /// The host.
        host: String,
        /// What failed.
        reason: String,
    },
    /// Files that are needed, but not in the cache, in offline mode.
    #[error(
        "HF_HUB_OFFLINE is set, and of {repo} at {revision} {} not in the cache {}: unset it once \
         to download",
        absent(files), cache.display()
    )]
    Offline {
        /// `owner/name`.
        repo: String,
        /// The revision.
        revision: String,
        /// The files; empty when the cache has nothing of the repository.
        files: Vec<String>,
        /// The folder of the cache.
        cache: PathBuf,
    },
    /// A repository that is no checkpoint in the diffusers layout.
    #[error(
        "{repo} has no model_index.json: it is not a checkpoint in the diffusers layout; the \
         names of those end in _diffusers"
    )]
    NotCheckpoint {
        /// `owner/name`.
        repo: String,
    },
    /// Files that its `model_index.json` or a shard index promises.
    #[error(
        "{repo} is incomplete, it lacks {}{}",
        files.join(", "), sentencepiece(*sentencepiece_model)
    )]
    Incomplete {
        /// `owner/name`.
        repo: String,
        /// The files.
        files: Vec<String>,
        /// Whether it has a `tokenizer.model`, the form that this crate does not read.
        sentencepiece_model: bool,
    },
    /// A part without weights that this crate reads.
    #[error(
        "{repo} has no weights in {folder}: looked for {}{}; pickled .bin and .pth files are not read",
        expected.join(", "), of_variants(variants)
    )]
    NoWeights {
        /// `owner/name`.
        repo: String,
        /// The part's folder.
        folder: &'static str,
        /// The names that would do.
        expected: Vec<String>,
        /// Variants that are there: several, or quantized ones, so that one has to be asked for.
        variants: Vec<String>,
    },
    /// A variant of which no component has weights.
    #[error(
        "{repo} has no weights of the variant {variant:?}{}",
        of_variants(found)
    )]
    NoVariant {
        /// `owner/name`.
        repo: String,
        /// The variant.
        variant: String,
        /// The variants there are.
        found: Vec<String>,
    },
    /// A shard index that cannot be used.
    #[error(transparent)]
    ShardIndex(#[from] WeightError),
    /// Another HTTP status than success.
    #[error("{url} answered with status {status}{}", said(message))]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the server says, if it says anything.
        message: String,
    },
    /// An answer that is not that of a Hub.
    #[error("{url} gave an answer that cannot be used: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A download that broke off. What is there of it is kept.
    #[error(
        "the download of {file} broke off after {done} of {size} bytes: {reason}; the same command \
         again continues from there"
    )]
    BrokenOff {
        /// The file, relative to the repository.
        file: String,
        /// Bytes that are there.
        done: u64,
        /// All bytes.
        size: u64,
        /// What happened.
        reason: String,
    },
    /// A file that is not what its hash says, twice, or offline.
    #[error(
        "{file} is damaged: its content is not what its hash says ({}); online, it is downloaded \
         again", path.display()
    )]
    Damaged {
        /// The file, relative to the repository.
        file: String,
        /// Where it is in the cache.
        path: PathBuf,
    },
    /// The disk of the cache is full.
    #[error(
        "no space left for {file} ({size} bytes) in {}: free some, or set HF_HOME to another disk",
        path.display()
    )]
    NoSpace {
        /// The file, relative to the repository.
        file: String,
        /// Its size.
        size: u64,
        /// Where it was written.
        path: PathBuf,
    },
    /// A file of the cache could not be read or written.
    #[error("cannot use {} in the cache of the Hub: {source}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl HubError {
    /// That this path of the cache cannot be used, of the system's reason.
    pub(super) fn cache(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Cache { path, source }
    }
}

fn of_revision(repo: &str, revision: &Option<String>) -> String {
    match revision {
        None => repo.to_owned(),
        Some(revision) => format!("{repo} at {revision}"),
    }
}

fn said(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(", {message}"),
    }
}

fn absent(files: &[String]) -> String {
    match files {
        [] => "everything is".to_owned(),
        [file] => format!("{file} is"),
        files => format!("{} are", files.join(", ")),
    }
}

fn of_variants(variants: &[String]) -> String {
    match variants {
        [] => String::new(),
        variants => format!("; its variants are {}", variants.join(", ")),
    }
}

fn sentencepiece(is_there: bool) -> &'static str {
    match is_there {
        true => {
            "; the SentencePiece file tokenizer.model there is not read: convert it to tokenizer.json, \
             which transformers does with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        }
        false => "",
    }
}
