//! The trait that data sources implement, and the checks of what they give.

use std::fmt::Debug;
use std::path::PathBuf;

use super::bucket::{Bucket, shares};
use crate::train::error::TrainError;
use crate::train::run::Settings;

/// One image with its caption.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// `[3, height, width]` in [-1, 1], row-major.
    pub pixels: Vec<f32>,
    /// Its caption.
    pub caption: String,
}

/// Where images and captions come from: implement it for data of your own.
///
/// A source has one [`Bucket`] for each image size, and a sequence without an end of samples in each.
/// Sample `index` of a bucket is a pure function of seed, bucket and index: the same in every call,
/// in any order and from any thread, since a run that is continued asks for it again and replicas
/// ask at the same time. Take random numbers from a generator made of these, such as
/// [`noise::generator`](sana_sampler::noise::generator). A bucket of a limited number of images has
/// each of them once in the first `count` indices, once in the next, and so on.
///
/// [`content`](Self::content), [`buckets`](Self::buckets) and [`sample_at`](Self::sample_at) are
/// what a source must have. The example `data_source` is one in a few lines.
pub trait DataSource: Debug + Send + Sync {
    /// What the samples are made of, in words that differ when samples do: it is recorded with a run,
    /// which is not continued with another. A name for a source that is a program (`scenes`), a hash
    /// of its names and captions for one that reads files.
    fn content(&self) -> String;

    /// Image sizes, at least one, each side a multiple of the autoencoder's compression: the same
    /// in every call. A batch has the images of one bucket.
    fn buckets(&self) -> &[Bucket];

    /// Sample `index` of a bucket, of the bucket's size. `bucket` is a place in
    /// [`buckets`](Self::buckets).
    ///
    /// # Errors
    /// When an image cannot be read or made.
    fn sample_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Sample, TrainError>;

    /// The pixels of image `index` for an autoencoder, as [`Sample::pixels`]. Default: those of
    /// [`sample_at`](Self::sample_at). Sources override it where images without a caption have more
    /// in them to learn from.
    ///
    /// # Errors
    /// As [`sample_at`](Self::sample_at).
    fn image_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Vec<f32>, TrainError> {
        Ok(self.sample_at(seed, bucket, index)?.pixels)
    }

    /// About `count` captions, or all if there are fewer, from which a tokenizer is made. Default:
    /// those of the first samples of each bucket, whose images are made and dropped. Override it
    /// where captions can be had without them.
    ///
    /// # Errors
    /// As [`sample_at`](Self::sample_at).
    fn captions(&self, seed: u64, count: usize) -> Result<Vec<String>, TrainError> {
        let shares = shares(self.buckets(), count).into_iter().enumerate();
        let places = shares.flat_map(|(bucket, count)| (0..count).map(move |i| (bucket, i as u64)));
        places
            .map(|(bucket, index)| Ok(self.sample_at(seed, bucket, index)?.caption))
            .collect()
    }

    /// Images that are left out, each with the reason. Default none.
    fn skipped(&self) -> &[(PathBuf, String)] {
        &[]
    }

    /// Number of different images; `None` where a bucket has no end. Need not be overridden.
    fn count(&self) -> Option<usize> {
        let mut buckets = self.buckets().iter();
        buckets.try_fold(0usize, |sum, bucket| {
            Some(sum.saturating_add(bucket.count?))
        })
    }

    /// Sizes and content, as they are recorded with a run. Need not be overridden.
    fn settings(&self) -> Settings {
        let size = match self.buckets() {
            [bucket] if bucket.is_square() => bucket.size[0].into(),
            buckets => {
                let sizes: Vec<String> = buckets.iter().map(Bucket::to_string).collect();
                sizes.join(",").into()
            }
        };
        [
            ("size".to_owned(), size),
            ("data".to_owned(), self.content().into()),
        ]
        .into()
    }
}

/// Refuses a source that has no images.
pub(in crate::train) fn check_source(source: &dyn DataSource) -> Result<(), TrainError> {
    let buckets = source.buckets();
    if buckets.is_empty() {
        return Err(wrong("it has no buckets, expected at least one".to_owned()));
    }
    for bucket in buckets {
        if bucket.size.contains(&0) {
            return Err(wrong(format!("its bucket {bucket} has no pixels")));
        }
        if bucket.count == Some(0) {
            return Err(wrong(format!("its bucket {bucket} has no images")));
        }
    }
    Ok(())
}

/// [`DataSource::sample_at`] of a size that fits the bucket.
pub(in crate::train) fn checked_sample(
    source: &dyn DataSource,
    seed: u64,
    bucket: usize,
    index: u64,
) -> Result<Sample, TrainError> {
    let sample = source.sample_at(seed, bucket, index)?;
    let [width, height] = sample.size;
    let expected = source.buckets()[bucket];
    if sample.size != expected.size {
        return Err(wrong(format!(
            "sample {index} has {width}x{height} pixels, and its bucket {expected}"
        )));
    }
    check_pixels(&sample.pixels, expected, index)?;
    Ok(sample)
}

/// [`DataSource::image_at`] of a size that fits the bucket.
pub(in crate::train) fn checked_image(
    source: &dyn DataSource,
    seed: u64,
    bucket: usize,
    index: u64,
) -> Result<Vec<f32>, TrainError> {
    let pixels = source.image_at(seed, bucket, index)?;
    check_pixels(&pixels, source.buckets()[bucket], index)?;
    Ok(pixels)
}

fn check_pixels(pixels: &[f32], bucket: Bucket, index: u64) -> Result<(), TrainError> {
    let [width, height] = bucket.size;
    if pixels.len() == 3 * width * height {
        return Ok(());
    }
    Err(wrong(format!(
        "image {index} has {} values, expected 3 x {height} x {width} for its bucket {bucket}",
        pixels.len()
    )))
}

fn wrong(reason: String) -> TrainError {
    TrainError::Source { reason }
}

/// Planes of red, green and blue in [-1, 1] of rows of interleaved RGB.
pub(super) fn pixels(rgb: &[u8]) -> Vec<f32> {
    let mut planes = Vec::with_capacity(rgb.len());
    for channel in 0..3 {
        let pixels = rgb.chunks_exact(3);
        planes.extend(pixels.map(|pixel| f32::from(pixel[channel]) / 127.5 - 1.0));
    }
    planes
}
