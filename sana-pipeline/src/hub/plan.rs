//! Which files of a repository a pipeline needs.

use std::path::Path;

use sana_linear_attn::weights::{shard_paths, weight_file_names};
use serde_json::{Map, Value};

use super::cache::Files;
use super::error::HubError;
use crate::checkpoint::Component;

/// What lists the components.
pub(super) const INDEX: &str = "model_index.json";

/// The parts that a `model_index.json` names.
pub(super) fn parts(index: &[u8]) -> Option<Vec<Component>> {
    let index: Map<String, Value> = serde_json::from_slice(index).ok()?;
    let named = |part: &Component| {
        let class = index.get(part.folder()).and_then(|entry| entry.get(1));
        class.is_some_and(Value::is_string)
    };
    Some(Component::ALL.into_iter().filter(named).collect())
}

/// The weight file of a part, or the index of its shards, as it will be looked for in the folder;
/// else the names that would do.
pub(super) fn weight_file(
    files: &Files,
    folder: &str,
    stem: &str,
    variant: Option<&str>,
) -> Result<String, Vec<String>> {
    let present: Vec<String> = files
        .keys()
        .filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/'))
        .map(str::to_owned)
        .collect();
    let mut expected = weight_file_names(stem, variant, &present);
    if variant.is_some() {
        // As when it is opened: the plain files of a part that has none of the variant.
        expected.extend(weight_file_names(stem, None, &present));
    }
    match expected.iter().find(|name| present.contains(name)) {
        Some(name) => Ok(format!("{folder}/{name}")),
        None => Err(expected),
    }
}

/// The shards that an index, which is at `path`, lists.
pub(super) fn shards(index: &str, path: &Path) -> Result<Vec<String>, HubError> {
    let folder = index.rsplit_once('/').map_or("", |(folder, _)| folder);
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        format!("{folder}/{}", name.to_string_lossy())
    };
    Ok(shard_paths(path)?.iter().map(|path| name(path)).collect())
}

/// Whether there are transformer weights of the variant `fp16`.
pub(super) fn has_f16_transformer(files: &Files) -> bool {
    let folder = Component::Transformer.folder();
    files
        .keys()
        .filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/'))
        .any(|name| name.contains(".fp16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Files {
        let entry = |name: &&str| ((*name).to_owned(), None);
        names.iter().map(entry).collect()
    }

    fn chosen(names: &[&str], variant: Option<&str>) -> Result<String, Vec<String>> {
        weight_file(&files(names), "vae", "model", variant)
    }

    #[test]
    fn the_variant_that_was_asked_for() {
        let plain = "vae/model.safetensors";
        let fp16 = "vae/model.fp16.safetensors";
        let sharded = "vae/model.safetensors.index.fp16.json";
        let both = [plain, fp16, "text/model.safetensors", "vae/model.bin"];
        assert_eq!(chosen(&both, None).unwrap(), plain);
        assert_eq!(chosen(&both, Some("fp16")).unwrap(), fp16);
        // A part without the variant, and the only variant that there is.
        assert_eq!(chosen(&both, Some("bf16")).unwrap(), plain);
        assert_eq!(chosen(&[fp16], None).unwrap(), fp16);
        assert_eq!(chosen(&[plain, sharded], Some("fp16")).unwrap(), sharded);
        let expected = chosen(&["vae/model.bin", "model.safetensors"], None).unwrap_err();
        assert_eq!(
            expected,
            ["model.safetensors", "model.safetensors.index.json"]
        );
    }

    #[test]
    fn parts_with_a_class_are_there() {
        let index = br#"{"_class_name": "SanaPipeline", "vae": ["diffusers", "AutoencoderDC"],
            "tokenizer": [null, null], "scheduler": 3}"#;
        assert_eq!(parts(index).unwrap(), [Component::Vae]);
        assert!(parts(b"[]").is_none());
    }

    #[test]
    fn models_trained_in_f16_are_seen() {
        let transformer = "transformer/diffusion_pytorch_model";
        let file = |ending: &str| files(&[&format!("{transformer}{ending}")]);
        assert!(has_f16_transformer(&file(".fp16.safetensors")));
        assert!(!has_f16_transformer(&file(".safetensors")));
        assert!(!has_f16_transformer(&files(&[
            "vae/model.fp16.safetensors"
        ])));
    }
}
