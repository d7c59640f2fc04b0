//! A folder of images with captions.

mod read;

use std::path::{Path, PathBuf};

use rand::RngExt;
use sana_sampler::noise::{self, Stream};

use self::read::{Found, find};
use super::bucket::Bucket;
use super::order::{mix, permuted};
use super::source::{DataSource, Sample, pixels};
use crate::image::{dimensions, load_as_is, shortened};
use crate::train::error::TrainError;

/// Images of a folder. Each is in the bucket of the nearest aspect ratio, resized to cover its size
/// and cropped to the middle.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    buckets: Vec<Bucket>,
    /// Image files and captions of each bucket.
    items: Vec<Vec<(PathBuf, String)>>,
    content: String,
    skipped: Vec<(PathBuf, String)>,
}

impl ImageFolder {
    /// Opens a folder: `metadata.jsonl` with `file_name` and `text` in each line, or images
    /// `NAME.png`, `NAME.jpg`, `NAME.webp` next to captions `NAME.txt`. Images whose caption is missing or
    /// cannot be read as text are [left out](DataSource::skipped).
    ///
    /// `sizes` are width and height in pixels; those that are nearest for no image give no bucket.
    /// Of sizes with the same aspect ratio the first is taken.
    ///
    /// # Errors
    /// When the folder cannot be read, holds no such pair, a line of the metadata is not of that
    /// form or names a file outside the folder, or a file is not an image; and when `sizes` is empty
    /// or has a side of 0. Only regular files are read, and texts only up to a limit.
    pub fn open(folder: &Path, sizes: &[[usize; 2]]) -> Result<Self, TrainError> {
        if sizes.is_empty() || sizes.iter().flatten().any(|side| *side == 0) {
            return Err(TrainError::Option {
                name: "sizes",
                expected: "at least one size of 1 pixel and more",
                found: format!("{sizes:?}"),
            });
        }
        let Found { items, skipped } = find(folder)?;
        let content = content_of(&items);
        let mut sorted = vec![Vec::new(); sizes.len()];
        for (path, caption) in items {
            // Headers alone: a missing image is found now and not hours later.
            let size = dimensions(&path).map_err(TrainError::image)?;
            sorted[nearest(size, sizes)].push((path, caption));
        }
        let (buckets, items) = sizes
            .iter()
            .zip(sorted)
            .filter(|(_, items)| !items.is_empty())
            .map(|(size, items)| {
                let bucket = Bucket {
                    size: *size,
                    count: Some(items.len()),
                };
                (bucket, items)
            })
            .unzip();
        Ok(Self {
            buckets,
            items,
            content,
            skipped,
        })
    }
}

impl DataSource for ImageFolder {
    /// The number of images, and a hash of their names and captions.
    fn content(&self) -> String {
        self.content.clone()
    }

    fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// A bucket is gone through in rounds: each image once, in an order that depends on the seed and
    /// the round.
    fn sample_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Sample, TrainError> {
        let items = &self.items[bucket];
        let count = items.len() as u64;
        let mut rng = noise::generator(seed, index / count, Stream::Initial);
        let place = permuted(index % count, count, rng.random());
        let (path, caption) = &items[place as usize];
        let size = self.buckets[bucket].size;
        Ok(Sample {
            size,
            pixels: read_covering(path, size)?,
            caption: caption.clone(),
        })
    }

    /// Without their images.
    fn captions(&self, seed: u64, count: usize) -> Result<Vec<String>, TrainError> {
        let all: Vec<&str> = self
            .items
            .iter()
            .flatten()
            .map(|(_, text)| text.as_str())
            .collect();
        let length = all.len() as u64;
        let places = (0..length).map(|index| permuted(index, length, mix(seed)));
        let captions = places
            .take(count)
            .map(|place| all[place as usize].to_owned());
        Ok(captions.collect())
    }

    fn skipped(&self) -> &[(PathBuf, String)] {
        &self.skipped
    }
}

fn content_of(items: &[(PathBuf, String)]) -> String {
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

/// The place of the size whose aspect ratio is nearest, as a factor; the first of equal ones.
fn nearest([width, height]: [u32; 2], sizes: &[[usize; 2]]) -> usize {
    let log_ratio = |width: f64, height: f64| (width / height).ln();
    let own = log_ratio(f64::from(width), f64::from(height));
    let distance = |size: &[usize; 2]| (own - log_ratio(size[0] as f64, size[1] as f64)).abs();
    let mut best = 0;
    for (place, size) in sizes.iter().enumerate() {
        if distance(size) < distance(&sizes[best]) {
            best = place;
        }
    }
    best
}

fn read_covering(path: &Path, [width, height]: [usize; 2]) -> Result<Vec<f32>, TrainError> {
    let [width, height] = [width as u32, height as u32];
    let image = load_as_is(path, [255; 3]).map_err(TrainError::image)?;
    let image = shortened(image, width, height);
    let filter = image::imageops::FilterType::Triangle;
    let image = image.resize_to_fill(width, height, filter).to_rgb8();
    Ok(pixels(image.as_raw()))
}
