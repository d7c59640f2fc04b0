//! All stages of a request, each measured.

use std::cell::Cell;

use burn::tensor::read_sync;
use sana_dcae::Tiling;

use super::TextConditioning;
use super::denoise::Encoded;
use super::image_to_image::Composite;
use crate::checkpoint::Component;
use crate::error::{ObserverError, PipelineError};
use crate::image::RgbImage;
use crate::memory::{StageMeter, StageReport};
use crate::pipeline::Plan;
use crate::pipeline::SanaPipeline;
use crate::pipeline::observer::{self, Deliver, StepAction, StepInfo};
use crate::request::{ControlImage, Request, Settings};

/// What [`SanaPipeline::generate`] made.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The images, those of a prompt one after the other.
    pub images: Vec<RgbImage>,
    /// The seed of each image.
    pub seeds: Vec<u64>,
    /// What each stage took.
    pub stages: Vec<StageReport>,
    /// Tokens cut off the end of each prompt because it was too long.
    pub dropped_tokens: Vec<usize>,
    /// Tokens cut off the end of each negative prompt because it was too long: one number where all
    /// prompts share it, none without classifier-free guidance.
    pub dropped_negative_tokens: Vec<usize>,
    /// Whether the observer ended the run early.
    pub stopped: bool,
}

/// One way from noise, or from images, to images.
#[derive(Clone, Copy)]
struct Pass<'a> {
    settings: &'a Settings,
    conditioning: &'a TextConditioning,
    tiling: Option<Tiling>,
    /// Names of the stages: control, encode, denoise and decode.
    names: [&'static str; 4],
}

impl SanaPipeline {
    /// Makes images: [`encode_prompt`](Self::encode_prompt), [`sample`](Self::sample) and
    /// [`decode`](Self::decode), each measured, and [`composite`](Self::composite). A control image
    /// and images to start from are encoded before, as stages of their own, so that the autoencoder
    /// is out of memory again where one stage runs at a time. With [`Request::hires`] the stages after the
    /// text run twice, with a 2 after their names the second time. `observe` sees every step and may end
    /// the run: with [`StepAction::Stop`] the images are decoded from the estimate of the clean
    /// latents that this step made.
    ///
    /// # Errors
    /// As the three stages, and [`PipelineError::Observer`]. The request is checked before anything is loaded, also against the
    /// memory there is: [`PipelineError::Memory`].
    pub fn generate<R>(
        &mut self,
        request: &Request,
        observe: &mut dyn FnMut(StepInfo<'_>) -> R,
    ) -> Result<Generation, PipelineError>
    where
        R: Into<Result<StepAction, ObserverError>>,
    {
        self.generate_each(request, observe, &mut |_, _| Ok(()))
    }

    /// [`generate`](Self::generate) that gives `deliver` each image, and its index, as soon as it is
    /// decoded, so that it can be kept before the others are there. An error of `deliver` ends the
    /// generation.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_each<R>(
        &mut self,
        request: &Request,
        observe: &mut dyn FnMut(StepInfo<'_>) -> R,
        deliver: &mut Deliver<'_>,
    ) -> Result<Generation, PipelineError>
    where
        R: Into<Result<StepAction, ObserverError>>,
    {
        let settings = request.validate(&self.spec)?;
        let plan = self.plan(settings)?;
        self.generate_plan(&plan, observe, deliver)
    }

    /// [`generate_each`](Self::generate_each) of a request that was [planned](Self::plan) by this
    /// pipeline.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_plan<R>(
        &mut self,
        plan: &Plan,
        observe: &mut dyn FnMut(StepInfo<'_>) -> R,
        deliver: &mut Deliver<'_>,
    ) -> Result<Generation, PipelineError>
    where
        R: Into<Result<StepAction, ObserverError>>,
    {
        let mut observe = async |step: StepInfo<'_>| observe(step);
        read_sync(self.generate_async(plan, &mut observe, deliver))
    }

    /// [`generate_plan`](Self::generate_plan) that does not block the thread where it waits for the
    /// device, for a browser, which does not let it: only there is a device of WebGPU. Other
    /// devices do as in [`generate_plan`](Self::generate_plan).
    ///
    /// In a browser, every step is waited for, so that `observe` is called when its step is done.
    /// The block of a network that gave a value which is not finite is not searched for, memory is
    /// not measured, and the seconds of stages are those in which they were queued.
    ///
    /// The future is not `Send`: it stays on the thread that made it. Dropped before its end, it leaves a
    /// pipeline that can be used again.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn generate_async<R>(
        &mut self,
        plan: &Plan,
        observe: &mut impl AsyncFnMut(StepInfo<'_>) -> R,
        deliver: &mut Deliver<'_>,
    ) -> Result<Generation, PipelineError>
    where
        R: Into<Result<StepAction, ObserverError>>,
    {
        let mut observe = async |step: StepInfo<'_>| observer::answer(observe(step).await);
        let made = self.generate_observed(plan, &mut observe, deliver).await;
        made.map_err(|error| {
            let mut scales = plan.settings().extreme_scales();
            scales.extend(self.networks.extreme_loras());
            error.of_scales(scales)
        })
    }

    async fn generate_observed(
        &mut self,
        plan: &Plan,
        observe: &mut impl AsyncFnMut(StepInfo<'_>) -> Result<StepAction, PipelineError>,
        deliver: &mut Deliver<'_>,
    ) -> Result<Generation, PipelineError> {
        self.one_stage_at_a_time = plan.one_stage;
        let (settings, tiling) = (plan.settings(), plan.tiling);
        let text_encoder = settings
            .inputs
            .embeddings
            .is_none()
            .then_some(Component::TextEncoder);
        let meter = self.start_stage(text_encoder)?;
        self.load_text(settings)?;
        let meter = self.loaded(meter)?;
        let conditioning = self.encode_texts(settings).await?;
        let text = self.end_stage("text", meter)?;
        let mut stages = vec![text];
        let stopped = Cell::new(false);
        let mut observe = async |step: StepInfo<'_>| -> Result<StepAction, PipelineError> {
            let action = observe(step).await?;
            if matches!(action, StepAction::Stop | StepAction::StopWith(_)) {
                stopped.set(true);
            }
            Ok(action)
        };
        let first = Pass {
            settings,
            conditioning: &conditioning,
            tiling,
            names: ["control", "encode", "denoise", "decode"],
        };
        let images = match &settings.larger {
            None => {
                self.pass(&first, &mut stages, &mut observe, deliver)
                    .await?
            }
            Some(larger) => {
                let keep = &mut |_, _: &_| Ok(());
                let small = self.pass(&first, &mut stages, &mut observe, keep).await?;
                if stopped.get() {
                    for (index, image) in small.iter().enumerate() {
                        observer::unwrapped(deliver(index, image))?;
                    }
                    small
                } else {
                    let mut larger = Settings::clone(larger);
                    larger.inputs.image_to_image.images = small.into();
                    let second = Pass {
                        settings: &larger,
                        names: ["control 2", "encode 2", "denoise 2", "decode 2"],
                        ..first
                    };
                    self.pass(&second, &mut stages, &mut observe, deliver)
                        .await?
                }
            }
        };
        Ok(Generation {
            images,
            seeds: settings.seeds(),
            stages,
            dropped_tokens: conditioning.dropped_tokens().to_vec(),
            dropped_negative_tokens: conditioning.dropped_negative_tokens().to_vec(),
            stopped: stopped.get(),
        })
    }

    /// From noise, or from the images of its settings, to images.
    async fn pass(
        &mut self,
        pass: &Pass<'_>,
        stages: &mut Vec<StageReport>,
        observe: &mut impl AsyncFnMut(StepInfo<'_>) -> Result<StepAction, PipelineError>,
        deliver: &mut Deliver<'_>,
    ) -> Result<Vec<RgbImage>, PipelineError> {
        let &Pass {
            settings,
            conditioning,
            tiling,
            names: [control, encode, denoise, decode],
        } = pass;
        let inputs = &settings.inputs;
        let mut encoded = Encoded {
            tiling,
            ..Encoded::default()
        };
        if settings.control.is_some_and(|control| control.is_active()) {
            let is_image = |control: &ControlImage| matches!(control, ControlImage::Image(_));
            let vae = inputs.control_images.iter().any(is_image);
            let vae = vae.then_some(Component::Vae);
            let meter = self.start_stage(vae)?;
            vae.map_or(Ok(()), |vae| self.load_for(vae))?;
            let meter = self.loaded(meter)?;
            encoded.control = self.encode_control_images(settings, tiling).await?;
            stages.push(self.end_stage(control, meter)?);
        }
        if settings.image_to_image.is_some() {
            let vae = inputs.image_to_image.latents.is_none();
            let vae = vae.then_some(Component::Vae);
            let meter = self.start_stage(vae)?;
            vae.map_or(Ok(()), |vae| self.load_for(vae))?;
            let meter = self.loaded(meter)?;
            encoded.known = self.encode_known(settings, tiling).await?;
            stages.push(self.end_stage(encode, meter)?);
        }
        let meter = self.start_stage(Some(Component::Transformer))?;
        self.load_for(Component::Transformer)?;
        self.networks
            .denoiser(encoded.control.is_some())
            .map(drop)?;
        let meter = self.loaded(meter)?;
        let latents = self
            .sample_encoded(settings, conditioning, &encoded, observe)
            .await?;
        stages.push(self.end_stage(denoise, meter)?);
        let composite = encoded.composite.get_or_init(|| Composite::new(settings));
        let mut index = 0;
        let mut finish = |image: RgbImage| {
            let image = match composite {
                Some(composite) => composite.apply_to(index, image),
                None => image,
            };
            observer::unwrapped(deliver(index, &image))?;
            index += 1;
            Ok(image)
        };
        let meter = self.start_stage(Some(Component::Vae))?;
        self.load_for(Component::Vae)?;
        let meter = self.loaded(meter)?;
        let images = self
            .decode_images(latents, tiling, settings.output_size, &mut finish)
            .await?;
        stages.push(self.end_stage(decode, meter)?);
        Ok(images)
    }

    /// Starts to measure a stage of this network. What the stage before leaves behind is dropped
    /// first, so that it does not count.
    fn start_stage(&mut self, part: Option<Component>) -> Result<StageMeter, PipelineError> {
        if let Some(part) = part {
            self.make_room_for(part)?;
        }
        Ok(StageMeter::start(&self.device))
    }

    /// To be called once the network of a stage is loaded.
    fn loaded(&self, meter: StageMeter) -> Result<Stage, PipelineError> {
        self.sync("loading weights")?;
        Ok(Stage {
            load_seconds: meter.seconds(),
            meter,
        })
    }

    fn end_stage(&self, name: &'static str, stage: Stage) -> Result<StageReport, PipelineError> {
        self.sync(name)?;
        Ok(stage.meter.finish(name, stage.load_seconds))
    }
}

/// A stage whose network is loaded.
struct Stage {
    meter: StageMeter,
    load_seconds: f64,
}
