//! Pictures to noised latents, and the known region kept on its path while the rest is drawn.

use burn::tensor::{Bool, DType, Tensor, TensorData};
use sana_dcae::MemoryOptions;
use sana_sampler::{FlowSchedule, ScmSchedule, SigmaData, flow, trigflow};

use super::all_finite;
use crate::checkpoint::Component;
use crate::error::PipelineError;
use crate::pipeline::observer::Observer;
use crate::pipeline::{SanaPipeline, StepAction, StepInfo};
use crate::request::kept_cells;
use crate::request::{Request, Settings};

/// The pictures that a run starts from, as latents.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// Scaled, one for each picture to make, f32.
    latents: Tensor<4>,
    /// Where they stay as they are, of the same shape; `None` without a mask.
    kept: Option<Tensor<4, Bool>>,
}

impl SanaPipeline {
    /// Encodes pictures into scaled latents, all of the batch at once.
    ///
    /// # Shapes
    /// - pictures `[batch, 3, height, width]` in [-1, 1]
    /// - output `[batch, channels, height / compression, width / compression]`
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the size is no multiple of the compression ratio.
    pub fn encode_tensor(&mut self, pictures: Tensor<4>) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Component::Vae)?;
        let memory = MemoryOptions {
            slice: None,
            tiling: self.tiling,
        };
        let pictures = pictures.to_device(&self.device);
        Ok(self.parts.autoencoder()?.encode_with(pictures, &memory)?)
    }

    /// The latents of a request's pictures and its mask on their grid; `None` for a request without
    /// pictures. Pictures are encoded one by one, each once, however many are made of it.
    pub(crate) fn encode_known(
        &mut self,
        request: &Request,
        settings: &Settings,
    ) -> Result<Option<Known>, PipelineError> {
        if settings.editing.is_none() {
            return Ok(None);
        }
        let size = [settings.width, settings.height];
        let latents = match &request.editing.latents {
            Some(latents) => latents.clone().to_device(&self.device),
            None => {
                let pictures = request.editing.fitted_images(size);
                let encoded: Result<Vec<_>, PipelineError> = pictures
                    .map(|picture| self.encode_image(&picture))
                    .collect();
                Tensor::cat(encoded?, 0)
            }
        };
        let latents = latents.cast(DType::F32);
        if !all_finite(latents.clone())? {
            return Err(PipelineError::NotFinite {
                stage: "encode",
                place: None,
                dtype: self.autoencoder_dtype(),
            });
        }
        let shape = self.latent_shape(settings);
        let [pictures, channels, height, width] = shape;
        let rows = latents.dims()[0];
        let each =
            latents
                .unsqueeze_dim::<5>(1)
                .expand([rows, pictures / rows, channels, height, width]); // [rows, copies, c, h, w]
        let kept = request.editing.fitted_mask(size).map(|mask| {
            let kept = kept_cells(&mask, self.compression());
            let kept = TensorData::new(kept, [1, 1, height, width]);
            Tensor::<4, Bool>::from_data(kept, &self.device).expand(shape)
        });
        Ok(Some(Known {
            latents: each.reshape(shape),
            kept,
        }))
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
/// The estimate moves with the latents, so that a multistep solver extrapolates from the picture
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
    pub fn observe(
        &self,
        step: StepInfo,
        observe: &mut Observer<'_>,
    ) -> Result<StepAction, PipelineError> {
        let Some(region) = &self.0 else {
            return observe(step);
        };
        let step = region.blended(step);
        let (latents, denoised) = (step.latents.clone(), step.denoised.clone());
        Ok(match observe(step)? {
            StepAction::Continue => StepAction::ContinueWith { latents, denoised },
            StepAction::ContinueFrom(latents) => StepAction::ContinueWith { latents, denoised },
            StepAction::Stop => StepAction::StopWith(denoised),
            exchanged @ (StepAction::ContinueWith { .. } | StepAction::StopWith(_)) => exchanged,
        })
    }
}

impl Region<'_> {
    fn blended(&self, step: StepInfo) -> StepInfo {
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
            // The time 0 has no noise: exactly the picture.
            Path::Scm { schedule } if schedule.timesteps()[next] == 0.0 => denoised.clone(),
            Path::Scm { schedule } => {
                let cos = schedule.timesteps()[next].cos();
                let noise = step.latents.clone() - step.denoised.mul_scalar(cos);
                kept(step.latents, self.clean.clone().mul_scalar(cos) + noise)
            }
        };
        StepInfo {
            latents,
            denoised,
            ..step
        }
    }
}
