//! The map of an autoencoder, from the autoencoder itself.

use burn::tensor::Device;
use sana_dcae::DcAe;

use super::LatentRgb;
use super::solve::Sums;
use crate::error::{CheckpointError, PipelineError};
use crate::image::{self, RgbImage, host_values};

/// Latents on a side of an image that is fitted on, at most.
const LARGEST_SIDE: usize = 8;
/// Latents for each number that is fitted, at least.
const LATENTS_EACH: usize = 48;
/// Every so many images is held out.
const HELD_OUT: usize = 4;

/// A map and how good it is.
#[derive(Debug, Clone)]
pub struct FittedLatentRgb {
    /// The map.
    pub latent_rgb: LatentRgb,
    /// PSNR in dB of its colours against the mean colours of the pixels of each latent, over images
    /// that were held out.
    pub psnr: f64,
    /// Images that it was fitted on.
    pub images: usize,
}

impl LatentRgb {
    /// The map with the least squared error between the colour of a latent and the mean colour of
    /// the pixels that the autoencoder decodes it to, over the latents of images. The same images
    /// give the same map on the same device.
    ///
    /// As many `images` are taken as the number of channels needs, or all where there are fewer; they are
    /// resized and cropped to squares of `side` latents, 8 at most, encoded and decoded one by one. Every
    /// fourth is held out for the PSNR. The colours are best for the size at which the model makes images.
    ///
    /// # Errors
    /// [`CheckpointError::LatentRgb`] when there are fewer than four images, or the autoencoder gives values
    /// that are not finite; as its encoder and decoder.
    pub fn fit(
        what: &str,
        autoencoder: &DcAe,
        images: impl Iterator<Item = RgbImage>,
        side: usize,
        device: &Device,
    ) -> Result<FittedLatentRgb, PipelineError> {
        let config = autoencoder.config();
        let (channels, compression) = (config.latent_channels, config.compression());
        let refused = |reason: &str| {
            PipelineError::Checkpoint(CheckpointError::LatentRgb {
                origin: "the autoencoder".to_owned(),
                reason: reason.to_owned(),
            })
        };
        let side = side.clamp(1, LARGEST_SIDE);
        let pixels = (side * compression) as u32;
        let wanted = ((channels + 1) * LATENTS_EACH).div_ceil(side * side);
        let (mut sums, mut held_out) = (Sums::new(channels), Vec::new());
        let mut count = 0;
        for image in images.take(wanted + wanted.div_ceil(HELD_OUT - 1)) {
            let image = image::to_tensor(&image::fit(&image, pixels, pixels), device);
            let latents = autoencoder.encode(image)?;
            let decoded = autoencoder.decode(latents.clone())?;
            let latents = host_values(latents, "reading latents")?;
            let colors = mean_colors(
                &host_values(decoded, "reading an image")?,
                side,
                compression,
            );
            count += 1;
            if count % HELD_OUT == 0 {
                held_out.push((latents, colors));
                continue;
            }
            for (cell, color) in colors.iter().enumerate() {
                sums.add(latent(&latents, cell, side), *color);
            }
        }
        if held_out.is_empty() {
            return Err(refused("there are fewer than four images to fit on"));
        }
        let solution = sums
            .solve()
            .ok_or_else(|| refused("it gives values that are not finite"))?;
        // Five digits are more than eight bits show.
        let rounded = |row: &[f64; 3]| row.map(|value| ((value * 1e5).round() / 1e5) as f32);
        let mut rows: Vec<[f32; 3]> = solution.iter().map(rounded).collect();
        let bias = rows.pop().unwrap_or_default();
        let latent_rgb = Self::new(what, rows, bias)?;
        let (mut squares, mut values) = (0.0, 0);
        for (latents, colors) in &held_out {
            for (cell, expected) in colors.iter().enumerate() {
                let found = latent_rgb.color(latent(latents, cell, side));
                for (found, expected) in found.into_iter().zip(expected) {
                    squares += (f64::from(found) / 255.0 - expected).powi(2);
                    values += 1;
                }
            }
        }
        Ok(FittedLatentRgb {
            latent_rgb,
            psnr: 10.0 * (f64::from(values) / squares).log10(),
            images: count - held_out.len(),
        })
    }
}

/// The channels of a latent.
fn latent(latents: &[f32], cell: usize, side: usize) -> impl Iterator<Item = f32> {
    latents.iter().skip(cell).step_by(side * side).copied()
}

/// The mean colours in [0, 1] of the pixels of `side x side` latents, of planes in [-1, 1].
fn mean_colors(planes: &[f32], side: usize, compression: usize) -> Vec<[f64; 3]> {
    let width = side * compression;
    let mean = |cell: usize, plane: usize| {
        let (row, column) = (cell / side * compression, cell % side * compression);
        let start = plane * width * width + row * width + column;
        let rows = (0..compression).map(|row| &planes[start + row * width..][..compression]);
        let sum: f64 = rows
            .flatten()
            .map(|value| f64::from(value.clamp(-1.0, 1.0)))
            .sum();
        0.5 + 0.5 * sum / (compression * compression) as f64
    };
    (0..side * side)
        .map(|cell| [0, 1, 2].map(|plane| mean(cell, plane)))
        .collect()
}
