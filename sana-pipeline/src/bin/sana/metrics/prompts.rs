//! Prompt files that name an image each, in the order of the file.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sana_linear_attn::weights::read_text_bounded;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Bytes of a prompt file, at most: MJHQ-30K's has 8 MB.
const LARGEST: u64 = 256 << 20;
/// Endings of images, in the order in which they are looked for.
const ENDINGS: [&str; 4] = ["jpg", "png", "jpeg", "webp"];

/// One prompt and the name of its image.
pub struct Prompt {
    pub key: String,
    pub text: String,
}

/// Keys and prompts of a JSON object, `{"KEY": {"prompt": "..."}}` or `{"KEY": "..."}`, whose order
/// counts: "the first n" are those of the file.
struct Object(Vec<Prompt>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Text(String),
    Fields { prompt: String },
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object {\"KEY\": {\"prompt\": \"...\"}}")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
                let mut prompts = Vec::new();
                while let Some((key, entry)) = map.next_entry()? {
                    let text = match entry {
                        Entry::Text(text) | Entry::Fields { prompt: text } => text,
                    };
                    prompts.push(Prompt { key, text });
                }
                Ok(Object(prompts))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// The first `count` prompts of a file, or all.
pub fn read(path: &Path, count: Option<usize>) -> anyhow::Result<Vec<Prompt>> {
    let text = read_text_bounded(path, LARGEST)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let Object(mut prompts) = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a file of prompts by key", path.display()))?;
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
