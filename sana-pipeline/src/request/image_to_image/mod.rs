//! What a request says about image-to-image and inpainting, and what happens in pixels: pictures
//! and masks fitted to a size, and the known part of a picture put back into what was made of it.
//!
//! A mask is white where the picture is drawn anew and black where it stays. Two grids are made of
//! it:
//!
//! - on latents, a cell is drawn anew if any pixel of it is at least [`WHITE`] (a maximum over the
//!   `compression x compression` pixels of the cell), so no pixel that is to change depends on a cell
//!   that stays;
//! - on pixels, the weight of what was made is `max(value / 255, 1 - d / (feather + 1))`, with `d` the
//!   distance in pixels to the nearest pixel of at least [`WHITE`]. Where it is 0 the pixel is the
//!   picture's, byte for byte.

use std::borrow::Cow;

use burn::tensor::Tensor;
use image::DynamicImage;
use image::imageops::FilterType;

use crate::checkpoint::Schedule;
use crate::error::PipelineError;
use crate::image::{self as pictures, GrayImage, RgbImage};
use crate::pipeline::SanaPipeline;
use crate::request::{Request, Settings};

/// Pixels of a mask from this value on are drawn anew. What is darker, such as the noise that JPEG
/// leaves beside an edge, draws no cell anew by itself; it only has a weight in pixels.
pub const WHITE: u8 = 128;

/// Strength of a request with a picture and no mask, as in the reference.
pub const DEFAULT_STRENGTH: f64 = 0.6;

/// Why pictures to work on cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// An option that works on a picture, without one.
    #[error("{option} needs a picture to work on: give an image too")]
    NoImage {
        /// The option.
        option: &'static str,
    },
    /// Another number of pictures than of prompts.
    #[error("{found} pictures for {expected} prompts: give one for all or one for each")]
    ImageCount {
        /// Prompts of the request.
        expected: usize,
        /// Pictures of the request.
        found: usize,
    },
    /// A picture without a pixel.
    #[error("picture {index} has no pixels ({width}x{height})")]
    EmptyImage {
        /// Which of the request's pictures, from 0.
        index: usize,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// A mask of another size than the picture it belongs to.
    #[error(
        "the mask has {}x{} pixels and the picture {}x{}: a mask must have the size of its picture",
        mask[0], mask[1], image[0], image[1]
    )]
    MaskSize {
        /// `[width, height]` of the mask.
        mask: [u32; 2],
        /// `[width, height]` of the picture.
        image: [u32; 2],
    },
    /// A mask for pictures that are resized and cropped after they are decoded.
    #[error(
        "a mask keeps pixels as they are, and pictures of a bucket are resized afterwards: ask for \
         the exact size, multiples of what the model needs"
    )]
    MaskInBucket,
    /// A mask that leaves nothing to draw.
    #[error(
        "the mask has no white pixel in the {width}x{height} pixels of the picture, so there is \
         nothing to draw: white is drawn anew, black stays"
    )]
    EmptyMask {
        /// Width of the picture to make.
        width: usize,
        /// Height of the picture to make.
        height: usize,
    },
}

/// What image-to-image and inpainting do, with every default filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct EditSettings {
    /// How much of the schedule runs, in `(0, 1]`.
    pub strength: f64,
    /// Steps of the whole schedule.
    pub schedule_steps: usize,
    /// Whether a mask keeps a part of the picture.
    pub masked: bool,
    /// Pixels around the mask in which what was drawn fades into the picture.
    pub feather: u32,
}

/// The pictures that a request starts from, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Editing {
    images: Vec<RgbImage>,
    pub latents: Option<Tensor<4>>,
    strength: Option<f64>,
    mask: Option<GrayImage>,
    feather: u32,
}

impl Request {
    /// A picture to start from, the same for all prompts. It is [fitted](pictures::fit) to the size.
    /// Without a size, the size follows from the picture: if it has more pixels than the model was
    /// trained for it is scaled down to as many, and both sides are rounded to the nearest multiple
    /// that the model takes.
    pub fn image(self, picture: RgbImage) -> Self {
        self.images([picture])
    }

    /// A picture for each prompt. The first decides the size where none is set.
    pub fn images(mut self, pictures: impl IntoIterator<Item = RgbImage>) -> Self {
        self.editing.images = pictures.into_iter().collect();
        self
    }

    /// Ready latents of the pictures to start from, scaled, as [`SanaPipeline::encode_image`] gives
    /// them, in place of encoding the pictures. A mask needs the pictures all the same. The size
    /// follows from them unless it is set.
    ///
    /// # Shapes
    /// - latents `[1, channels, height / 32, width / 32]`, or a row for each prompt
    pub fn image_latents(mut self, latents: Tensor<4>) -> Self {
        self.editing.latents = Some(latents);
        self
    }

    /// How far the result may be from the picture, in `(0, 1]`: the last `floor(steps * strength)`
    /// steps run, from the picture brought to the noise level of the first of them. 0.6 by default;
    /// 1, the whole schedule, where there is a mask.
    pub fn strength(mut self, strength: f64) -> Self {
        self.editing.strength = Some(strength);
        self
    }

    /// What to draw anew of the picture: white is, black stays as it is, byte for byte; see the
    /// [module](crate::request::image_to_image) for what lies between. It has the size of the picture, and is fitted
    /// with it.
    pub fn mask(mut self, mask: GrayImage) -> Self {
        self.editing.mask = Some(mask);
        self
    }

    /// Pixels around the white of the mask over which what was drawn fades into the picture; 0 by
    /// default. Without effect where there is no mask.
    pub fn mask_feather(mut self, pixels: u32) -> Self {
        self.editing.feather = pixels;
        self
    }
}

impl Editing {
    /// Fills in defaults and checks everything that needs no tensor.
    pub fn checked(
        &self,
        prompts: usize,
        size: [usize; 2],
        schedule: &Schedule,
    ) -> Result<Option<EditSettings>, PipelineError> {
        let no_image = |option| Err(EditError::NoImage { option }.into());
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
        if let Some(mask) = self.fitted_mask(size) {
            check_white(&mask)?;
        }
        let default = match self.mask {
            Some(_) => 1.0,
            None => DEFAULT_STRENGTH,
        };
        Ok(Some(EditSettings {
            strength: self.strength.unwrap_or(default),
            schedule_steps: schedule.steps(),
            masked: self.mask.is_some(),
            feather: self.feather,
        }))
    }

    fn check_images(&self, prompts: usize) -> Result<(), EditError> {
        let found = self.images.len();
        if found > 1 && found != prompts {
            return Err(EditError::ImageCount {
                expected: prompts,
                found,
            });
        }
        for (index, picture) in self.images.iter().enumerate() {
            let (width, height) = picture.dimensions();
            if width == 0 || height == 0 {
                return Err(EditError::EmptyImage {
                    index,
                    width,
                    height,
                });
            }
            let mask = self.mask.as_ref().map(|mask| mask.dimensions());
            if let Some(mask) = mask.filter(|mask| *mask != picture.dimensions()) {
                return Err(EditError::MaskSize {
                    mask: mask.into(),
                    image: [width, height],
                });
            }
        }
        Ok(())
    }

    /// Ready latents must be those of one picture, or of one for each prompt.
    pub fn check_latents(
        &self,
        settings: &Settings,
        [_, channels, height, width]: [usize; 4],
    ) -> Result<(), PipelineError> {
        let Some(latents) = &self.latents else {
            return Ok(());
        };
        let [rows, rest @ ..] = latents.dims();
        if [1, settings.prompts].contains(&rows) && rest == [channels, height, width] {
            return Ok(());
        }
        Err(PipelineError::Shape {
            what: "the picture's latents",
            expected: vec![settings.prompts, channels, height, width],
            found: latents.dims().to_vec(),
        })
    }

    /// The size that follows from the pictures.
    pub fn size(&self, pipeline: &SanaPipeline) -> Option<[usize; 2]> {
        if let Some(latents) = &self.latents {
            let [_, _, height, width] = latents.dims();
            return Some([width, height].map(|side| side * pipeline.compression()));
        }
        let (width, height) = self.images.first()?.dimensions();
        let [most_width, most_height] = pipeline.defaults().size;
        let most = (most_width * most_height) as f64;
        Some(sensible_size(
            [width, height],
            most,
            pipeline.size_multiple(),
        ))
    }

    /// The pictures at the size of the result.
    pub fn fitted_images(&self, [width, height]: [usize; 2]) -> impl Iterator<Item = RgbImage> {
        self.images
            .iter()
            .map(move |picture| pictures::fit(picture, width as u32, height as u32))
    }

    /// The mask at the size of the result: resized and cut as [`pictures::fit`] does, but with a
    /// triangle for a filter, which leaves no dark or bright fringes beside an edge.
    pub fn fitted_mask(&self, [width, height]: [usize; 2]) -> Option<Cow<'_, GrayImage>> {
        let mask = self.mask.as_ref()?;
        let (width, height) = (width as u32, height as u32);
        if mask.dimensions() == (width, height) {
            return Some(Cow::Borrowed(mask));
        }
        let mask = DynamicImage::from(mask.clone());
        let fitted = mask.resize_to_fill(width, height, FilterType::Triangle);
        Some(Cow::Owned(fitted.into_luma8()))
    }
}

impl SanaPipeline {
    /// Puts the known part of a request's picture back into what was [decoded](Self::decode) for it,
    /// the last stage of inpainting: `weight drawn + (1 - weight) picture` with the weights of the
    /// [module](crate::request::image_to_image). Without a mask the pictures stay as they are.
    ///
    /// # Errors
    /// When the request is not valid, or there is another number or size of pictures than it asks
    /// for.
    pub fn composite(
        &self,
        request: &Request,
        drawn: Vec<RgbImage>,
    ) -> Result<Vec<RgbImage>, PipelineError> {
        let settings = request.validate(self)?;
        let size = [settings.width, settings.height];
        let Some(mask) = request.editing.fitted_mask(size) else {
            return Ok(drawn);
        };
        let wrong = drawn
            .iter()
            .find(|picture| picture.dimensions() != mask.dimensions());
        if wrong.is_some() || drawn.len() != settings.pictures() {
            let [width, height] = wrong.map_or(size, |picture| {
                <[u32; 2]>::from(picture.dimensions()).map(|side| side as usize)
            });
            return Err(PipelineError::Shape {
                what: "the pictures to composite",
                expected: vec![settings.pictures(), 3, settings.height, settings.width],
                found: vec![drawn.len(), 3, height, width],
            });
        }
        let weights = pixel_weights(&mask, request.editing.feather);
        let known: Vec<RgbImage> = request.editing.fitted_images(size).collect();
        let each = drawn.len() / known.len();
        let pictures = drawn.into_iter().enumerate();
        Ok(pictures
            .map(|(index, drawn)| blended(drawn, &known[index / each], &weights))
            .collect())
    }
}

/// The size for a picture of `[width, height]`: of at most `most` pixels before rounding, both sides
/// the nearest multiple of `multiple`.
fn sensible_size(sides: [u32; 2], most: f64, multiple: usize) -> [usize; 2] {
    let [width, height] = sides.map(f64::from);
    let scale = (most / (width * height)).sqrt().min(1.0);
    [width, height].map(|side| {
        let multiples = (side * scale / multiple as f64).round().max(1.0);
        multiples as usize * multiple
    })
}

fn check_white(mask: &GrayImage) -> Result<(), EditError> {
    if mask.as_raw().iter().any(|value| *value >= WHITE) {
        return Ok(());
    }
    Err(EditError::EmptyMask {
        width: mask.width() as usize,
        height: mask.height() as usize,
    })
}

/// Which cells of the latent grid stay, row by row: those without a pixel of at least [`WHITE`].
pub(crate) fn kept_cells(mask: &GrayImage, compression: usize) -> Vec<bool> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let (columns, rows) = (width / compression, height / compression);
    let mut kept = vec![true; columns * rows];
    for (x, y, value) in mask.enumerate_pixels() {
        let (column, row) = (x as usize / compression, y as usize / compression);
        if value.0[0] >= WHITE && column < columns && row < rows {
            kept[row * columns + column] = false;
        }
    }
    kept
}

/// The weight in [0, 1] of what was drawn, pixel by pixel.
fn pixel_weights(mask: &GrayImage, feather: u32) -> Vec<f32> {
    let mut weights: Vec<f32> = mask
        .as_raw()
        .iter()
        .map(|value| f32::from(*value) / 255.0)
        .collect();
    if feather == 0 {
        return weights;
    }
    let reach = f64::from(feather) + 1.0;
    for (weight, squared) in weights.iter_mut().zip(squared_distances(mask, feather)) {
        if let Some(squared) = squared {
            let ramp = 1.0 - (squared as f64).sqrt() / reach;
            *weight = weight.max(ramp as f32);
        }
    }
    weights
}

/// The squared distance of every pixel to the nearest one of at least [`WHITE`]; `None` where it is
/// surely more than `reach`. Distances in a column first, then the nearest over the row.
fn squared_distances(mask: &GrayImage, reach: u32) -> Vec<Option<u64>> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let white: Vec<bool> = mask.as_raw().iter().map(|value| *value >= WHITE).collect();
    let mut in_column: Vec<Option<u64>> = vec![None; white.len()];
    for x in 0..width {
        let mut sweep = |rows: &mut dyn Iterator<Item = usize>| {
            let mut distance: Option<u64> = None;
            for y in rows {
                let at = y * width + x;
                distance = match white[at] {
                    true => Some(0),
                    false => distance.map(|distance| distance + 1),
                };
                in_column[at] = in_column[at].into_iter().chain(distance).min();
            }
        };
        sweep(&mut (0..height));
        sweep(&mut (0..height).rev());
    }
    let reach = reach as usize;
    in_column
        .chunks(width.max(1))
        .flat_map(|row| {
            (0..row.len()).map(move |x| {
                let near = x.saturating_sub(reach)..row.len().min(x.saturating_add(reach + 1));
                near.filter_map(|other| {
                    let across = x.abs_diff(other) as u64;
                    row[other].map(|down| across * across + down * down)
                })
                .min()
            })
        })
        .collect()
}

/// Pixels of weight 0 are the known ones, pixels of weight 1 the drawn ones.
fn blended(mut drawn: RgbImage, known: &RgbImage, weights: &[f32]) -> RgbImage {
    let pixels = drawn.pixels_mut().zip(known.pixels());
    for ((drawn, known), weight) in pixels.zip(weights) {
        for (drawn, known) in drawn.0.iter_mut().zip(known.0) {
            let (from, to) = (f32::from(known), f32::from(*drawn));
            *drawn = (from + weight * (to - from)).round() as u8;
        }
    }
    drawn
}

#[cfg(test)]
mod tests;
