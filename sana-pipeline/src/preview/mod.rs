//! Latents as small images: a linear map of the channels of a latent to its colour.

mod fit;
mod samples;
mod solve;

use std::path::Path;

use burn::tensor::{DType, Tensor, read_sync};
use sana_dcae::DcAeConfig;
use serde::{Deserialize, Serialize};

use crate::error::{CheckpointError, PipelineError, RequestError};
use crate::image::{RgbImage, host_values_async};
use crate::support::files;

pub use fit::FittedLatentRgb;
pub use samples::sample_images;
#[cfg(feature = "scenes")]
pub use samples::scene_images;

/// The file of a map within a checkpoint, next to the weights of the autoencoder.
pub(crate) const LATENT_RGB: &str = "vae/latent_rgb.json";

/// The map of the autoencoder that the published models of the Sana family share.
const PUBLISHED: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/latent-rgb-sana.json"
));

/// The colour of a latent, as a linear map of its channels:
///
/// ```text
/// rgb = clamp(z factors + bias, 0, 1)      z [channels], factors [channels, 3], bias [3]
/// ```
///
/// with `z` a scaled latent. An image of one pixel per latent costs a few multiplications in place
/// of a decode: it shows colours and composition, and no detail. The map belongs to an autoencoder;
/// [`fit`](Self::fit) makes one, and a checkpoint keeps it in `vae/latent_rgb.json`
/// ([`Checkpoint::latent_rgb`](crate::Checkpoint::latent_rgb)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentRgb {
    /// Where the numbers come from.
    #[serde(default)]
    what: String,
    /// Of each channel, on red, green and blue.
    factors: Vec<[f32; 3]>,
    bias: [f32; 3],
}

impl LatentRgb {
    /// A map of these numbers; `what` says where they come from.
    ///
    /// # Shapes
    /// - factors `[channels, 3]`
    ///
    /// # Errors
    /// [`CheckpointError::LatentRgb`] for a number that is not finite.
    pub fn new(
        what: &str,
        factors: Vec<[f32; 3]>,
        bias: [f32; 3],
    ) -> Result<Self, CheckpointError> {
        let made = Self {
            what: what.to_owned(),
            factors,
            bias,
        };
        let channels = made.channels();
        made.checked("the map of latents to colours", channels)
    }

    /// The map of the autoencoder of the published models, if this is its config (DC-AE f32c32 of
    /// Sana, 1.0, 1.1 and lite, which have one latent space).
    ///
    /// It was fitted on latents of another encoder for the same latent space; the file has its
    /// provenance.
    pub fn published(autoencoder: &DcAeConfig) -> Option<Self> {
        let known = [
            DcAeConfig::f32c32_sana_1_0(),
            DcAeConfig::f32c32_sana_1_1_lite(),
        ];
        let is_known = known.contains(autoencoder);
        // The file is part of the program, and a test reads it.
        is_known.then(|| serde_json::from_str(PUBLISHED).ok())?
    }

    /// Reads a map for latents of so many channels; `origin` names the file in errors.
    ///
    /// # Errors
    /// [`CheckpointError::Json`], [`CheckpointError::LatentRgb`] for other channels or a number that
    /// is not finite.
    pub fn from_json(origin: &str, json: &[u8], channels: usize) -> Result<Self, CheckpointError> {
        let read: Self = serde_json::from_slice(json).map_err(|source| CheckpointError::Json {
            origin: origin.to_owned(),
            source,
        })?;
        read.checked(origin, channels)
    }

    fn checked(self, origin: &str, channels: usize) -> Result<Self, CheckpointError> {
        let refused = |reason: String| {
            Err(CheckpointError::LatentRgb {
                origin: origin.to_owned(),
                reason,
            })
        };
        if self.channels() != channels {
            let reason = format!("it has {} channels, not {channels}", self.channels());
            return refused(reason);
        }
        let numbers = self.factors.as_flattened().iter().chain(&self.bias);
        if !numbers.copied().all(f32::is_finite) {
            return refused("a number is not finite".to_owned());
        }
        Ok(self)
    }

    /// As the JSON of its file.
    pub fn to_json(&self) -> String {
        let row = |row: &[f32; 3]| format!("[{}, {}, {}]", row[0], row[1], row[2]);
        let rows: Vec<String> = self.factors.iter().map(row).collect();
        format!(
            "{{\n  \"what\": {},\n  \"factors\": [\n    {}\n  ],\n  \"bias\": {}\n}}\n",
            serde_json::Value::from(self.what.as_str()),
            rows.join(",\n    "),
            row(&self.bias)
        )
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`PipelineError::Write`], for example in a folder that is read-only.
    pub fn save(&self, path: &Path) -> Result<(), PipelineError> {
        files::write_text(path, &self.to_json()).map_err(PipelineError::write(path))
    }

    /// Channels of the latents.
    pub fn channels(&self) -> usize {
        self.factors.len()
    }

    /// Where the numbers come from.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The images of scaled latents, one pixel for each latent. Reads the latents from the device,
    /// and so waits for it. NaN becomes black.
    ///
    /// # Shapes
    /// - latents `[batch, channels, height, width]`
    /// - output: `batch` images of `height x width`
    ///
    /// # Errors
    /// [`RequestError::Shape`] for other channels, [`PipelineError::Device`] when the latents
    /// cannot be read.
    pub fn images(&self, latents: Tensor<4>) -> Result<Vec<RgbImage>, PipelineError> {
        read_sync(self.images_async(latents))
    }

    /// [`images`](Self::images) that waits for the device without blocking the thread.
    pub(crate) async fn images_async(
        &self,
        latents: Tensor<4>,
    ) -> Result<Vec<RgbImage>, PipelineError> {
        let [batch, channels, height, width] = latents.dims();
        let sides = u32::try_from(width).ok().zip(u32::try_from(height).ok());
        let (Some((columns, rows)), true) = (sides, channels == self.channels()) else {
            return Err(PipelineError::Request(RequestError::Shape {
                what: "latents",
                expected: vec![batch, self.channels(), height, width],
                found: vec![batch, channels, height, width],
            }));
        };
        let latents = latents.cast(DType::F32);
        let values = host_values_async(latents, "reading the latents of a preview").await?;
        let cells = height * width;
        let images = values.chunks_exact((channels * cells).max(1));
        Ok(images
            .map(|latents| {
                RgbImage::from_fn(columns, rows, |x, y| {
                    let cell = y as usize * width + x as usize;
                    image::Rgb(self.color(latents.iter().skip(cell).step_by(cells).copied()))
                })
            })
            .collect())
    }

    /// The colour of one latent, rounded to eight bits.
    fn color(&self, latent: impl Iterator<Item = f32>) -> [u8; 3] {
        let mut sums = self.bias;
        for (value, factors) in latent.zip(&self.factors) {
            for (sum, factor) in sums.iter_mut().zip(factors) {
                *sum += value * factor;
            }
        }
        // A cast makes 0 of NaN.
        sums.map(|sum| (sum.clamp(0.0, 1.0) * 255.0).round() as u8)
    }
}

/// A small image, such as one of [`LatentRgb::images`], at a size to look at: enlarged smoothly by one whole factor,
/// 16 at most, while no side is longer than 512 pixels.
pub fn enlarged(image: &RgbImage) -> RgbImage {
    const LARGEST_FACTOR: u32 = 16;
    const LONGEST_SIDE: u32 = 512;
    let (width, height) = image.dimensions();
    let factor = (LONGEST_SIDE / width.max(height).max(1)).clamp(1, LARGEST_FACTOR);
    if factor == 1 {
        return image.clone();
    }
    let filter = image::imageops::FilterType::CatmullRom;
    image::imageops::resize(image, factor * width, factor * height, filter)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;
