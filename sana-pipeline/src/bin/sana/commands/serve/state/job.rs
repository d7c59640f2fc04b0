//! What a request asks for, on its way to the worker and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Instant;

use image::imageops::thumbnail;
use sana_pipeline::Request;
use sana_pipeline::image::{GrayImage, RgbImage};
use sana_pipeline::request::Settings;
use sana_pipeline::spec::ModelSpec;
use tokio::sync::mpsc::UnboundedSender;

use crate::commands::serve::args::Limits;
use crate::commands::serve::error::ApiError;
use crate::commands::serve::queue::Waiting;
use crate::generate::Record;
use crate::generate::args::ImageArgs;
use crate::generate::request::random_seed;

/// Guidance scale, at most: beyond, values overflow.
const MOST_GUIDANCE: f64 = 1000.0;

/// Images to make, before they are checked.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Everything that `sana generate` has options for.
    pub args: ImageArgs,
    /// An image to start from; the request has it once it is checked.
    pub start: Option<Start>,
    /// Images of the steps that are shown before the result.
    pub previews: usize,
}

/// An image to start from, as it was uploaded.
#[derive(Debug, Clone)]
pub struct Start {
    pub image: RgbImage,
    /// White is regenerated.
    pub mask: Option<GrayImage>,
    pub strength: Option<f64>,
    pub mask_feather: u32,
}

/// Images to make.
#[derive(Debug)]
pub struct Job {
    pub draft: Draft,
    pub request: Request,
    pub settings: Settings,
    /// Where its events go.
    pub events: UnboundedSender<Event>,
    pub signal: Signal,
    /// Since when it waits.
    pub since: Instant,
    /// Images that were sent.
    pub delivered: AtomicUsize,
    /// Previews that nobody has taken yet.
    pub pending: Arc<AtomicUsize>,
}

/// What happens to a job. After the last event the channel ends.
#[derive(Debug)]
pub enum Event {
    /// A step is done, counted over all images from 1.
    Step { step: usize, steps: usize },
    /// The image as it is after a step.
    Preview { image: usize, preview: RgbImage },
    /// An image is done.
    Image(Box<Made>),
    /// Nothing more is made.
    Failed(ApiError),
}

/// An image, and what it was made of.
#[derive(Debug)]
pub struct Made {
    /// Its number within the job.
    pub index: usize,
    pub seed: u64,
    pub image: RgbImage,
    pub record: Record,
}

/// What whoever waits for a job wants of it now.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<AtomicU8>);

impl Signal {
    const INTERRUPTED: u8 = 1;
    const CANCELLED: u8 = 2;

    /// The image as it is.
    pub fn interrupt(&self) {
        self.0.fetch_max(Self::INTERRUPTED, Ordering::Relaxed);
    }

    /// Nothing: nobody waits any more.
    pub fn cancel(&self) {
        self.0.fetch_max(Self::CANCELLED, Ordering::Relaxed);
    }

    pub fn is_interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::INTERRUPTED
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::CANCELLED
    }
}

impl Waiting for Job {
    fn is_cancelled(&self) -> bool {
        self.signal.is_cancelled()
    }
}

impl Draft {
    /// A draft of a prompt and a random seed.
    pub fn new(prompt: String) -> Result<Self, ApiError> {
        if prompt.trim().is_empty() {
            return Err(ApiError::field("prompt", "it is empty: describe the image"));
        }
        Ok(Self {
            args: ImageArgs {
                prompt: Some(prompt),
                seed: Some(random_seed()),
                ..ImageArgs::default()
            },
            ..Self::default()
        })
    }

    /// Checks it against the limits and the model.
    pub fn check(
        &mut self,
        limits: &Limits,
        spec: &ModelSpec,
    ) -> Result<(Request, Settings), ApiError> {
        let within = |field, value: usize, most: usize| match value <= most {
            true => Ok(()),
            false => Err(ApiError::field(
                field,
                format!("{value} is more than this server makes, {most}"),
            )),
        };
        // Before the request is built, which may take work that grows with them.
        within("n", self.args.count(), limits.max_images)?;
        within("steps", self.args.steps.unwrap_or(1), limits.max_steps)?;
        let most_pixels = limits.max_pixels(spec);
        if let Some(size) = self.args.size {
            within("size", size.width.saturating_mul(size.height), most_pixels)?;
        }
        if self
            .args
            .guidance
            .is_some_and(|scale| scale > MOST_GUIDANCE)
        {
            return Err(ApiError::field(
                "guidance_scale",
                format!("at most {MOST_GUIDANCE}"),
            ));
        }
        let request = self.request(spec)?;
        let settings = request
            .validate(spec)
            .map_err(|error| ApiError::from(&error))?;
        within("steps", settings.steps(), limits.max_steps)?;
        let [width, height] = settings.size();
        within("size", width.saturating_mul(height), most_pixels)?;
        Ok((request, settings))
    }

    fn request(&mut self, spec: &ModelSpec) -> Result<Request, ApiError> {
        let mut request = self
            .args
            .text_request(spec)
            .map_err(|error| ApiError::invalid(error.to_string()))?;
        if let Some(start) = self.start.take() {
            request = request.image(start.image);
            if let Some(strength) = start.strength {
                request = request.strength(strength);
            }
            if let Some(mask) = start.mask {
                request = request.mask(mask).mask_feather(start.mask_feather);
            }
        }
        Ok(request)
    }
}

impl Job {
    /// What jobs have in common whose images can be made at a time; `None` if this one stays alone.
    pub fn in_common(&self) -> Option<ImageArgs> {
        self.settings.image_to_image.is_none().then(|| ImageArgs {
            prompt: None,
            negative: None,
            seed: None,
            count: None,
            ..self.draft.args.clone()
        })
    }
}

impl Start {
    /// With so many pixels at most: what waits in the queue is no larger than images that are made. It is
    /// fitted to their size anyway.
    pub fn bounded(mut self, most: usize) -> Self {
        let (width, height) = self.image.dimensions();
        let pixels = f64::from(width) * f64::from(height);
        if pixels > most as f64 {
            let scale = (most as f64 / pixels).sqrt();
            let side = |side: u32| ((f64::from(side) * scale) as u32).max(1);
            let (width, height) = (side(width), side(height));
            if let Some(mask) = &self.mask
                && mask.dimensions() == self.image.dimensions()
            {
                self.mask = Some(thumbnail(mask, width, height));
            }
            self.image = thumbnail(&self.image, width, height);
            self.mask_feather = (f64::from(self.mask_feather) * scale) as u32;
        }
        self
    }
}

impl Limits {
    /// Pixels of an image to start from, at most; larger ones are made smaller.
    pub fn max_start_pixels(&self, spec: &ModelSpec) -> usize {
        self.max_pixels(spec).saturating_mul(4)
    }

    /// Pixels of an image, at most.
    pub fn max_pixels(&self, spec: &ModelSpec) -> usize {
        let [width, height] = spec.defaults().size;
        self.max_pixels.unwrap_or(2 * width * height)
    }
}
