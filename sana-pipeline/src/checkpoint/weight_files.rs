//! Weight files of a component's folder.

use std::path::Path;

use sana_linear_attn::{WeightError, Weights};

use crate::error::PipelineError;

/// Opens weights of a variant, or the plain ones where it has no files.
pub(crate) fn open_weights(
    folder: &Path,
    stem: &str,
    variant: Option<&str>,
) -> Result<Weights, PipelineError> {
    let opened = Weights::open_folder(folder, stem, variant);
    Ok(match opened {
        Err(WeightError::NoWeights { .. }) if variant.is_some() => {
            Weights::open_folder(folder, stem, None)?
        }
        opened => opened?,
    })
}

/// Whether a folder has files of the variant `fp16`.
pub(crate) fn has_f16_files(folder: &Path) -> bool {
    let Ok(mut entries) = folder.read_dir().map(Iterator::flatten) else {
        return false;
    };
    entries.any(|entry| entry.file_name().to_string_lossy().contains(".fp16"))
}
