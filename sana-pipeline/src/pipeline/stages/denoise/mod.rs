//! Noise to latents.

mod guided_velocity;
mod preview;

use std::cell::OnceCell;

use burn::tensor::{DType, Device, Tensor, read_sync};
use sana_dcae::Tiling;
use sana_sampler::trigflow::TrigFlow;
use sana_sampler::{Step, dpm_solver_async, flow_euler_async, noise, scm_async, trigflow};

use self::guided_velocity::Network;
use self::preview::Preview;
use super::TextConditioning;
use super::finite::When;
use super::image_to_image::{Composite, Inpainting, Known};
use crate::checkpoint::Component;
use crate::checkpoint::{Schedule, Scheduler, Solver};
use crate::error::{ObserverError, PipelineError, RequestError};
use crate::pipeline::networks::Denoiser;
use crate::pipeline::observer;
use crate::pipeline::{SanaPipeline, StepAction, StepInfo};
use crate::request::{Request, Settings};

/// The images of a request as latents, and how they are decoded again.
#[derive(Default)]
pub(crate) struct Encoded {
    /// What [`SanaPipeline::encode_control`] gave.
    pub control: Option<Tensor<4>>,
    /// What the run starts from.
    pub known: Option<Known>,
    /// Tiles in which previews are decoded.
    pub tiling: Option<Tiling>,
    /// What of the given images goes over the decoded ones, once it is needed.
    pub(super) composite: OnceCell<Option<Composite>>,
}

impl SanaPipeline {
    /// Denoises: from noise, or from the request's latents, to scaled latents of the images.
    /// `observe` sees every step and may end the run or exchange the latents.
    ///
    /// In image-to-image the request's images are encoded first, and noised to the level that the
    /// strength names. With a mask, latents of the region that stays are put back after every step,
    /// before `observe` sees it; [`composite`](Self::composite) does the same in pixels.
    ///
    /// The keys and values of the text are computed once. With classifier-free guidance the
    /// network runs on `[negative, prompt]` as one batch, and perturbed attention branches off it
    /// at the first perturbed block.
    ///
    /// On a GPU nothing waits for the device before the last step: steps are queued faster than they
    /// are computed, `observe` is called as they are queued, and whether predictions are finite is
    /// looked at after the last one. An observer that reads values waits for them.
    ///
    /// # Shapes
    /// - output `[prompts * count, channels, height / compression, width / compression]`, f32
    ///
    /// # Errors
    /// When the request is not valid or does not fit the conditioning, the transformer cannot be
    /// loaded, as [`encode_control`](Self::encode_control), or [`PipelineError::StepNotFinite`] when a
    /// step gives values that are not finite;
    /// [`PipelineError::Observer`].
    pub fn sample<R>(
        &mut self,
        request: &Request,
        conditioning: &TextConditioning,
        observe: &mut dyn FnMut(StepInfo<'_>) -> R,
    ) -> Result<Tensor<4>, PipelineError>
    where
        R: Into<Result<StepAction, ObserverError>>,
    {
        let settings = &request.validate(&self.spec)?;
        let encoded = Encoded {
            control: read_sync(self.encode_control_images(settings, self.tiling))?,
            known: read_sync(self.encode_known(settings, self.tiling))?,
            tiling: self.tiling,
            composite: OnceCell::new(),
        };
        let observe = &mut async |step: StepInfo<'_>| observer::answer(observe(step));
        read_sync(self.sample_encoded(settings, conditioning, &encoded, observe))
    }

    /// [`sample`](Self::sample) with the request's images encoded.
    pub(crate) async fn sample_encoded(
        &mut self,
        settings: &Settings,
        conditioning: &TextConditioning,
        encoded: &Encoded,
        observe: &mut impl AsyncFnMut(StepInfo<'_>) -> Result<StepAction, PipelineError>,
    ) -> Result<Tensor<4>, PipelineError> {
        let when = When::on(&self.device);
        self.sample_looking(when, settings, conditioning, encoded, observe)
            .await
    }

    /// [`sample_encoded`](Self::sample_encoded), looking `when` whether predictions are finite.
    pub(super) async fn sample_looking(
        &mut self,
        when: When,
        settings: &Settings,
        conditioning: &TextConditioning,
        encoded: &Encoded,
        observe: &mut impl AsyncFnMut(StepInfo<'_>) -> Result<StepAction, PipelineError>,
    ) -> Result<Tensor<4>, PipelineError> {
        settings.check_conditioning(&conditioning.prompt, conditioning.negative.as_ref())?;
        let Encoded {
            control,
            known,
            tiling,
            composite,
        } = encoded;
        let known = known.as_ref();
        let (scheduler, device) = (self.spec.scheduler, self.device.clone());
        let shape = settings.latent_shape();
        let initial = match &settings.inputs.latents {
            Some(latents) => latents.clone().to_device(&device).cast(DType::F32),
            None => seeded_noise(settings, noise::Stream::Initial, shape, &device),
        };
        let step_noise = |index: usize| match &settings.inputs.step_noise {
            Some(noise) => noise[index].clone().to_device(&device),
            None => {
                let stream = noise::Stream::Step(index as u32);
                seeded_noise(settings, stream, shape, &device)
            }
        };
        self.load_for(Component::Transformer)?;
        let may_load = !self.one_stage_at_a_time;
        let Denoiser {
            transformer,
            controlnet,
            autoencoder,
        } = self.networks.denoiser(control.is_some())?;
        let mut preview = Preview {
            autoencoder,
            may_load,
            tiling: *tiling,
            settings,
            unit: match &scheduler {
                Scheduler::Scm { sigma_data } => sigma_data.value(),
                _ => 1.0,
            },
            composite,
            latent_rgb: self.latent_rgb.as_ref(),
        };
        let mut observe = async |step: Step<4>| observe(StepInfo::new(step, &mut preview)).await;
        let control = controlnet.zip(control.clone());
        let times = network_times(settings, &scheduler)?;
        let network = Network::new(
            transformer,
            control,
            settings,
            conditioning,
            times,
            when,
            &device,
        )?;
        let mut network = network.measuring(self.importance.as_mut());
        match (&settings.schedule, &scheduler) {
            (Schedule::Scm(schedule), Scheduler::Scm { sigma_data }) => {
                let initial = match known {
                    Some(known) => known.at_time(initial, schedule.timesteps()[0], *sigma_data)?,
                    None => initial.mul_scalar(sigma_data.value()),
                };
                let inpainting = Inpainting::scm(known, schedule, *sigma_data);
                let observe = async |step| inpainting.observe(step, &mut observe).await;
                let predict = trigflow::from_flow_async(*sigma_data, async |x, time| {
                    network.predict(x, time, time).await
                });
                let noise = |index| Ok(step_noise(index));
                let denoised =
                    scm_async(schedule, *sigma_data, initial, predict, noise, observe).await?;
                network.finish().await?;
                Ok(denoised.div_scalar(sigma_data.value()))
            }
            (Schedule::Flow(schedule), _) => {
                let predict = async |x, time| {
                    let sigma = schedule.sigmas()[network.step];
                    network.predict(x, time, sigma).await
                };
                let inpainting = Inpainting::flow(known, schedule, initial.clone());
                let initial = match known {
                    Some(known) => known.at_level(initial, schedule.sigmas()[0])?,
                    None => initial,
                };
                let observe = async |step| inpainting.observe(step, &mut observe).await;
                let latents = match settings.solver {
                    Solver::FlowDpm { order } => {
                        let options = scheduler.dpm_options(order);
                        dpm_solver_async(schedule, &options, initial, predict, observe).await
                    }
                    _ => flow_euler_async(schedule, initial, predict, observe).await,
                }?;
                network.finish().await?;
                Ok(latents)
            }
            (Schedule::Scm(_), _) => Err(mismatch(settings)),
        }
    }
}

/// The times that the network is called with, one for each step.
fn network_times(settings: &Settings, scheduler: &Scheduler) -> Result<Vec<f64>, PipelineError> {
    match (&settings.schedule, scheduler) {
        (Schedule::Scm(schedule), Scheduler::Scm { sigma_data }) => {
            let times = schedule
                .timesteps()
                .split_last()
                .map_or(&[][..], |(_, t)| t);
            let flow_time = |time: &f64| TrigFlow::at(*time, *sigma_data).flow_timestep();
            Ok(times.iter().map(flow_time).collect())
        }
        (Schedule::Flow(schedule), _) => Ok(schedule.timesteps().to_vec()),
        (Schedule::Scm(_), _) => Err(mismatch(settings)),
    }
}

fn mismatch(settings: &Settings) -> PipelineError {
    PipelineError::Request(RequestError::SolverMismatch {
        solver: settings.solver.to_string(),
        expected: "flow-dpm or flow-euler",
    })
}

/// Unit normal noise, every image from its own seed.
fn seeded_noise(
    settings: &Settings,
    stream: noise::Stream,
    shape: [usize; 4],
    device: &Device,
) -> Tensor<4> {
    let [_, channels, height, width] = shape;
    let images = settings
        .seeds()
        .into_iter()
        .map(|seed| noise::batch(seed, 0, stream, [1, channels, height, width], device))
        .collect();
    Tensor::cat(images, 0)
}
