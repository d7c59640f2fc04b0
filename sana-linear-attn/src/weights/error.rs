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
    #[error("no weights in {folder}: looked for {}{}", expected.join(", "), other_variants(variants))]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// File names that were looked for.
        expected: Vec<String>,
        /// Variants that are there: several, or quantized ones, so that one has to be asked for.
        variants: Vec<String>,
    },
    /// A file that is not valid safetensors: truncated, corrupt, or of an unsupported dtype.
    #[error("{path} is not a valid safetensors file: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        reason: String,
    },
    /// A GGUF file that cannot be used: truncated, corrupt, or of a type that is not supported.
    #[error("{path} is not a usable GGUF file: {reason}")]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        reason: String,
    },
    /// Quantized weights that cannot be read: parts that do not fit together, or a format that is not
    /// supported.
    #[error("{origin} has quantized weights that cannot be read: {reason}")]
    Quantized {
        /// Where the weights come from.
        origin: String,
        /// Which, and why.
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
        mismatch_lists(missing, unexpected, misshapen, LISTED)
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

fn other_variants(variants: &[String]) -> String {
    match variants {
        [] => String::new(),
        _ => format!(
            "; ask for one of the variants there: {}",
            variants.join(", ")
        ),
    }
}

/// Names of one kind in the text of an error; the rest is counted.
pub(crate) const LISTED: usize = 5;

impl WeightError {
    /// The text with the names of all tensors, of which the usual one lists a few of each kind;
    /// `None` where that has all.
    pub fn all_names(&self) -> Option<String> {
        let Self::Mismatch {
            origin,
            missing,
            unexpected,
            misshapen,
        } = self
        else {
            return None;
        };
        let lists = mismatch_lists(missing, unexpected, misshapen, usize::MAX);
        let text = format!("{origin} does not fit the model{lists}");
        (text != self.to_string()).then_some(text)
    }
}

/// At most `most` of the items, and how many more there are.
pub(crate) fn listed(items: &[String], most: usize) -> String {
    match items.len().saturating_sub(most) {
        0 => items.join(", "),
        more => format!("{} and {more} more", items[..most].join(", ")),
    }
}

pub(crate) fn mismatch_lists(
    missing: &[String],
    unexpected: &[String],
    misshapen: &[(String, Vec<usize>, Vec<usize>)],
    most: usize,
) -> String {
    let mut text = String::new();
    let misshapen: Vec<String> = misshapen
        .iter()
        .map(|(name, expected, found)| format!("{name} expected {expected:?} found {found:?}"))
        .collect();
    for (what, items) in [
        ("missing", missing),
        ("unexpected", unexpected),
        ("wrong shape", &misshapen),
    ] {
        if !items.is_empty() {
            text += &format!("; {what} {}: {}", items.len(), listed(items, most));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_names_of_each_kind() {
        let names = |count: usize| (0..count).map(|index| format!("n{index}")).collect();
        let error = |missing, unexpected| WeightError::Mismatch {
            origin: "here".to_owned(),
            missing: names(missing),
            unexpected: names(unexpected),
            misshapen: vec![("s".to_owned(), vec![2], vec![3, 1])],
        };
        let few = error(LISTED, 0);
        assert_eq!(
            few.to_string(),
            "here does not fit the model; missing 5: n0, n1, n2, n3, n4; wrong shape 1: s expected \
             [2] found [3, 1]"
        );
        assert_eq!(few.all_names(), None);
        let many = error(2, LISTED + 7);
        let text = many.to_string();
        assert!(text.contains("; missing 2: n0, n1; unexpected 12: n0, n1, n2, n3, n4 and 7 more; wrong shape 1: s"), "{text}");
        let all = many.all_names().unwrap();
        assert!(all.contains("n10, n11; wrong shape"), "{all}");
    }
}
