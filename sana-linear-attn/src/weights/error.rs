use std::path::PathBuf;

/// What can go wrong with a checkpoint's weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// A file could not be opened, read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No weight file of the expected names in a folder.
    #[error("no weights in {folder}: looked for {}", expected.join(", "))]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// File names that were looked for.
        expected: Vec<String>,
    },
    /// A file that is not valid safetensors: truncated, corrupt, or of an unsupported dtype.
    #[error("{path} is not a valid safetensors file: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        reason: String,
    },
    /// A file of another kind.
    #[error("{path} is {found}, not weights in safetensors: {advice}")]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What to do.
        advice: String,
    },
    /// An index of shards that cannot be used.
    #[error("bad shard index {path}: {reason}")]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensors of a checkpoint are not those of the model.
    #[error(
        "{origin} does not fit the model{}",
        mismatch_lists(missing, unexpected, misshapen)
    )]
    Mismatch {
        /// Where the weights come from.
        origin: String,
        /// Tensors the model needs and the checkpoint lacks.
        missing: Vec<String>,
        /// Tensors of the checkpoint that the model does not have.
        unexpected: Vec<String>,
        /// Tensors of another shape: name, expected, found.
        misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    },
    /// A tensor asked for by name is not there.
    #[error("no tensor {name:?} in {origin}")]
    NoTensor {
        /// Its name.
        name: String,
        /// Where it was looked for.
        origin: String,
    },
    /// A tensor whose dtype is not a float of a supported kind.
    #[error("tensor {name:?} in {origin} has dtype {found}, expected f32, f16 or bf16")]
    Dtype {
        /// Its name.
        name: String,
        /// Where it was found.
        origin: String,
        /// The dtype found.
        found: String,
    },
}

pub(crate) fn mismatch_lists(
    missing: &[String],
    unexpected: &[String],
    misshapen: &[(String, Vec<usize>, Vec<usize>)],
) -> String {
    let mut text = String::new();
    if !missing.is_empty() {
        text += &format!("; missing {}: {}", missing.len(), missing.join(", "));
    }
    if !unexpected.is_empty() {
        text += &format!(
            "; unexpected {}: {}",
            unexpected.len(),
            unexpected.join(", ")
        );
    }
    if !misshapen.is_empty() {
        let items: Vec<String> = misshapen
            .iter()
            .map(|(name, expected, found)| format!("{name} expected {expected:?} found {found:?}"))
            .collect();
        text += &format!("; wrong shape {}: {}", misshapen.len(), items.join(", "));
    }
    text
}
