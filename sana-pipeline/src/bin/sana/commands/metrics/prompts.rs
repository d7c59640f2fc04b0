//! Prompt files that name an image each, in the order of the file.

use std::collections::HashSet;
use std::path::{Component, Path};

use anyhow::{Context, bail};
use sana_linear_attn::weights::read_text_bounded;
use sana_pipeline::InOrder;
use serde::Deserialize;

/// Bytes of a prompt file, at most: MJHQ-30K's has 8 MB.
const LARGEST: u64 = 256 << 20;

/// One prompt and the name of its image.
pub struct Prompt {
    pub key: String,
    pub text: String,
}

/// What a key has: `{"prompt": "..."}` or `"..."`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Text(String),
    Fields { prompt: String },
}

/// The first `count` prompts of a file, or all.
pub fn read(path: &Path, count: Option<usize>) -> anyhow::Result<Vec<Prompt>> {
    let text = read_text_bounded(path, LARGEST)
        .with_context(|| format!("cannot read {}", path.display()))?;
    // Their order counts: the first `count` are those of the file.
    let InOrder(entries) = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a file of prompts by key", path.display()))?;
    let entries = entries.into_iter();
    let mut prompts: Vec<Prompt> = entries
        .map(|(key, entry)| {
            let (Entry::Text(text) | Entry::Fields { prompt: text }) = entry;
            Prompt { key, text }
        })
        .collect();
    if let Some(count) = count {
        if prompts.len() < count {
            bail!(
                "{} has {} prompts, not {count}",
                path.display(),
                prompts.len()
            );
        }
        prompts.truncate(count);
    }
    if prompts.is_empty() {
        bail!("{} has no prompts", path.display());
    }
    Ok(prompts)
}

/// Refuses keys that are no names of files, each once, and empty prompts.
pub fn check_names(path: &Path, prompts: &[Prompt]) -> anyhow::Result<()> {
    let mut known = HashSet::new();
    for Prompt { key, text } in prompts {
        let mut components = Path::new(key).components();
        let first = components.next();
        let is_name = matches!(first, Some(Component::Normal(name)) if name == key.as_str());
        let reason = if !is_name || components.next().is_some() || key.contains(['\\', ':', '\0']) {
            "is no name of a file"
        } else if !known.insert(key.to_lowercase()) {
            "is there twice"
        } else if text.trim().is_empty() {
            "has an empty prompt"
        } else {
            continue;
        };
        bail!("{}: {key:?} {reason}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_files() {
        let check = |keys: &[&str]| {
            let prompt = |key: &&str| Prompt {
                key: (*key).to_owned(),
                text: "a".to_owned(),
            };
            let prompts: Vec<Prompt> = keys.iter().map(prompt).collect();
            check_names(Path::new("prompts.json"), &prompts)
        };
        assert!(check(&["0", "a b", "COCOval2014_1"]).is_ok());
        for wrong in ["", ".", "..", "../a", "a/b", "/a", "a/", "a\\b", "C:a"] {
            let error = check(&[wrong]).unwrap_err().to_string();
            assert!(error.contains("no name of a file"), "{wrong}: {error}");
        }
        assert!(check(&["a", "A"]).is_err());
    }
}
