use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, RngExt};
use sana_linear_attn::weights::{LARGEST_CONFIG, read_bounded, read_text_bounded};
use sana_sampler::noise::{self, Stream};

use super::error::TrainError;
use super::run::Settings;
use crate::image::{dimensions, load_as_is, shortened};
use crate::scenes::{Category, Scene, ScenePrompt};

/// Objects of a scene for the autoencoder, at most.
const CROWD: usize = 6;

/// Categories of scenes with captions, each drawn as often as it is listed: what is learned last is
/// shown most.
const MIX: [Category; 12] = [
    Category::SingleObject,
    Category::Colors,
    Category::TwoObjects,
    Category::Counting,
    Category::Counting,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::AttributeBinding,
];

/// Bytes of a `metadata.jsonl`, at most: 256 MiB, a million captions and more.
const LARGEST_METADATA: u64 = 256 << 20;

/// One image with its caption.
#[derive(Debug, Clone)]
pub struct Sample {
    /// `[3, size, size]` in [-1, 1].
    pub pixels: Vec<f32>,
    /// Its caption.
    pub caption: String,
}

/// Where images and captions come from.
#[derive(Debug, Clone)]
pub enum Data {
    /// The scene language, drawn as it is needed; held-out prompts never occur.
    Scenes {
        /// Side of the images in pixels.
        size: usize,
    },
    /// Images of a folder, resized to cover a square and cropped to its middle.
    Folder {
        /// Side of the images in pixels.
        size: usize,
        /// Image files and captions.
        items: Vec<(PathBuf, String)>,
        /// Images left out because they have no caption that can be read, and why.
        skipped: Vec<(PathBuf, String)>,
    },
}

/// What a folder has: pairs to train on, and images without a usable caption.
#[derive(Default)]
struct Found {
    items: Vec<(PathBuf, String)>,
    skipped: Vec<(PathBuf, String)>,
}

impl Data {
    /// Opens a folder: `metadata.jsonl` with `file_name` and `text` in each line, or images
    /// `NAME.png`, `NAME.jpg`, `NAME.webp` next to captions `NAME.txt`. Images whose caption is missing or
    /// cannot be read as text are [left out](Self::skipped).
    ///
    /// # Errors
    /// When the folder cannot be read, holds no such pair, a line of the metadata is not of that
    /// form or names a file outside the folder, or a file is not an image. Only regular files are
    /// read, and texts only up to a limit.
    pub fn open_folder(folder: &Path, size: usize) -> Result<Self, TrainError> {
        let metadata = folder.join("metadata.jsonl");
        // Also one that is a pipe or a dangling link: the error names it.
        let found = if fs::symlink_metadata(&metadata).is_ok() {
            read_metadata(&metadata)?
        } else {
            read_pairs(folder)?
        };
        let Found { items, skipped } = found;
        if items.is_empty() {
            let expected =
                "expected NAME.png with NAME.txt, or metadata.jsonl with file_name and text";
            let reason = match skipped.first() {
                None => expected.to_owned(),
                Some((image, why)) => format!(
                    "none of its {} images has a caption, such as {}: {why}; {expected}",
                    skipped.len(),
                    image.display()
                ),
            };
            return Err(TrainError::Data {
                path: folder.to_path_buf(),
                reason,
            });
        }
        // Headers alone: a missing image is found now and not hours later.
        for (path, _) in &items {
            dimensions(path).map_err(TrainError::image)?;
        }
        Ok(Self::Folder {
            size,
            items,
            skipped,
        })
    }

    /// Number of different images; `None` for scenes, which have no end.
    pub fn count(&self) -> Option<usize> {
        match self {
            Data::Scenes { .. } => None,
            Data::Folder { items, .. } => Some(items.len()),
        }
    }

    /// Size and content, as they are recorded with a run: of a folder the number of images, and a
    /// hash of their names and captions.
    pub fn settings(&self) -> Settings {
        let data = match self {
            Data::Scenes { .. } => "scenes".to_owned(),
            Data::Folder { items, .. } => {
                let mut hash = mix(items.len() as u64);
                for (path, caption) in items {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    for text in [&*name, caption.as_str()] {
                        hash = text
                            .bytes()
                            .fold(mix(hash), |hash, byte| mix(hash ^ u64::from(byte)));
                    }
                }
                format!("{} images, {hash:016x}", items.len())
            }
        };
        [
            ("size".to_owned(), self.size().into()),
            ("data".to_owned(), data.into()),
        ]
        .into()
    }

    /// Images of the folder that are left out because they have no caption that can be read, each
    /// with the reason.
    pub fn skipped(&self) -> &[(PathBuf, String)] {
        match self {
            Data::Scenes { .. } => &[],
            Data::Folder { skipped, .. } => skipped,
        }
    }

    /// Side of the images in pixels.
    pub fn size(&self) -> usize {
        match self {
            Data::Scenes { size } | Data::Folder { size, .. } => *size,
        }
    }

    /// Image `index` of an endless sequence for an autoencoder, as [`image`](Self::image). A folder
    /// is gone through in rounds: each image once, in an order that depends on the seed and the
    /// round.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn image_at(&self, seed: u64, index: u64) -> Result<Vec<f32>, TrainError> {
        match self {
            Data::Scenes { .. } => self.image(&mut noise::generator(seed, index, Stream::Initial)),
            Data::Folder { .. } => Ok(self.sample_at(seed, index)?.pixels),
        }
    }

    /// Sample `index` of an endless sequence, in rounds as [`image_at`](Self::image_at).
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn sample_at(&self, seed: u64, index: u64) -> Result<Sample, TrainError> {
        match self {
            Data::Scenes { .. } => self.sample(&mut noise::generator(seed, index, Stream::Initial)),
            Data::Folder { size, items, .. } => {
                let count = items.len() as u64;
                let mut rng = noise::generator(seed, index / count, Stream::Initial);
                let place = permuted(index % count, count, rng.random());
                read_item(&items[place as usize], *size)
            }
        }
    }

    /// Draws an image for an autoencoder, `[3, size, size]` in [-1, 1]. Scenes are crowded ones, of
    /// up to six objects: there is more to learn in them than in those that captions describe.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn image<R: Rng>(&self, rng: &mut R) -> Result<Vec<f32>, TrainError> {
        match self {
            Data::Scenes { size } => {
                let objects = rng.random_range(1..=CROWD);
                Ok(Scene::crowded(rng, objects).render(*size).to_chw_f32())
            }
            Data::Folder { .. } => Ok(self.sample(rng)?.pixels),
        }
    }

    /// Draws an image with its caption.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn sample<R: Rng>(&self, rng: &mut R) -> Result<Sample, TrainError> {
        match self {
            Data::Scenes { size } => {
                let category = MIX[rng.random_range(0..MIX.len())];
                let prompt = ScenePrompt::sample_training_of(rng, category);
                let caption = prompt.caption(rng);
                let pixels = prompt.scene(rng).render(*size).to_chw_f32();
                Ok(Sample { pixels, caption })
            }
            Data::Folder { size, items, .. } => {
                read_item(&items[rng.random_range(0..items.len())], *size)
            }
        }
    }
}

/// Where `index` goes in a permutation of `0..count` chosen by `key`: a Feistel network on enough
/// bits, applied until the result is in range. It needs no memory, whatever the count.
fn permuted(index: u64, count: u64, key: u64) -> u64 {
    const ROUNDS: u64 = 4;
    let bits = (u64::BITS - count.saturating_sub(1).leading_zeros()).max(2);
    let half = bits.div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut value = index;
    loop {
        let [mut left, mut right] = [value >> half, value & mask];
        for round in 0..ROUNDS {
            let mixed = mix(key ^ mix(right ^ (round << 56)));
            [left, right] = [right, left ^ (mixed & mask)];
        }
        value = (left << half) | right;
        if value < count {
            return value;
        }
    }
}

/// SplitMix64's finalizer.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn read_item((path, caption): &(PathBuf, String), size: usize) -> Result<Sample, TrainError> {
    Ok(Sample {
        pixels: read_square(path, size)?,
        caption: caption.clone(),
    })
}

fn read_metadata(path: &Path) -> Result<Found, TrainError> {
    #[derive(serde::Deserialize)]
    struct Line {
        file_name: String,
        text: Option<String>,
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let bytes = read_bounded(path, LARGEST_METADATA).map_err(TrainError::io(path))?;
    let mut found = Found::default();
    for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let bad = |reason: String| TrainError::Data {
            path: path.to_path_buf(),
            reason: format!("line {}: {reason}", index + 1),
        };
        let line = String::from_utf8_lossy(bytes);
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
        let name = Path::new(&line.file_name);
        let inside = name
            .components()
            .all(|component| matches!(component, std::path::Component::Normal(_)));
        if !inside {
            return Err(bad(format!("{:?} leaves the folder", line.file_name)));
        }
        let image = folder.join(name);
        match (line.text, std::str::from_utf8(bytes)) {
            (Some(caption), Ok(_)) => found.items.push((image, caption)),
            (None, _) => found.skipped.push((image, "it has no text".to_owned())),
            (_, Err(error)) => found.skipped.push((image, error.to_string())),
        }
    }
    Ok(found)
}

fn read_pairs(folder: &Path) -> Result<Found, TrainError> {
    let mut found = Found::default();
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
        let path = entry.map_err(TrainError::io(folder))?.path();
        let is_image = path.extension().is_some_and(|e| {
            ["png", "jpg", "jpeg", "webp"]
                .iter()
                .any(|known| e.eq_ignore_ascii_case(known))
        });
        if !is_image {
            continue;
        }
        let caption = path.with_extension("txt");
        match read_text_bounded(&caption, LARGEST_CONFIG) {
            Ok(text) => found.items.push((path, text.trim().to_owned())),
            Err(error) => found
                .skipped
                .push((path, format!("{}: {error}", caption.display()))),
        }
    }
    // Folders list their files in no particular order; runs must not depend on it.
    found.items.sort();
    found.skipped.sort();
    Ok(found)
}

fn read_square(path: &Path, size: usize) -> Result<Vec<f32>, TrainError> {
    let image = load_as_is(path, [255; 3]).map_err(TrainError::image)?;
    let image = shortened(image, size as u32, size as u32);
    let filter = image::imageops::FilterType::Triangle;
    let image = image
        .resize_to_fill(size as u32, size as u32, filter)
        .to_rgb8();
    let plane = size * size;
    let mut pixels = vec![0.0; 3 * plane];
    for (index, pixel) in image.pixels().enumerate() {
        for (channel, value) in pixel.0.into_iter().enumerate() {
            pixels[channel * plane + index] = f32::from(value) / 127.5 - 1.0;
        }
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_taken_once() {
        for count in [1, 2, 3, 5, 8, 9, 100, 1000] {
            for key in [0, 7, u64::MAX] {
                let mut places: Vec<u64> = (0..count).map(|i| permuted(i, count, key)).collect();
                assert!(count < 8 || !places.is_sorted(), "{places:?}");
                places.sort_unstable();
                assert!(places.into_iter().eq(0..count), "{count} {key}");
            }
        }
    }
}
