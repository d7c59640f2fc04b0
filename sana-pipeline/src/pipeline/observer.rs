//! What an observer of the steps sees and answers.

use std::fmt;
use std::pin::Pin;

use burn::tensor::{Tensor, read_sync};
use sana_sampler::Step;

use crate::error::{ObserverError, PipelineError};
use crate::image::RgbImage;

/// What an observer sees after each step.
///
/// Latents are scaled, but those of consistency sampling (Sana-Sprint) are in units of `sigma_data`,
/// and so are those that an observer answers with.
#[non_exhaustive]
pub struct StepInfo<'a> {
    /// Number of this step, from 0.
    pub index: usize,
    /// Number of steps of the run.
    pub steps: usize,
    /// What the solver called the network with: the timestep in `[0, 1000]` of a flow
    /// solver, the TrigFlow time in `[0, pi / 2]` of consistency sampling.
    pub timestep: f64,
    /// The latents after the step.
    pub latents: Tensor<4>,
    /// The estimate of the clean latents that this step made.
    pub denoised: Tensor<4>,
    decoder: &'a mut (dyn PreviewDecoder + 'a),
}

/// Makes images of the estimate of a step.
pub(crate) trait PreviewDecoder {
    /// By the colours of latents.
    fn colors(&mut self, denoised: Tensor<4>) -> PreviewImages<'_>;

    /// By the autoencoder.
    fn decode(&mut self, denoised: Tensor<4>) -> PreviewImages<'_>;
}

/// The images of an estimate, which wait for the device.
pub(crate) type PreviewImages<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Vec<RgbImage>>, PipelineError>> + 'a>>;

impl<'a> StepInfo<'a> {
    pub(crate) fn new(step: Step<4>, decoder: &'a mut (dyn PreviewDecoder + 'a)) -> Self {
        let Step {
            index,
            steps,
            timestep,
            latents,
            denoised,
        } = step;
        Self {
            index,
            steps,
            timestep,
            latents,
            denoised,
            decoder,
        }
    }

    /// The [estimate](Self::denoised) of this step as small images, one pixel for each latent, by the
    /// [colours of latents](crate::preview::LatentRgb); [`enlarged`](crate::preview::enlarged)
    /// makes them larger. Next to [`decode_preview`](Self::decode_preview) it costs nothing: no
    /// network runs, and nothing is loaded. It waits for the device, which a step without previews
    /// does not. `None` for a model whose colours of latents are not known:
    /// [`SanaPipeline::latent_rgb`](crate::SanaPipeline::latent_rgb).
    ///
    /// ```no_run
    /// use sana_pipeline::{PipelineError, Request, SanaPipeline, StepAction, image, preview};
    ///
    /// fn generate(pipeline: &mut SanaPipeline, request: &Request) -> Result<(), PipelineError> {
    ///     pipeline.generate(request, &mut |mut step| {
    ///         for small in step.preview()?.unwrap_or_default() {
    ///             image::save_png("preview.png".as_ref(), &preview::enlarged(&small), &[])?;
    ///         }
    ///         Ok(StepAction::Continue)
    ///     })?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`PipelineError::Device`] when the latents cannot be read.
    pub fn preview(&mut self) -> Result<Option<Vec<RgbImage>>, PipelineError> {
        read_sync(self.preview_async())
    }

    /// [`preview`](Self::preview) for observers of
    /// [`generate_async`](crate::SanaPipeline::generate_async).
    ///
    /// # Errors
    /// As [`preview`](Self::preview).
    pub async fn preview_async(&mut self) -> Result<Option<Vec<RgbImage>>, PipelineError> {
        self.decoder.colors(self.denoised.clone()).await
    }

    /// Decodes the [estimate](Self::denoised) of this step: the images that
    /// [`generate`](crate::SanaPipeline::generate) returns where the observer answers
    /// [`StepAction::Stop`] now.
    ///
    /// The autoencoder is loaded at the first preview and stays. `None` where only one stage may be
    /// in memory at a time ([`MemoryPolicy`](crate::memory::MemoryPolicy)) and it is not there. A preview
    /// takes memory next to that of the denoising stage, which the
    /// [estimate](crate::SanaPipeline::memory_estimate) does not count.
    ///
    /// ```no_run
    /// use sana_pipeline::{PipelineError, Request, SanaPipeline, StepAction, image};
    ///
    /// fn generate(pipeline: &mut SanaPipeline, request: &Request) -> Result<(), PipelineError> {
    ///     pipeline.generate(request, &mut |mut step| {
    ///         if step.index % 5 == 4 {
    ///             for preview in step.decode_preview()?.unwrap_or_default() {
    ///                 image::save_png("preview.png".as_ref(), &preview, &[])?;
    ///             }
    ///         }
    ///         Ok(StepAction::Continue)
    ///     })?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded, or [`PipelineError::NotFinite`] when it gives values
    /// that are not finite.
    pub fn decode_preview(&mut self) -> Result<Option<Vec<RgbImage>>, PipelineError> {
        read_sync(self.decode_preview_async())
    }

    /// [`decode_preview`](Self::decode_preview) for observers of
    /// [`generate_async`](crate::SanaPipeline::generate_async).
    ///
    /// # Errors
    /// As [`decode_preview`](Self::decode_preview).
    pub async fn decode_preview_async(&mut self) -> Result<Option<Vec<RgbImage>>, PipelineError> {
        self.decoder.decode(self.denoised.clone()).await
    }
}

impl fmt::Debug for StepInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepInfo")
            .field("index", &self.index)
            .field("steps", &self.steps)
            .field("timestep", &self.timestep)
            .finish_non_exhaustive()
    }
}

/// What an observer answers, as it is or as the `Ok` of a `Result`: continue, stop with the estimate
/// of the clean latents, or continue from or stop with other latents.
pub type StepAction = sana_sampler::StepAction<4>;

/// Where an image goes once it is decoded.
pub(crate) type Deliver<'a> = dyn FnMut(usize, &RgbImage) -> Result<(), ObserverError> + 'a;

/// The observer's answer as the stages take it.
pub(crate) fn answer(
    answer: impl Into<Result<StepAction, ObserverError>>,
) -> Result<StepAction, PipelineError> {
    unwrapped(answer.into())
}

/// An error of ours that went through an observer as it was.
pub fn unwrapped<T>(result: Result<T, ObserverError>) -> Result<T, PipelineError> {
    result.map_err(|error| match error.downcast::<PipelineError>() {
        Ok(error) => *error,
        Err(error) => PipelineError::Observer(error),
    })
}
