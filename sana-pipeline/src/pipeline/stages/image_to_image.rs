//! Images to noised latents, and the known region kept on its path while the rest is drawn.

use burn::tensor::{Bool, DType, Tensor, TensorData};
use sana_dcae::Tiling;
use sana_sampler::{FlowSchedule, ScmSchedule, SigmaData, Step, flow, trigflow};

use super::all_finite;
use super::decode::memory_options;
use crate::checkpoint::Component;
use crate::error::{PipelineError, RequestError};
use crate::image::{RgbImage, blended, kept_cells, pixel_weights};
use crate::pipeline::{SanaPipeline, StepAction};
use crate::request::{Request, Settings};

/// The images that a run starts from, as latents.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Scaled, one for each image to make, f32.
    latents: Tensor<4>,
    /// Where they stay as they are, of the same shape; `None` without a mask.
    kept: Option<Tensor<4, Bool>>,
}

impl SanaPipeline {
    /// Encodes images into scaled latents, all of the batch at once.
    ///
    /// # Shapes
    /// - images `[batch, 3, height, width]` in [-1, 1]
    /// - output `[batch, channels, height / compression, width / compression]`
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the size is no multiple of the compression ratio.
    pub fn encode_tensor(&mut self, images: Tensor<4>) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Component::Vae)?;
        let memory = memory_options(self.tiling);
        let images = images.to_device(&self.device);
        Ok(self.networks.autoencoder()?.encode_with(images, &memory)?)
    }

    /// The latents of a request's images and its mask on their grid; `None` for a request without
    /// images. Images are encoded one by one in these tiles, each once, however many are made of it.
    pub(crate) async fn encode_known(
        &mut self,
        settings: &Settings,
        tiling: Option<Tiling>,
    ) -> Result<Option<Known>, PipelineError> {
        if settings.image_to_image.is_none() {
            return Ok(None);
        }
        let start = &settings.inputs.image_to_image;
        let latents = match &start.latents {
            Some(latents) => latents.clone().to_device(&self.device),
            None => {
                let images = start.fitted_images(settings.size());
                let encoded: Result<Vec<_>, PipelineError> = images
                    .map(|image| self.encode_image_in(&image, tiling))
                    .collect();
                Tensor::cat(encoded?, 0)
            }
        };
        let latents = latents.cast(DType::F32);
        if !all_finite(latents.clone()).await? {
            return Err(PipelineError::NotFinite {
                stage: "encode",
                place: None,
                dtype: self.autoencoder_dtype(),
            });
        }
        let shape = settings.latent_shape();
        let [images, channels, height, width] = shape;
        let rows = latents.dims()[0];
        let each =
            latents
                .unsqueeze_dim::<5>(1)
                .expand([rows, images / rows, channels, height, width]); // [rows, copies, c, h, w]
        let kept = start.mask.as_ref().map(|mask| {
            let kept = kept_cells(mask, self.spec.compression());
            let kept = TensorData::new(kept, [1, 1, height, width]);
            Tensor::<4, Bool>::from_data(kept, &self.device).expand(shape)
        });
        Ok(Some(Known {
            latents: each.reshape(shape),
            kept,
        }))
    }
}

impl SanaPipeline {
    /// Puts the known part of a request's image back into what was [decoded](Self::decode) for it,
    /// the last stage of inpainting: `weight generated + (1 - weight) image` with the weights that
    /// [`Request::mask`] describes. Without a mask the images stay as they are.
    ///
    /// # Errors
    /// When the request is not valid, or there is another number or size of images than it asks
    /// for.
    pub fn composite(
        &self,
        request: &Request,
        images: Vec<RgbImage>,
    ) -> Result<Vec<RgbImage>, PipelineError> {
        let settings = request.validate(&self.spec)?;
        match Composite::new(&settings) {
            Some(composite) => composite.apply(images),
            None => Ok(images),
        }
    }
}

/// The known part of the images of a run, in pixels.
pub(super) struct Composite {
    /// Of the generated image, pixel by pixel.
    weights: Vec<f32>,
    /// The given images at the size of the result.
    known: Vec<RgbImage>,
    /// `[width, height]` in pixels.
    size: [usize; 2],
    /// Images of the run.
    images: usize,
}

impl Composite {
    /// `None` without a mask.
    pub fn new(settings: &Settings) -> Option<Self> {
        let (start, size) = (&settings.inputs.image_to_image, settings.size());
        let feather = settings.image_to_image?.feather;
        Some(Self {
            weights: pixel_weights(start.mask.as_ref()?, feather),
            known: start.fitted_images(size).collect(),
            size,
            images: settings.images(),
        })
    }

    /// The generated images with the known part put back.
    pub fn apply(&self, images: Vec<RgbImage>) -> Result<Vec<RgbImage>, PipelineError> {
        let [width, height] = self.size;
        let size_of = |image: &RgbImage| <[u32; 2]>::from(image.dimensions()).map(|n| n as usize);
        let wrong = images.iter().map(size_of).find(|found| *found != self.size);
        if wrong.is_some() || images.len() != self.images {
            let [found_width, found_height] = wrong.unwrap_or(self.size);
            return Err(PipelineError::Request(RequestError::Shape {
                what: "the images to composite",
                expected: vec![self.images, 3, height, width],
                found: vec![images.len(), 3, found_height, found_width],
            }));
        }
        let images = images.into_iter().enumerate();
        Ok(images
            .map(|(index, image)| self.apply_to(index, image))
            .collect())
    }

    /// The image of this index of the run, of the right size, with the known part put back.
    pub fn apply_to(&self, index: usize, image: RgbImage) -> RgbImage {
        let each = self.images / self.known.len();
        blended(image, &self.known[index / each], &self.weights)
    }
}

impl Known {
    /// At the noise level `sigma` of a flow: `(1 - sigma) z + sigma noise`.
    pub fn at_level(&self, noise: Tensor<4>, sigma: f64) -> Result<Tensor<4>, PipelineError> {
        let sigmas = vec![sigma; noise.dims()[0]];
        Ok(flow::interpolate(self.latents.clone(), noise, &sigmas)?)
    }

    /// At a TrigFlow time: `sigma_data (cos(t) z + sin(t) noise)`.
    pub fn at_time(
        &self,
        noise: Tensor<4>,
        time: f64,
        sigma_data: SigmaData,
    ) -> Result<Tensor<4>, PipelineError> {
        let latents = self.latents.clone();
        Ok(trigflow::noised(latents, noise, time, sigma_data)?)
    }
}

/// How clean latents come to the noise level after a step.
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle; one path exists at a time"
)]
enum Path<'a> {
    /// On the straight line to the noise that the run began with, as the flow itself goes.
    Flow {
        schedule: &'a FlowSchedule,
        noise: Tensor<4>,
    },
    /// With the noise that the step has just added to all of the sample.
    Scm { schedule: &'a ScmSchedule },
}

/// Puts the known region back after every step, before the user's observer sees the step.
///
/// ```text
/// denoised <- z where the mask keeps it
/// latents  <- z at the next noise level there
/// ```
///
/// The estimate moves with the latents, so that a multistep solver extrapolates from the image
/// that is there. Latent blending: Avrahami et al., arXiv 2206.02779.
pub(super) struct Inpainting<'a>(Option<Region<'a>>);

struct Region<'a> {
    /// In the units of the solver.
    clean: Tensor<4>,
    kept: Tensor<4, Bool>,
    path: Path<'a>,
}

impl<'a> Inpainting<'a> {
    /// For a flow solver, with the noise of its initial sample.
    pub fn flow(known: Option<&Known>, schedule: &'a FlowSchedule, noise: Tensor<4>) -> Self {
        Self::new(known, 1.0, Path::Flow { schedule, noise })
    }

    /// For consistency sampling.
    pub fn scm(known: Option<&Known>, schedule: &'a ScmSchedule, sigma_data: SigmaData) -> Self {
        Self::new(known, sigma_data.value(), Path::Scm { schedule })
    }

    fn new(known: Option<&Known>, unit: f64, path: Path<'a>) -> Self {
        let region = known.and_then(|known| {
            Some(Region {
                clean: known.latents.clone().mul_scalar(unit),
                kept: known.kept.clone()?,
                path,
            })
        });
        Self(region)
    }

    /// What the solver is answered: the user's observer is asked about the blended step.
    pub async fn observe(
        &self,
        step: Step<4>,
        mut observe: impl AsyncFnMut(Step<4>) -> Result<StepAction, PipelineError>,
    ) -> Result<StepAction, PipelineError> {
        let Some(region) = &self.0 else {
            return observe(step).await;
        };
        let step = region.blended(step);
        let (latents, denoised) = (step.latents.clone(), step.denoised.clone());
        Ok(match observe(step).await? {
            StepAction::Continue => StepAction::ContinueWith { latents, denoised },
            StepAction::ContinueFrom(latents) => StepAction::ContinueWith { latents, denoised },
            StepAction::Stop => StepAction::StopWith(denoised),
            exchanged @ (StepAction::ContinueWith { .. } | StepAction::StopWith(_)) => exchanged,
        })
    }
}

impl Region<'_> {
    fn blended(&self, step: Step<4>) -> Step<4> {
        let kept = |drawn: Tensor<4>, known| drawn.mask_where(self.kept.clone(), known);
        let denoised = kept(step.denoised.clone(), self.clean.clone());
        let next = step.index + 1;
        let latents = match &self.path {
            Path::Flow { schedule, noise } => {
                let sigma = schedule.sigmas()[next];
                let known =
                    self.clean.clone().mul_scalar(1.0 - sigma) + noise.clone().mul_scalar(sigma);
                kept(step.latents, known)
            }
            // The time 0 has no noise: exactly the image.
            Path::Scm { schedule } if schedule.timesteps()[next] == 0.0 => denoised.clone(),
            Path::Scm { schedule } => {
                let cos = schedule.timesteps()[next].cos();
                let noise = step.latents.clone() - step.denoised.mul_scalar(cos);
                kept(step.latents, self.clean.clone().mul_scalar(cos) + noise)
            }
        };
        Step {
            latents,
            denoised,
            ..step
        }
    }
}
