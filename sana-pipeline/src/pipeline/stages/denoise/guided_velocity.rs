//! The transformer as the solvers call it.

use std::cell::{OnceCell, RefCell};

use burn::tensor::{Device, Tensor};
use sana_linear_attn::transformer::depth::BlockImportance;
use sana_linear_attn::transformer::{
    Place, Positions, Residuals, Sinusoids, TextContext, TransformerInput,
};
use sana_linear_attn::{SanaControlNet, SanaTransformer};
use sana_sampler::{ProjectedGuidance, perturbed_attention_guidance};
use sana_text::PromptEmbeds;

use crate::checkpoint::{Schedule, dtype};
use crate::error::PipelineError;
use crate::pipeline::blocking::may_block;
use crate::pipeline::stages::control::{ControlRun, StepResiduals};
use crate::pipeline::stages::finite::{Call, FiniteCheck, When};
use crate::pipeline::stages::text::{TextConditioning, trimmed};
use crate::request::Settings;

/// The transformer with everything that does not change between the steps of a run.
pub(super) struct Network<'a> {
    transformer: &'a SanaTransformer,
    settings: &'a Settings,
    device: &'a Device,
    conditioning: &'a TextConditioning,
    prompt: PromptEmbeds,
    /// Keys and values of the prompts alone, made at the first step that needs them.
    plain: OnceCell<TextContext>,
    /// Keys and values of `[negative, prompt]`, where some step has classifier-free guidance.
    guided: Option<TextContext>,
    control: Option<ControlRun<'a>>,
    projected: Option<ProjectedGuidance<4>>,
    /// The embedded guidance scale.
    embedded_guidance: Option<Sinusoids>,
    /// Positions of the tokens.
    positions: Option<Positions>,
    times: Times,
    check: FiniteCheck,
    /// What the blocks change is added to it.
    importance: Option<RefCell<&'a mut BlockImportance>>,
    /// Steps taken.
    pub step: usize,
}

/// The times that the network is called with in a run.
struct Times {
    values: Vec<f64>,
    /// Factor on them: the `timestep_scale` of a flow model.
    scale: f64,
    /// Of all steps, scaled, brought to the device once.
    features: Sinusoids,
}

/// What one forward pass gives.
struct Outputs {
    /// For the whole batch.
    all: Tensor<4>,
    /// For the prompts with perturbed attention, where that was asked for.
    perturbed: Option<Tensor<4>>,
}

/// The time and the embedded guidance scale, for every item of the batch.
struct Scalars {
    time: Sinusoids,
    guidance: Option<Sinusoids>,
}

/// What the network says at one step, each `[images, channels, height, width]`.
struct Predictions {
    /// For the negative prompts, with classifier-free guidance.
    negative: Option<Tensor<4>>,
    prompt: Tensor<4>,
    /// For the prompts with perturbed attention, where that guides.
    perturbed: Option<Tensor<4>>,
}

impl<'a> Network<'a> {
    /// For a run that calls the network at `times`, one for each step, and looks `when` whether
    /// its values are finite.
    pub fn new(
        transformer: &'a SanaTransformer,
        control: Option<(&'a SanaControlNet, Tensor<4>)>,
        settings: &'a Settings,
        conditioning: &'a TextConditioning,
        times: Vec<f64>,
        when: When,
        device: &'a Device,
    ) -> Result<Self, PipelineError> {
        let config = transformer.config();
        let timestep_scale = match settings.schedule {
            Schedule::Flow(_) => config.timestep_scale,
            Schedule::Scm(_) => 1.0,
        };
        let prompt = on_device(&conditioning.prompt, device).repeat_each(settings.count);
        let guided = match &conditioning.negative {
            Some(negative) if settings.classifier_free => {
                let rows = negative.embeds.dims()[0];
                let negative = on_device(negative, device);
                let negative = negative.repeat_each(settings.images() / rows);
                Some(PromptEmbeds::cat(vec![negative, prompt.clone()])?)
            }
            _ => None,
        };
        let [_, _, height, width] = settings.latent_shape();
        let control = control
            .zip(settings.control)
            .map(|((network, latents), control)| {
                let (prompt, guided) = (prompt.clone(), guided.clone());
                ControlRun::new(network, control, latents, settings, prompt, guided)
            });
        Ok(Self {
            transformer,
            settings,
            device,
            conditioning,
            prompt,
            plain: OnceCell::new(),
            guided: guided.map(|both| context(transformer, both)),
            control,
            projected: settings
                .projection
                .map(|options| ProjectedGuidance::new(settings.guidance.scale(), options)),
            embedded_guidance: config.guidance_embeds.then(|| {
                let scale = settings.guidance.scale() * config.guidance_embeds_scale;
                features(&[scale], 1.0, device)
            }),
            positions: transformer.positions([height, width], device),
            times: Times {
                features: features(&times, timestep_scale, device),
                values: times,
                scale: timestep_scale,
            },
            check: FiniteCheck::new(when),
            importance: None,
            step: 0,
        })
    }

    /// Adds what the blocks change in every forward pass to their importance.
    pub fn measuring(mut self, importance: Option<&'a mut BlockImportance>) -> Self {
        self.importance = importance.map(RefCell::new);
        self
    }

    /// The velocity at `time`, which is what the network is called with, and at the noise level
    /// `sigma` in [0, 1], which decides whether guidance applies.
    pub async fn predict(
        &mut self,
        latents: Tensor<4>,
        time: f64,
        sigma: f64,
    ) -> Result<Tensor<4>, PipelineError> {
        self.step += 1;
        let predictions = self.predictions(latents.clone(), time, sigma);
        let velocity = self.combined(latents.clone(), sigma, predictions);
        let call = Call {
            step: self.step,
            latents,
            time,
            sigma,
        };
        match self.check.look(velocity.clone(), call).await? {
            None => Ok(velocity),
            Some(call) => Err(self.not_finite(call)),
        }
    }

    /// To be called after the last step: looks at the predictions that were not looked at in their
    /// own step.
    pub async fn finish(&mut self) -> Result<(), PipelineError> {
        match self.check.first().await? {
            None => Ok(()),
            Some(call) => Err(self.not_finite(call)),
        }
    }

    /// The error of a call whose prediction is not finite; the call is run once more for the place.
    fn not_finite(&mut self, call: Call) -> PipelineError {
        let Call {
            step,
            latents,
            time,
            sigma,
        } = call;
        // What belongs to a step, such as its control, is that of this step again.
        self.step = step;
        PipelineError::StepNotFinite {
            step,
            steps: self.settings.steps(),
            timestep: time,
            place: may_block(self.device)
                .then(|| self.locate_non_finite(latents, time, sigma))
                .flatten(),
            dtype: dtype::name(self.transformer.compute_dtype()),
        }
    }

    /// The first part of the network that gives a value which is not finite, on the path with the
    /// network's own attention or else on the perturbed one.
    fn locate_non_finite(&self, latents: Tensor<4>, time: f64, sigma: f64) -> Option<Place> {
        let guidance = self.settings.guidance;
        let guided = self.guided.as_ref().filter(|_| guidance.applies(sigma));
        let captions: Vec<_> = [&self.conditioning.prompt]
            .into_iter()
            .chain(guided.and(self.conditioning.negative.as_ref()))
            .map(|embeds| embeds.embeds.clone().to_device(self.device))
            .collect();
        let locate = |latents: Tensor<4>, text: &TextContext, perturbed| {
            let scalars = self.scalars(time, latents.dims()[0]);
            let residuals = self.residuals(&latents, &scalars.time);
            let mut input = scalars.input(latents, text, residuals.input());
            input = input.with_positions(self.positions.as_ref());
            if let Some(blocks) = perturbed {
                input = input.with_perturbed(blocks, text);
            }
            self.transformer.locate_non_finite(input, &captions)
        };
        let (all, text) = match guided {
            Some(both) => (Tensor::cat(vec![latents.clone(), latents.clone()], 0), both),
            None => (latents.clone(), self.plain()),
        };
        locate(all, text, None).or_else(|| {
            let blocks = self.settings.perturbed_blocks.as_ref();
            let blocks = blocks.filter(|_| guidance.perturbs(sigma))?;
            locate(latents, self.plain(), Some(blocks))
        })
    }

    /// What the ControlNet adds at this step.
    fn residuals(&self, latents: &Tensor<4>, time: &Sinusoids) -> StepResiduals<'_> {
        match &self.control {
            Some(control) => control.residuals(self.step - 1, latents.clone(), time.clone()),
            None => StepResiduals::Ready(Vec::new()),
        }
    }

    fn scalars(&self, time: f64, batch: usize) -> Scalars {
        let index = self.step - 1;
        let time = match self.times.values.get(index) {
            Some(known) if *known == time => self.times.features.row(index, batch),
            _ => features(&[time], self.times.scale, self.device).row(0, batch),
        };
        let guidance = self.embedded_guidance.as_ref();
        Scalars {
            time,
            guidance: guidance.map(|scale| scale.row(0, batch)),
        }
    }

    /// The predictions that guidance needs at this noise level.
    fn predictions(&self, latents: Tensor<4>, time: f64, sigma: f64) -> Predictions {
        let guidance = self.settings.guidance;
        let guided = self.guided.as_ref().filter(|_| guidance.applies(sigma));
        let (latents, text) = match guided {
            Some(both) => (Tensor::cat(vec![latents.clone(), latents], 0), both),
            None => (latents, self.plain()),
        };
        let Outputs { all, perturbed } =
            self.forward(latents, time, text, guidance.perturbs(sigma));
        if guided.is_none() {
            return Predictions {
                negative: None,
                prompt: all,
                perturbed,
            };
        }
        let images = self.settings.images();
        Predictions {
            negative: Some(all.clone().narrow(0, 0, images)),
            prompt: all.narrow(0, images, images),
            perturbed,
        }
    }

    /// The guided velocity.
    fn combined(&mut self, latents: Tensor<4>, sigma: f64, predictions: Predictions) -> Tensor<4> {
        let guidance = self.settings.guidance;
        let prompt = predictions.prompt;
        let guided = match (predictions.negative, &mut self.projected) {
            (None, _) => prompt.clone(),
            (Some(negative), None) => guidance.combine(negative, prompt.clone()),
            (Some(negative), Some(projected)) => {
                projected.combine_velocities(latents, sigma, negative, prompt.clone())
            }
        };
        match predictions.perturbed {
            None => guided,
            Some(perturbed) => {
                let scale = guidance.perturbed_scale();
                perturbed_attention_guidance(guided, prompt, perturbed, scale)
            }
        }
    }

    /// Keys and values of the prompts alone.
    fn plain(&self) -> &TextContext {
        self.plain.get_or_init(|| match &self.guided {
            Some(both) => {
                let images = self.settings.images();
                both.items(images..2 * images)
            }
            None => context(self.transformer, self.prompt.clone()),
        })
    }

    fn forward(
        &self,
        latents: Tensor<4>,
        time: f64,
        text: &TextContext,
        perturbs: bool,
    ) -> Outputs {
        let [batch, channels, _, _] = latents.dims();
        // A learned variance, in the second half of the channels, has no use in a flow.
        let velocity = |output: Tensor<4>| match output.dims()[1] {
            outputs if outputs > channels => output.narrow(1, 0, channels),
            _ => output,
        };
        let scalars = self.scalars(time, batch);
        let residuals = self.residuals(&latents, &scalars.time);
        let mut input = scalars.input(latents, text, residuals.input());
        input = input.with_positions(self.positions.as_ref());
        let blocks = self.settings.perturbed_blocks.as_ref();
        if let Some(blocks) = blocks.filter(|_| perturbs) {
            input = input.with_perturbed(blocks, self.plain());
        }
        let output = match &self.importance {
            None => self.transformer.forward(input),
            Some(importance) => {
                let mut importance = importance.borrow_mut();
                let mut look = |place: Place, values: &Tensor<3>| importance.observe(place, values);
                self.transformer.forward(input.with_observer(&mut look))
            }
        };
        Outputs {
            all: velocity(output.velocity),
            perturbed: output.perturbed.map(velocity),
        }
    }
}

impl Scalars {
    fn input<'a>(
        self,
        latents: Tensor<4>,
        text: &'a TextContext,
        residuals: Residuals<'a>,
    ) -> TransformerInput<'a> {
        let input = TransformerInput {
            residuals,
            ..TransformerInput::new(latents, self.time, text)
        };
        match self.guidance {
            Some(guidance) => input.with_guidance(guidance),
            None => input,
        }
    }
}

/// What the network is given of numbers times a factor.
fn features(values: &[f64], factor: f64, device: &Device) -> Sinusoids {
    let values: Vec<f32> = values.iter().map(|value| (value * factor) as f32).collect();
    Sinusoids::new(&values, device)
}

/// Embeddings that may have been made elsewhere.
fn on_device(embeds: &PromptEmbeds, device: &Device) -> PromptEmbeds {
    let mut embeds = embeds.clone();
    embeds.embeds = embeds.embeds.to_device(device);
    embeds.mask = embeds.mask.to_device(device);
    embeds
}

/// Keys and values of prompts, the padding after the longest one left out, which the mask makes
/// exact.
fn context(transformer: &SanaTransformer, embeds: PromptEmbeds) -> TextContext {
    let (caption, mask) = trimmed(embeds);
    transformer.text_context(caption, mask)
}
