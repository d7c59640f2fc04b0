//! Prompt files that name an image each, in the order of the file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sana_linear_attn::weights::read_text_bounded;
use sana_pipeline::InOrder;
use serde::Deserialize;

/// Bytes of a prompt file, at most: MJHQ-30K's has 8 MB.
const LARGEST: u64 = 256 << 20;
/// Endings of images, in the order in which they are looked for.
const ENDINGS: [&str; 4] = ["jpg", "png", "jpeg", "webp"];

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

/// The image of a key in a folder.
pub fn image(folder: &Path, key: &str) -> anyhow::Result<PathBuf> {
    let mut paths = ENDINGS
        .map(|ending| folder.join(format!("{key}.{ending}")))
        .into_iter();
    paths.find(|path| path.is_file()).with_context(|| {
        format!(
            "no image of {key:?} in {}: looked for {}",
            folder.display(),
            ENDINGS.map(|ending| format!("{key}.{ending}")).join(", ")
        )
    })
}

/// Whether a file has the ending of an image.
pub fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}
