//! Weight files of a component's folder.

use std::path::Path;

use sana_linear_attn::weights::{
    LARGEST_CONFIG, file_names, has_variant, read_text_bounded, weight_variants,
};
use sana_linear_attn::{WeightError, Weights};
use serde_json::Value;

use crate::checkpoint::component::CONFIG;

/// Opens weights of a variant, or the plain ones where it has no files.
pub(crate) fn open_weights(
    folder: &Path,
    stem: &str,
    variant: Option<&str>,
) -> Result<Weights, WeightError> {
    match Weights::open_folder(folder, stem, variant) {
        Err(WeightError::NoWeights { .. }) if variant.is_some() => {
            Weights::open_folder(folder, stem, None)
        }
        opened => opened,
    }
}

/// Whether a folder has weights of a variant.
pub(crate) fn has_variant_files(folder: &Path, stem: &str, variant: &str) -> bool {
    has_variant(stem, variant, &file_names(folder))
}

/// The variants of which a folder has weights.
pub(crate) fn variants_in(folder: &Path, stem: &str) -> Vec<String> {
    weight_variants(stem, &file_names(folder))
}

/// Whether a folder has files of the variant `fp16`, or its config says that they were made of such
/// ones: [`F16_CLAMP`].
pub(crate) fn has_f16_files(folder: &Path) -> bool {
    file_names(folder).iter().any(|name| name.contains(".fp16")) || says_f16(folder)
}

/// Where a `config.json` says that the weights are of a model that was trained in f16, whatever
/// they are stored in.
pub(crate) const F16_CLAMP: [&str; 2] = ["_sana", "f16_clamp"];

pub(crate) fn says_f16(folder: &Path) -> bool {
    let Ok(text) = read_text_bounded(&folder.join(CONFIG), LARGEST_CONFIG) else {
        return false;
    };
    let [keys, clamp] = F16_CLAMP;
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    config[keys][clamp] == true
}
