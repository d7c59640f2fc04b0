//! Which files of a folder hold its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::weights::error::WeightError;
use crate::weights::file::read::{LARGEST_INDEX, read_text_bounded, shard_names};

/// The names under which [`Weights::open_folder`](crate::Weights::open_folder) looks for weights in a folder that holds the
/// files `present`; the first that is there is opened. An index whose shards are not all there, by
/// their usual names, comes last.
pub fn weight_file_names(stem: &str, variant: Option<&str>, present: &[String]) -> Vec<String> {
    candidates(stem, variant, present, &|index| {
        shards_are_named(stem, index, present)
    })
}

/// The variants of which `present` has weights, whole ones by the names of their shards.
pub fn weight_variants(stem: &str, present: &[String]) -> Vec<String> {
    variants_of(stem, present, &|index| {
        shards_are_named(stem, index, present)
    })
}

/// Whether `present` has a file that [`weight_file_names`] lists for a variant.
pub fn has_variant(stem: &str, variant: &str, present: &[String]) -> bool {
    let names = variant_files(stem, variant);
    names.iter().any(|name| present.contains(name))
}

/// As [`weight_file_names`], where `is_whole` says of an index whether its shards are there.
pub(crate) fn candidates(
    stem: &str,
    variant: Option<&str>,
    present: &[String],
    is_whole: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let last_if_not_whole = |mut names: Vec<String>| {
        let lacks_shards =
            |name: &String| name.ends_with(".json") && present.contains(name) && !is_whole(name);
        names.sort_by_cached_key(lacks_shards);
        names
    };
    if let Some(variant) = variant {
        return last_if_not_whole(variant_files(stem, variant).to_vec());
    }
    let usable = |variants: Vec<String>| {
        let mut variants = variants.into_iter().filter(|name| !is_quantized(name));
        variants.next().filter(|_| variants.next().is_none())
    };
    let whole = variants_of(stem, present, is_whole);
    let only = match whole.is_empty() {
        // The error is about the shards that are not there.
        true => usable(variants_of(stem, present, &|_| true)),
        false => usable(whole),
    };
    let mut names = vec![
        format!("{stem}.safetensors"),
        format!("{stem}.safetensors.index.json"),
    ];
    if let Some(variant) = only {
        let files = variant_files(stem, &variant);
        names.extend(files.into_iter().filter(|name| present.contains(name)));
    }
    last_if_not_whole(names)
}

fn variant_files(stem: &str, variant: &str) -> [String; 3] {
    [
        format!("{stem}.{variant}.safetensors"),
        format!("{stem}.safetensors.index.{variant}.json"),
        format!("{stem}.{variant}.safetensors.index.json"),
    ]
}

/// The variant of which a file is the weights or the index; `None` for a shard.
fn variant_of<'a>(stem: &str, name: &'a str) -> Option<&'a str> {
    let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
    let variant = rest
        .strip_prefix("safetensors.index.")
        .and_then(|rest| rest.strip_suffix(".json"))
        .or_else(|| rest.strip_suffix(".safetensors.index.json"))
        .or_else(|| rest.strip_suffix(".safetensors"))?;
    let plain = !variant.is_empty() && !variant.contains('.') && !variant.contains("-of-");
    plain.then_some(variant)
}

/// The variants of which a folder has a file, or an index with its shards.
pub(crate) fn variants_of(
    stem: &str,
    present: &[String],
    is_whole: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let variants = present.iter().filter_map(|name| {
        let variant = variant_of(stem, name)?;
        (!name.ends_with(".json") || is_whole(name)).then(|| variant.to_owned())
    });
    let variants: BTreeSet<String> = variants.collect();
    variants.into_iter().collect()
}

/// Whether the shards of an index are there by the names that transformers gives them,
/// `STEM.VARIANT-00001-of-0000N.safetensors`, or those of diffusers,
/// `STEM-00001-of-0000N.VARIANT.safetensors`.
fn shards_are_named(stem: &str, index: &str, present: &[String]) -> bool {
    match variant_of(stem, index) {
        Some(variant) => {
            has_all_shards(&format!("{stem}.{variant}-"), ".safetensors", present)
                || has_all_shards(
                    &format!("{stem}-"),
                    &format!(".{variant}.safetensors"),
                    present,
                )
        }
        None => has_all_shards(&format!("{stem}-"), ".safetensors", present),
    }
}

fn has_all_shards(before: &str, after: &str, present: &[String]) -> bool {
    let mut counts: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for name in present {
        let numbers = name
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after)?.split_once("-of-"));
        if let Some((index, of)) = numbers
            && let (Ok(index), Ok(of)) = (index.parse(), of.parse())
        {
            counts.entry(of).or_default().insert(index);
        }
    }
    let is_whole = |of: &usize, found: &BTreeSet<usize>| (1..=*of).all(|n| found.contains(&n));
    counts.iter().any(|(of, found)| is_whole(of, found))
}

/// Whether the name of a variant is that of weights in a quantized format.
fn is_quantized(variant: &str) -> bool {
    let kinds = [
        "int4", "int8", "4bit", "8bit", "nf4", "fp4", "fp8", "f8", "e4m3", "e5m2", "awq", "gptq",
        "svdq", "bnb", "hqq", "quant", "w4a", "w8a", "q4", "q8",
    ];
    let variant = variant.to_lowercase();
    kinds.iter().any(|kind| variant.contains(kind))
}

/// Whether all shards that an index lists are there. One that cannot be read is left to the
/// error of opening it.
pub(crate) fn has_shards(index: &Path) -> bool {
    shard_paths(index).map_or(true, |shards| shards.iter().all(|path| path.is_file()))
}

/// Names of the files of a folder; none of one that cannot be read.
pub fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Paths of the shards an index lists, each once: files of the index's own folder, or symbolic
/// links there, which may lead anywhere, as those of the usual download caches do.
///
/// # Errors
/// When the index cannot be read, is not an index, or names anything but plain files next to it.
pub fn shard_paths(path: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let bad = |reason: String| WeightError::Index {
        path: path.to_path_buf(),
        reason,
    };
    let text = read_text_bounded(path, LARGEST_INDEX).map_err(|source| WeightError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let shards = shard_names(&text).map_err(bad)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    Ok(shards.into_iter().map(|name| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(present: &[&str], variant: Option<&str>) -> Option<String> {
        let present: Vec<String> = present.iter().map(|name| (*name).to_owned()).collect();
        let names = weight_file_names("model", variant, &present);
        names.into_iter().find(|name| present.contains(name))
    }

    #[test]
    fn the_only_variant_is_found_sharded_or_not() {
        let index = "model.safetensors.index.bf16.json";
        for shards in [
            [
                "model.bf16-00001-of-00002.safetensors",
                "model.bf16-00002-of-00002.safetensors",
            ],
            [
                "model-00001-of-00002.bf16.safetensors",
                "model-00002-of-00002.bf16.safetensors",
            ],
        ] {
            let sharded = [index, shards[0], shards[1]];
            assert_eq!(opened(&sharded, None).as_deref(), Some(index));
            assert_eq!(opened(&sharded, Some("bf16")).as_deref(), Some(index));
            // With nothing else, the error is about the shard.
            assert_eq!(opened(&sharded[..2], None).as_deref(), Some(index));
            let fp16 = "model.fp16.safetensors";
            assert_eq!(
                opened(&[index, shards[0], fp16], None).as_deref(),
                Some(fp16)
            );
            let both = [fp16, index, shards[0], shards[1]];
            assert_eq!(opened(&both, None), None);
            let present = both.map(str::to_owned);
            assert_eq!(weight_variants("model", &present), ["bf16", "fp16"]);
        }
        let fp16 = "model.fp16.safetensors";
        assert_eq!(opened(&[fp16], None).as_deref(), Some(fp16));
        let plain = "model.safetensors";
        assert_eq!(opened(&[fp16, plain], None).as_deref(), Some(plain));
    }

    /// Quantized weights are loaded when they are asked for by name, and never else.
    #[test]
    fn quantized_variants_are_never_chosen() {
        let fp16 = "model.fp16.safetensors";
        for quantized in ["int4", "svdq-int4_r32", "nf4", "fp8", "8bit"] {
            let file = format!("model.{quantized}.safetensors");
            assert_eq!(opened(&[&file], None), None, "{quantized}");
            assert_eq!(opened(&[&file], Some("fp16")), None, "{quantized}");
            assert_eq!(opened(&[&file, fp16], None).as_deref(), Some(fp16));
            assert_eq!(opened(&[&file], Some(quantized)), Some(file));
        }
    }

    #[test]
    fn an_index_without_shards_hides_no_variant() {
        let index = "model.safetensors.index.json";
        let fp16 = "model.fp16.safetensors";
        assert_eq!(opened(&[index, fp16], None).as_deref(), Some(fp16));
        assert_eq!(opened(&[index], None).as_deref(), Some(index));
        let shards = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        let present = [index, shards[0], fp16];
        assert_eq!(opened(&present, None).as_deref(), Some(fp16));
        let present = [index, shards[0], shards[1], fp16];
        assert_eq!(opened(&present, None).as_deref(), Some(index));
        let old = "model.fp16.safetensors.index.json";
        assert_eq!(opened(&[old, fp16], Some("fp16")).as_deref(), Some(fp16));
    }

    #[test]
    fn variants_that_are_there() {
        let present = ["model.fp16.safetensors".to_owned()];
        assert!(has_variant("model", "fp16", &present));
        assert!(!has_variant("model", "fp61", &present));
        assert!(!has_variant("vae", "fp16", &present));
    }
}
