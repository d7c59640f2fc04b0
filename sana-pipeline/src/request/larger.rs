//! A second pass: how a request asks for it, and the settings that it becomes.

use super::Settings;
use super::builder::Request;
use super::hires::{Hires, HiresSettings};
use crate::error::RequestError;
use crate::image::RgbImage;
use crate::spec::ModelSpec;

/// Strength of the second pass without one: composition and colours are kept, and details are drawn.
const DEFAULT_STRENGTH: f64 = 0.5;
/// The largest scale: 8 is 64 times as many pixels.
const LARGEST_SCALE: f64 = 8.0;

impl Request {
    /// Makes the images larger in a second pass: they are enlarged to `scale` times both sides, rounded
    /// to multiples that the model takes, and image to image regenerates their details at that size,
    /// with the same prompts, seeds and settings. `1 < scale <= 8`. The size of the request is that of
    /// the first pass. Not with a mask or a [bucket](Self::bucketed_size).
    ///
    /// [`generate`](crate::SanaPipeline::generate) and its forms make both passes, and
    /// [`sample`](crate::SanaPipeline::sample) the first. A run that the observer stops in the first
    /// pass ends with its images.
    pub fn hires(mut self, scale: f64) -> Self {
        self.hires.scale = Some(scale);
        self
    }

    /// How far the second pass may depart from the enlarged images, in `(0, 1]`: as
    /// [`strength`](Self::strength); 0.5 by default. Without effect where there is no second pass.
    pub fn hires_strength(mut self, strength: f64) -> Self {
        self.hires.strength = Some(strength);
        self
    }

    /// The settings of the second pass, without the images that it starts from, and what they are.
    pub(super) fn larger(
        &self,
        first: &Settings,
        spec: &ModelSpec,
    ) -> Result<Option<(HiresSettings, Box<Settings>)>, RequestError> {
        let Some(scale) = self.hires.scale else {
            return Ok(None);
        };
        if !(scale > 1.0 && scale <= LARGEST_SCALE) {
            return Err(RequestError::HiresScale {
                scale,
                largest: LARGEST_SCALE,
            });
        }
        let with = match first.image_to_image {
            Some(settings) if settings.masked => Some("a mask"),
            _ => first.output_size.map(|_| "a bucket"),
        };
        if let Some(with) = with {
            return Err(RequestError::HiresWith { with });
        }
        let strength = self.hires.strength.unwrap_or(DEFAULT_STRENGTH);
        let multiple = spec.size_multiple();
        let [width, height] = first.size().map(|side| {
            let multiples = (side as f64 * scale / multiple as f64).round();
            multiples as usize * multiple
        });
        let mut second = self.clone().size(width, height).strength(strength);
        second.hires = Hires::default();
        // The images of the first pass come in their place.
        second = second.image(RgbImage::new(1, 1));
        (second.latents, second.step_noise) = (None, None);
        second.image_to_image.latents = None;
        let settings = second.validate(spec)?;
        let hires = HiresSettings {
            scale,
            strength,
            width,
            height,
            steps: settings.steps(),
        };
        Ok(Some((hires, Box::new(settings))))
    }
}
