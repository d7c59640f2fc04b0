//! All stages of a request, each measured.

use std::cell::Cell;

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
use crate::pipeline::observer::{self, Deliver, Observer, StepAction, StepInfo};
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
        let mut observe = |step: StepInfo<'_>| observer::answer(observe(step));
        let made = self.generate_observed(plan, &mut observe, deliver);
        made.map_err(|error| {
            let mut scales = plan.settings().extreme_scales();
            scales.extend(self.networks.extreme_loras());
            error.of_scales(scales)
        })
    }

    fn generate_observed(
        &mut self,
        plan: &Plan,
        observe: &mut Observer<'_>,
        deliver: &mut Deliver<'_>,
    ) -> Result<Generation, PipelineError> {
        self.one_stage_at_a_time = plan.one_stage;
        let (settings, tiling) = (plan.settings(), plan.tiling);
        let text_encoder = settings
            .inputs
            .embeddings
            .is_none()
            .then_some(Component::TextEncoder);
        let (conditioning, text) = self.measured(
            "text",
            text_encoder,
            |this| this.load_text(settings),
            |this| this.encode_texts(settings),
        )?;
        let mut stages = vec![text];
        let stopped = Cell::new(false);
        let mut observe = |step: StepInfo<'_>| {
            let action = observe(step)?;
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
            None => self.pass(&first, &mut stages, &mut observe, deliver)?,
            Some(larger) => {
                let keep = &mut |_, _: &_| Ok(());
                let small = self.pass(&first, &mut stages, &mut observe, keep)?;
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
                    self.pass(&second, &mut stages, &mut observe, deliver)?
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
    fn pass(
        &mut self,
        pass: &Pass<'_>,
        stages: &mut Vec<StageReport>,
        observe: &mut Observer<'_>,
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
            let (latents, stage) = self.measured(
                control,
                vae,
                |this| vae.map_or(Ok(()), |vae| this.load_for(vae)),
                |this| this.encode_control_images(settings, tiling),
            )?;
            stages.push(stage);
            encoded.control = latents;
        }
        if settings.image_to_image.is_some() {
            let vae = inputs.image_to_image.latents.is_none();
            let vae = vae.then_some(Component::Vae);
            let (known, stage) = self.measured(
                encode,
                vae,
                |this| vae.map_or(Ok(()), |vae| this.load_for(vae)),
                |this| this.encode_known(settings, tiling),
            )?;
            stages.push(stage);
            encoded.known = known;
        }
        let (latents, stage) = self.measured(
            denoise,
            Some(Component::Transformer),
            |this| {
                this.load_for(Component::Transformer)?;
                this.networks.denoiser(encoded.control.is_some()).map(drop)
            },
            |this| this.sample_encoded(settings, conditioning, &encoded, observe),
        )?;
        stages.push(stage);
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
        let (images, stage) = self.measured(
            decode,
            Some(Component::Vae),
            |this| this.load_for(Component::Vae),
            |this| this.decode_images(latents, tiling, settings.output_size, &mut finish),
        )?;
        stages.push(stage);
        Ok(images)
    }

    /// Runs one stage after loading what it needs, and measures both. What the stage before leaves
    /// behind is dropped first, so that it does not count.
    fn measured<T>(
        &mut self,
        name: &'static str,
        part: Option<Component>,
        load: impl FnOnce(&mut Self) -> Result<(), PipelineError>,
        run: impl FnOnce(&mut Self) -> Result<T, PipelineError>,
    ) -> Result<(T, StageReport), PipelineError> {
        if let Some(part) = part {
            self.make_room_for(part)?;
        }
        let meter = StageMeter::start(&self.device);
        load(self)?;
        self.sync("loading weights")?;
        let load_seconds = meter.seconds();
        let result = run(self)?;
        self.sync(name)?;
        Ok((result, meter.finish(name, load_seconds)))
    }
}
