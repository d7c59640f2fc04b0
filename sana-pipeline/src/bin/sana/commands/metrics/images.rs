//! Images of a measure: where they are, and what they record.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sana_linear_attn::weights::read_bounded;
use sana_pipeline::image::{self, RgbImage};

/// Endings of images, in the order in which they are looked for.
const ENDINGS: [&str; 4] = ["jpg", "png", "jpeg", "webp"];

/// The image of a key in a folder.
pub fn of_key(folder: &Path, key: &str) -> anyhow::Result<PathBuf> {
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

/// An image, and the seed that it says it was made with.
pub fn read(path: &Path) -> anyhow::Result<(RgbImage, Option<String>)> {
    let bytes = read_bounded(path, image::LARGEST_FILE)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let texts = image::text_of(path, &bytes)?;
    Ok((image::decode(path, &bytes)?, value(texts, "seed")))
}

/// What an image says of how it was made, under these keys; nothing where it cannot be read.
pub fn recorded<const N: usize>(path: &Path, keys: [&str; N]) -> [Option<String>; N] {
    let texts = image::read_text(path).unwrap_or_default();
    keys.map(|key| value(texts.clone(), key))
}

fn value(texts: Vec<(String, String)>, key: &str) -> Option<String> {
    let found = texts.into_iter().find(|(found, _)| found == key);
    found.map(|(_, value)| value)
}

/// What all images record, if they record the same.
pub fn common(values: &[Option<String>]) -> Option<String> {
    let first = values.first()?;
    let same = values.iter().all(|value| value == first);
    same.then(|| first.clone())?
}
