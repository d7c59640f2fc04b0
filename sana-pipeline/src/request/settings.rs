//! A request checked against a model, with every default filled in.

use std::sync::Arc;

use burn::tensor::Tensor;
use sana_linear_attn::transformer::PerturbedBlocks;
use sana_sampler::{AdaptiveProjection, Guidance, GuidanceInterval};
use sana_text::{PromptEmbeds, PromptOptions};

use super::builder::{InstructionChoice, Request, SizeChoice};
use super::control::{ControlImage, ControlSettings};
use super::hires::HiresSettings;
use super::image_to_image::{ImageToImage, ImageToImageSettings};
use crate::checkpoint::{Schedule, Solver};
use crate::error::{ImageToImageError, RequestError};
use crate::image::{LARGEST_SIDE, LARGEST_TEXT};
use crate::spec::ModelSpec;

/// Scales of guidance and the like beyond this are no use; usual ones are below 20.
pub(crate) const EXTREME_SCALE: f64 = 100.0;

/// A request with every default filled in, checked against a model. The stages trust it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Number of prompts.
    pub prompts: usize,
    /// Images per prompt.
    pub count: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[width, height]` in pixels that the images are resized and cropped to after decoding;
    /// `None` where they stay as they are.
    pub output_size: Option<[usize; 2]>,
    /// Scales of the guidance, and at which noise levels it is applied.
    pub guidance: Guidance,
    /// The blocks with perturbed attention; `None` without perturbed attention guidance.
    pub perturbed_blocks: Option<PerturbedBlocks>,
    /// Options of adaptive projected guidance; `None` where guidance is not projected.
    pub projection: Option<AdaptiveProjection>,
    /// The solver.
    pub solver: Solver,
    /// Its noise levels or times; in image-to-image those that run.
    pub schedule: Schedule,
    /// What image-to-image and inpainting do; `None` where images are made from noise alone.
    pub image_to_image: Option<ImageToImageSettings>,
    /// The second pass, which makes the images larger; `None` without one.
    pub hires: Option<HiresSettings>,
    /// Its settings, whose images to start from are those of the first pass.
    pub(crate) larger: Option<Box<Settings>>,
    /// Seed of the first image.
    pub seed: u64,
    /// The seed of every image, where they do not count up from the first.
    pub(crate) own_seeds: Option<Vec<u64>>,
    /// How the control image is followed; `None` without one.
    pub control: Option<ControlSettings>,
    /// What a user may want to know of them.
    pub(crate) notes: Vec<String>,
    /// Whether the guidance scale is an input of the network.
    pub(crate) is_embedded: bool,
    /// Whether every step runs the network for the negative prompt too.
    pub(crate) classifier_free: bool,
    /// What the stages work on.
    pub(crate) inputs: Inputs,
}

/// Texts, tensors and images of a request, as the stages take them.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub prompts: Vec<String>,
    pub negatives: Vec<String>,
    pub prompt_options: PromptOptions,
    /// Ready embeddings of the prompts and the negative prompts.
    pub embeddings: Option<(PromptEmbeds, Option<PromptEmbeds>)>,
    pub latents: Option<Tensor<4>>,
    pub step_noise: Option<Vec<Tensor<4>>>,
    pub control_images: Arc<[ControlImage]>,
    /// Empty without image-to-image; its mask has the size of the result.
    pub image_to_image: ImageToImage,
    /// `[channels, height, width]` of the latents of an image.
    pub latent_shape: [usize; 3],
    pub caption_channels: usize,
}

impl Settings {
    /// Settings that have no effect, such as a negative prompt without guidance, and those that the
    /// model was not made for, such as a size far from those it was trained at.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of steps that run.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// Number of steps of the whole schedule, of which image-to-image runs the last
    /// [`steps`](Self::steps).
    pub fn schedule_steps(&self) -> usize {
        let settings = self.image_to_image;
        settings.map_or(self.steps(), |settings| settings.schedule_steps)
    }

    /// Number of images: prompts times images per prompt.
    pub fn images(&self) -> usize {
        self.prompts * self.count
    }

    /// `[images, channels, height, width]` of the latents.
    pub fn latent_shape(&self) -> [usize; 4] {
        let [channels, height, width] = self.inputs.latent_shape;
        [self.images(), channels, height, width]
    }

    /// `[width, height]` in pixels of the images as they are decoded.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// Scales so large that values which are not finite are theirs, and neither of the dtype nor of
    /// the weights.
    pub(crate) fn extreme_scales(&self) -> Vec<String> {
        let control = self.control.map_or(0.0, |control| control.scale);
        [
            ("guidance", self.guidance.scale()),
            (
                "perturbed attention guidance",
                self.guidance.perturbed_scale(),
            ),
            ("control", control),
        ]
        .into_iter()
        .filter(|(_, scale)| *scale > EXTREME_SCALE)
        .map(|(what, scale)| format!("{what} of scale {scale:?}"))
        .collect()
    }

    /// The seed of every image: its [own](Request::seeds), or `seed + i` for image `i`. A
    /// request for it alone with that seed makes the same image.
    pub fn seeds(&self) -> Vec<u64> {
        if let Some(seeds) = &self.own_seeds {
            return seeds.clone();
        }
        (0..self.images() as u64)
            .map(|image| self.seed.wrapping_add(image))
            .collect()
    }
}

impl Request {
    /// Fills in the model's defaults and checks everything against it.
    ///
    /// # Errors
    /// When there is nothing to make, a number is out of its range, the solver or the guidance does
    /// not fit the model, or a tensor does not fit the rest.
    pub fn validate(&self, spec: &ModelSpec) -> Result<Settings, RequestError> {
        let prompts = match &self.embeddings {
            Some((embeds, _)) => embeds.embeds.dims()[0],
            None => self.prompts.len(),
        };
        if prompts == 0 {
            return Err(RequestError::NoPrompt);
        }
        if self.count == 0 {
            return Err(RequestError::NoImages);
        }
        if self.negatives.len() > 1 && self.negatives.len() != prompts {
            return Err(RequestError::NegativeCount {
                expected: prompts,
                found: self.negatives.len(),
            });
        }
        self.check_texts()?;
        let images = prompts.saturating_mul(self.count);
        let seeds = self.seeds.as_ref();
        if let Some(seeds) = seeds.filter(|seeds| seeds.len() != images) {
            return Err(RequestError::SeedCount {
                expected: images,
                found: seeds.len(),
            });
        }
        if self.max_tokens == Some(0) {
            return Err(RequestError::NoTokensKept);
        }
        let (output_size, [width, height]) = self.checked_size(spec)?;
        let defaults = spec.defaults();
        let guidance = Guidance::new(self.guidance.unwrap_or(defaults.guidance))?
            .with_perturbed_attention(self.perturbed_attention)?
            .with_interval(self.guidance_interval);
        let (solver, schedule) = self.checked_schedule(spec)?;
        let (image_to_image, start) = self
            .image_to_image
            .checked(prompts, [width, height], &schedule)?
            .unzip();
        if output_size.is_some() && image_to_image.is_some_and(|settings| settings.masked) {
            return Err(ImageToImageError::MaskInBucket.into());
        }
        let schedule = match image_to_image {
            Some(settings) => schedule.for_strength(settings.strength)?,
            None => schedule,
        };
        let embedded = spec.transformer.guidance_embeds || solver == Solver::Scm;
        if embedded {
            self.check_embedded_guidance()?;
        }
        let latent_shape = spec.latent_shape([width, height]);
        let mut settings = Settings {
            prompts,
            count: self.count,
            width,
            height,
            output_size,
            guidance,
            perturbed_blocks: self.checked_perturbed_blocks(spec)?,
            projection: self.projection,
            solver,
            schedule,
            image_to_image,
            hires: None,
            larger: None,
            seed: seeds.map_or(self.seed, |seeds| seeds[0]),
            own_seeds: self.seeds.clone(),
            control: self.control.validate(spec, prompts, latent_shape)?,
            notes: Vec::new(),
            is_embedded: embedded,
            classifier_free: guidance.is_active() && !embedded,
            inputs: Inputs {
                prompts: self.prompts.clone(),
                negatives: self.negatives.clone(),
                prompt_options: self.prompt_options(spec),
                embeddings: self.embeddings.clone(),
                latents: self.latents.clone(),
                step_noise: self.step_noise.clone(),
                control_images: self.control.images.clone(),
                image_to_image: start.unwrap_or_default(),
                latent_shape,
                caption_channels: spec.transformer.caption_channels,
            },
        };
        self.check_tensors(&settings)?;
        settings.notes = self.notes(&settings, spec);
        if let Some((hires, larger)) = self.larger(&settings, spec)? {
            settings.hires = Some(hires);
            settings.larger = Some(larger);
        }
        Ok(settings)
    }

    fn check_texts(&self) -> Result<(), RequestError> {
        let texts = [
            ("prompt", &self.prompts),
            ("negative prompt", &self.negatives),
        ];
        for (what, texts) in texts {
            let longest = texts.iter().map(String::len).max().unwrap_or(0);
            if longest > LARGEST_TEXT {
                return Err(RequestError::TextLength {
                    what,
                    bytes: longest,
                    largest: LARGEST_TEXT,
                });
            }
        }
        Ok(())
    }

    /// The size to resize to, if any, and the size to make.
    fn checked_size(
        &self,
        spec: &ModelSpec,
    ) -> Result<(Option<[usize; 2]>, [usize; 2]), RequestError> {
        let compression = spec.compression();
        let from_latents = self.latents.as_ref().map(|latents| {
            let [_, _, height, width] = latents.dims();
            [width * compression, height * compression]
        });
        let bucket = |ratio: f64| {
            let [height, width] = spec.buckets().nearest(ratio);
            [width, height]
        };
        let (output_size, [width, height]) = match self.size {
            None => {
                let from_image = || self.image_to_image.size(spec);
                let size = from_latents.or_else(from_image);
                (None, size.unwrap_or(spec.defaults().size))
            }
            Some(SizeChoice::Exact(size)) => (None, size),
            Some(SizeChoice::Bucket([width, height])) => {
                let largest = LARGEST_SIDE;
                if !(1..=largest).contains(&width) || !(1..=largest).contains(&height) {
                    return Err(RequestError::OutputSize {
                        width,
                        height,
                        largest,
                    });
                }
                let made = bucket(height as f64 / width as f64);
                (Some([width, height]).filter(|size| *size != made), made)
            }
            Some(SizeChoice::Aspect([width, height])) => {
                let positive = |number: f64| number > 0.0 && number.is_finite();
                if !positive(width) || !positive(height) {
                    return Err(RequestError::Aspect { width, height });
                }
                (None, bucket(height / width))
            }
        };
        let multiple = spec.size_multiple();
        let largest = LARGEST_SIDE / multiple * multiple;
        let fits = |side: usize| (1..=largest).contains(&side) && side.is_multiple_of(multiple);
        if fits(width) && fits(height) {
            return Ok((output_size, [width, height]));
        }
        let nearest = |side: usize| {
            let rounded = side.min(largest).saturating_add(multiple / 2) / multiple * multiple;
            rounded.clamp(multiple, largest.max(multiple))
        };
        Err(RequestError::Size {
            width,
            height,
            multiple,
            largest,
            nearest: [nearest(width), nearest(height)],
        })
    }

    /// Refuses guidance that needs more than one prediction.
    fn check_embedded_guidance(&self) -> Result<(), RequestError> {
        let options = [
            (
                self.perturbed_attention > 0.0 || self.perturbed_blocks.is_some(),
                "perturbed attention guidance",
            ),
            (self.projection.is_some(), "adaptive projected guidance"),
            (
                self.guidance_interval != GuidanceInterval::FULL,
                "a guidance interval",
            ),
        ];
        match options.into_iter().find(|(asked, _)| *asked) {
            Some((_, option)) => Err(RequestError::EmbeddedGuidance { option }),
            None => Ok(()),
        }
    }

    /// The blocks to perturb. Those that were asked for are checked in any case.
    fn checked_perturbed_blocks(
        &self,
        spec: &ModelSpec,
    ) -> Result<Option<PerturbedBlocks>, RequestError> {
        let config = &spec.transformer;
        let blocks = match &self.perturbed_blocks {
            Some(indices) => config.perturbed_blocks(indices.iter().copied())?,
            None => config.perturbed_blocks([config.default_perturbed_block()])?,
        };
        Ok((self.perturbed_attention > 0.0).then_some(blocks))
    }

    fn checked_schedule(&self, spec: &ModelSpec) -> Result<(Solver, Schedule), RequestError> {
        let scheduler = &spec.scheduler;
        let solver = self.solver.unwrap_or(scheduler.solver());
        scheduler.check_solver(solver)?;
        let Some(schedule) = &self.schedule else {
            let steps = self.steps.unwrap_or(spec.defaults().steps);
            let schedule = scheduler.named_schedule(solver, steps, self.shift, self.timesteps)?;
            return Ok((solver, schedule));
        };
        // A grid of the other kind is as wrong as a solver of the other kind.
        scheduler.check_solver(match schedule {
            Schedule::Flow(_) => Solver::FlowEuler,
            Schedule::Scm(_) => Solver::Scm,
        })?;
        Ok((solver, schedule.clone()))
    }

    /// How its prompts are encoded.
    fn prompt_options(&self, spec: &ModelSpec) -> PromptOptions {
        let own = &spec.prompt_options;
        PromptOptions {
            instruction: match &self.instruction {
                InstructionChoice::Checkpoint => own.instruction.clone(),
                InstructionChoice::None => None,
                InstructionChoice::Custom(instruction) => Some(instruction.clone()),
            },
            max_tokens: self.max_tokens.unwrap_or(own.max_tokens),
        }
    }
}
