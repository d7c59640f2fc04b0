//! Which files of a repository a pipeline needs.

use std::collections::BTreeSet;
use std::path::Path;

use sana_linear_attn::weights::{has_variant, shard_paths, weight_file_names, weight_variants};
use serde_json::{Map, Value};

use super::cache::Files;
use super::error::HubError;
use crate::checkpoint::Component;
use crate::preview::LATENT_RGB;

/// The parts that a `model_index.json` names.
pub(super) fn parts(index: &[u8]) -> Option<Vec<Component>> {
    let index: Map<String, Value> = serde_json::from_slice(index).ok()?;
    let named = |part: &Component| {
        let class = index.get(part.folder()).and_then(|entry| entry.get(1));
        class.is_some_and(Value::is_string)
    };
    Some(Component::ALL.into_iter().filter(named).collect())
}

/// Files that not every repository has, and the component that each is of: settings of the tokenizer,
/// colours of latents.
pub(super) const OPTIONAL: [(Component, &str); 2] = [
    (Component::Tokenizer, "tokenizer/tokenizer_config.json"),
    (Component::Vae, LATENT_RGB),
];

/// The form of a tokenizer that is not read.
pub(super) const SENTENCEPIECE: &str = "tokenizer/tokenizer.model";

/// No weight file that would do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Absent {
    /// The names that would do.
    pub expected: Vec<String>,
    /// The variants there are.
    pub variants: Vec<String>,
}

/// Names of the files in a folder of the repository.
fn names_in(files: &Files, folder: &str) -> Vec<String> {
    files
        .keys()
        .filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/'))
        .map(str::to_owned)
        .collect()
}

/// Unless one of the components has weights of a variant, the variants that they have.
pub(super) fn without_variant(
    files: &Files,
    parts: &[Component],
    variant: &str,
) -> Option<Vec<String>> {
    let mut found = BTreeSet::new();
    for part in parts {
        let Some(stem) = part.weights_stem() else {
            continue;
        };
        let present = names_in(files, part.folder());
        if has_variant(stem, variant, &present) {
            return None;
        }
        found.extend(weight_variants(stem, &present));
    }
    Some(found.into_iter().collect())
}

/// The weight file of a part, or the index of its shards, as it will be looked for in the folder.
pub(super) fn weight_file(
    files: &Files,
    folder: &str,
    stem: &str,
    variant: Option<&str>,
) -> Result<String, Absent> {
    let present = names_in(files, folder);
    let mut expected = weight_file_names(stem, variant, &present);
    if variant.is_some() {
        // As when it is opened: the plain files of a part that has none of the variant.
        expected.extend(weight_file_names(stem, None, &present));
    }
    match expected.iter().find(|name| present.contains(name)) {
        Some(name) => Ok(format!("{folder}/{name}")),
        None => Err(Absent {
            expected,
            variants: weight_variants(stem, &present),
        }),
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

    fn chosen(names: &[&str], variant: Option<&str>) -> Result<String, Absent> {
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
        let absent = chosen(&["vae/model.bin", "model.safetensors"], None).unwrap_err();
        assert_eq!(
            absent.expected,
            ["model.safetensors", "model.safetensors.index.json"]
        );
        assert!(absent.variants.is_empty());
        let bf16 = "vae/model.bf16.safetensors";
        let absent = chosen(&[fp16, bf16], None).unwrap_err();
        assert_eq!(absent.variants, ["bf16", "fp16"]);
        assert_eq!(
            chosen(&["vae/model.int4.safetensors", fp16], None).unwrap(),
            fp16
        );
    }

    #[test]
    fn a_variant_that_no_component_has() {
        let parts = [Component::Scheduler, Component::Vae];
        let fp16 = "vae/diffusion_pytorch_model.fp16.safetensors";
        let files = files(&[fp16, "vae/diffusion_pytorch_model.safetensors"]);
        assert_eq!(without_variant(&files, &parts, "fp16"), None);
        let found = without_variant(&files, &parts, "typo").unwrap();
        assert_eq!(found, ["fp16"]);
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
