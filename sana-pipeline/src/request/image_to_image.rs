//! What a request says about image-to-image and inpainting.

use std::sync::Arc;

use burn::tensor::Tensor;

use crate::checkpoint::Schedule;
use crate::error::{ImageToImageError, RequestError};
use crate::image::{self as images, GrayImage, RgbImage, fit_mask, has_white};
use crate::spec::ModelSpec;

/// Strength of a request with an image and no mask, as in the reference.
const DEFAULT_STRENGTH: f64 = 0.6;

/// What image-to-image and inpainting do, with every default filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ImageToImageSettings {
    /// How much of the schedule runs, in `(0, 1]`.
    pub strength: f64,
    /// Steps of the whole schedule.
    pub schedule_steps: usize,
    /// Whether a mask keeps a part of the image.
    pub masked: bool,
    /// Pixels around the mask over which the generated image fades into the given one.
    pub feather: u32,
}

/// The images that a request starts from, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageToImage {
    pub images: Arc<[RgbImage]>,
    pub latents: Option<Tensor<4>>,
    pub strength: Option<f64>,
    /// As given in a request, and of the size of the result in its settings.
    pub mask: Option<Arc<GrayImage>>,
    pub feather: u32,
}

impl ImageToImage {
    /// Fills in defaults, fits the mask, and checks everything that needs no tensor.
    pub fn checked(
        &self,
        prompts: usize,
        size: [usize; 2],
        schedule: &Schedule,
    ) -> Result<Option<(ImageToImageSettings, Self)>, RequestError> {
        let no_image = |option| Err(ImageToImageError::NoImage { option }.into());
        if self.mask.is_some() && self.images.is_empty() {
            return no_image("a mask");
        }
        if self.images.is_empty() && self.latents.is_none() {
            return match self.strength {
                Some(_) => no_image("a strength"),
                None => Ok(None),
            };
        }
        self.check_images(prompts)?;
        let mask = self.mask.as_deref();
        let mask = mask.map(|mask| fit_mask(mask, size.map(|side| side as u32)));
        if mask.as_ref().is_some_and(|mask| !has_white(mask)) {
            let [width, height] = size;
            return Err(ImageToImageError::EmptyMask { width, height }.into());
        }
        let default = match self.mask {
            Some(_) => 1.0,
            None => DEFAULT_STRENGTH,
        };
        let settings = ImageToImageSettings {
            strength: self.strength.unwrap_or(default),
            schedule_steps: schedule.steps(),
            masked: mask.is_some(),
            feather: self.feather,
        };
        let fitted = Self {
            mask: mask.map(Arc::new),
            ..self.clone()
        };
        Ok(Some((settings, fitted)))
    }

    fn check_images(&self, prompts: usize) -> Result<(), ImageToImageError> {
        let found = self.images.len();
        if found > 1 && found != prompts {
            return Err(ImageToImageError::ImageCount {
                expected: prompts,
                found,
            });
        }
        for (index, image) in self.images.iter().enumerate() {
            let (width, height) = image.dimensions();
            if width == 0 || height == 0 {
                return Err(ImageToImageError::EmptyImage {
                    index,
                    width,
                    height,
                });
            }
            let mask = self.mask.as_ref().map(|mask| mask.dimensions());
            if let Some(mask) = mask.filter(|mask| *mask != image.dimensions()) {
                return Err(ImageToImageError::MaskSize {
                    mask: mask.into(),
                    image: [width, height],
                });
            }
        }
        Ok(())
    }

    /// Ready latents must be those of one image, or of one for each prompt.
    pub fn check_latents(&self, prompts: usize, latents: [usize; 3]) -> Result<(), RequestError> {
        let Some(found) = self.latents.as_ref().map(Tensor::dims) else {
            return Ok(());
        };
        let [rows, rest @ ..] = found;
        if [1, prompts].contains(&rows) && rest == latents {
            return Ok(());
        }
        let [channels, height, width] = latents;
        Err(RequestError::Shape {
            what: "the image's latents",
            expected: vec![prompts, channels, height, width],
            found: found.to_vec(),
        })
    }

    /// The size that follows from the images.
    pub fn size(&self, spec: &ModelSpec) -> Option<[usize; 2]> {
        if let Some(latents) = &self.latents {
            let [_, _, height, width] = latents.dims();
            return Some([width, height].map(|side| side * spec.compression()));
        }
        let (width, height) = self.images.first()?.dimensions();
        let [most_width, most_height] = spec.defaults().size;
        let most = (most_width * most_height) as f64;
        Some(sensible_size([width, height], most, spec.size_multiple()))
    }

    /// The images at the size of the result.
    pub fn fitted_images(&self, [width, height]: [usize; 2]) -> impl Iterator<Item = RgbImage> {
        self.images
            .iter()
            .map(move |image| images::fit(image, width as u32, height as u32))
    }
}

/// The size for an image of `[width, height]`: of at most `most` pixels before rounding, both sides
/// the nearest multiple of `multiple`.
fn sensible_size(sides: [u32; 2], most: f64, multiple: usize) -> [usize; 2] {
    let [width, height] = sides.map(f64::from);
    let scale = (most / (width * height)).sqrt().min(1.0);
    [width, height].map(|side| {
        let multiples = (side * scale / multiple as f64).round().max(1.0);
        multiples as usize * multiple
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_follow_from_images() {
        let megapixel = (1024 * 1024) as f64;
        for (sides, multiple, expected) in [
            ([96, 64], 32, [96, 64]),
            ([100, 70], 32, [96, 64]),
            ([1, 1], 32, [32, 32]),
            ([1024, 1024], 32, [1024, 1024]),
            // 4.5 megapixels: 1448 x 724 of one.
            ([3000, 1500], 32, [1440, 736]),
            ([4000, 4000], 64, [1024, 1024]),
        ] {
            assert_eq!(sensible_size(sides, megapixel, multiple), expected);
        }
    }
}
