//! What the page asks for, in the fields that it sends to a server too.

use std::path::Path;

use sana_pipeline::image::{GrayImage, RgbImage, decode_with_alpha};
use sana_pipeline::spec::ModelSpec;
use sana_pipeline::{PipelineError, Request};
use serde::Deserialize;

/// Images of a request, at most.
pub const MAX_IMAGES: usize = 10;
/// Steps of an image, at most.
pub const MAX_STEPS: usize = 100;

/// The fields of a request.
#[derive(Debug, Clone, Deserialize)]
pub struct Asked {
    pub prompt: String,
    #[serde(default)]
    pub negative_prompt: String,
    /// Images to make.
    pub n: Option<usize>,
    /// Width and height such as `128x64`.
    pub size: Option<String>,
    pub num_inference_steps: Option<usize>,
    pub guidance_scale: Option<f64>,
    /// Of the first image; the others count up from it.
    pub seed: u64,
    /// How far the result may be from the image that it starts from.
    pub strength: Option<f64>,
}

/// Why no image is made.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the request is not readable: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the prompt is empty: describe the image")]
    NoPrompt,
    #[error("{found} {what} are more than this page makes, {most}")]
    TooMany {
        what: &'static str,
        found: usize,
        most: usize,
    },
    #[error("the size {0:?} is not a width and a height such as 128x128")]
    Size(String),
    #[error("the mask is transparent nowhere, so nothing would change")]
    OpaqueMask,
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl Asked {
    pub fn from_json(text: &str) -> Result<Self, AskError> {
        let asked: Self = serde_json::from_str(text)?;
        match asked.prompt.trim().is_empty() {
            true => Err(AskError::NoPrompt),
            false => Ok(asked),
        }
    }

    pub fn images(&self) -> usize {
        self.n.unwrap_or(1)
    }

    /// The request for one of its images.
    pub fn request(&self, spec: &ModelSpec, start: Option<&Start>) -> Result<Request, AskError> {
        within("images", self.images(), MAX_IMAGES)?;
        let mut request = Request::new(&self.prompt).negative(&self.negative_prompt);
        if let Some(size) = self.size.as_deref().filter(|size| !size.is_empty()) {
            let sides = size.split_once('x');
            let sides = sides.and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
            let [width, height]: [usize; 2] = sides.ok_or_else(|| AskError::Size(size.into()))?;
            within("pixels", width.saturating_mul(height), max_pixels(spec))?;
            request = request.size(width, height);
        }
        if let Some(steps) = self.num_inference_steps {
            within("steps", steps, MAX_STEPS)?;
            request = request.steps(steps);
        }
        if let Some(scale) = self.guidance_scale {
            request = request.guidance(scale);
        }
        if let Some(start) = start {
            request = request.image(start.image.clone());
            if let Some(mask) = &start.mask {
                request = request.mask(mask.clone());
            }
            if let Some(strength) = self.strength {
                request = request.strength(strength);
            }
        }
        Ok(request)
    }
}

fn within(what: &'static str, found: usize, most: usize) -> Result<(), AskError> {
    match found <= most {
        true => Ok(()),
        false => Err(AskError::TooMany { what, found, most }),
    }
}

/// Pixels of an image, at most: a tab has little memory.
pub fn max_pixels(spec: &ModelSpec) -> usize {
    let [width, height] = spec.defaults().size;
    16 * width * height
}

/// An image to start from.
#[derive(Debug, Clone)]
pub struct Start {
    pub image: RgbImage,
    /// White is regenerated.
    pub mask: Option<GrayImage>,
}

impl Start {
    /// Of the files of an image and of a mask, whose transparent part is regenerated; without a mask
    /// what is transparent in the image, else all of it.
    pub fn decode(image: &[u8], mask: Option<&[u8]>) -> Result<Self, AskError> {
        let (image, transparent) = with_transparency("image", image)?;
        let mask = match mask {
            Some(mask) => {
                let (_, transparent) = with_transparency("mask", mask)?;
                Some(transparent.ok_or(AskError::OpaqueMask)?)
            }
            None => transparent,
        };
        Ok(Self { image, mask })
    }
}

/// An image, and where it is transparent, as a mask whose white is regenerated; `None` if it is nowhere.
fn with_transparency(
    name: &str,
    file: &[u8],
) -> Result<(RgbImage, Option<GrayImage>), PipelineError> {
    let (image, mut alpha) = decode_with_alpha(Path::new(name), file)?;
    alpha.iter_mut().for_each(|value| *value = 255 - *value);
    let transparent = alpha.iter().any(|value| *value > 0);
    Ok((image, transparent.then_some(alpha)))
}
