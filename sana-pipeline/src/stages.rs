//! The three stages: prompts to embeddings, noise to latents, latents to pictures.

use std::cell::OnceCell;

use burn::tensor::{DType, Device, Tensor, TensorData};
use sana_dcae::MemoryOptions;
use sana_linear_attn::SanaTransformer;
use sana_linear_attn::transformer::{PerturbedOutput, TextContext};
use sana_sampler::{
    ProjectedGuidance, Step, dpm_solver, flow_euler, noise, perturbed_attention_guidance, scm,
    trigflow,
};
use sana_text::encoder::encode_tokens;
use sana_text::{PromptEmbeds, PromptOptions};

use crate::checkpoint::Part;
use crate::dtype;
use crate::error::PipelineError;
use crate::image::{self, RgbImage};
use crate::pipeline::SanaPipeline;
use crate::request::{InstructionChoice, Request, Settings};
use crate::scheduler::{Schedule, Scheduler, Solver};

/// What an observer sees after each step: its number, the network's time, the latents and the
/// estimate of the clean latents. Latents are scaled, but those of consistency sampling are in
/// units of `sigma_data`.
pub type StepInfo = Step<4>;
/// What an observer answers: go on, stop, or go on from other latents.
pub type Control = sana_sampler::Control<4>;

/// Pixels that are decoded at a time, so that a batch of large pictures needs no more memory than
/// one of them: one picture of 1024 x 1024.
const DECODED_PIXELS: usize = 1 << 20;

/// The prompts as the transformer attends to them.
#[derive(Debug, Clone)]
pub struct TextConditioning {
    /// A row for each prompt.
    pub prompt: PromptEmbeds,
    /// The negative prompts, one row for all or one for each prompt. `None` when the request has
    /// no classifier-free guidance.
    pub negative: Option<PromptEmbeds>,
}

impl TextConditioning {
    /// Tokens cut off the end of each prompt because it was too long.
    pub fn dropped_tokens(&self) -> &[usize] {
        &self.prompt.dropped_tokens
    }

    /// Tokens cut off the end of each negative prompt because it was too long; none without
    /// negative prompts.
    pub fn dropped_negative_tokens(&self) -> &[usize] {
        match &self.negative {
            Some(negative) => &negative.dropped_tokens,
            None => &[],
        }
    }
}

impl SanaPipeline {
    /// Encodes the prompts of a request, and its negative prompts where guidance needs them. With
    /// ready embeddings it only checks and passes them on.
    ///
    /// # Shapes
    /// - embeddings `[prompts, max_tokens, caption_channels]`, masks `[prompts, max_tokens]`
    ///
    /// # Errors
    /// When the request is not valid, the text encoder cannot be loaded, or it gives values that
    /// are not finite.
    pub fn encode_prompt(&mut self, request: &Request) -> Result<TextConditioning, PipelineError> {
        let settings = request.validate(self)?;
        if let Some((prompt, negative)) = request.embeddings.clone() {
            return Ok(TextConditioning {
                prompt,
                negative: negative.filter(|_| settings.classifier_free),
            });
        }
        self.load_text(request)?;
        let options = self.request_prompt_options(request);
        let tokenizer = self.parts.tokenizer(&options)?;
        let prompts = tokenizer.tokenize(&request.prompts)?;
        let negatives = match (settings.classifier_free, request.negatives.as_slice()) {
            (false, _) => None,
            (true, []) => Some(tokenizer.tokenize_negative(&[""])?),
            (true, texts) => Some(tokenizer.tokenize_negative(texts)?),
        };
        let model = self.parts.text_encoder()?;
        let dtype = dtype::name(model.dtype());
        let encode = |tokens| -> Result<PromptEmbeds, PipelineError> {
            let embeds = encode_tokens(model, tokens)?;
            if all_finite(embeds.embeds.clone())? {
                return Ok(embeds);
            }
            Err(PipelineError::NotFinite {
                stage: "text",
                dtype: dtype.clone(),
            })
        };
        Ok(TextConditioning {
            prompt: encode(&prompts)?,
            negative: negatives.as_ref().map(encode).transpose()?,
        })
    }

    /// Loads what [`encode_prompt`](Self::encode_prompt) needs.
    pub(crate) fn load_text(&mut self, request: &Request) -> Result<(), PipelineError> {
        if request.embeddings.is_some() {
            return Ok(());
        }
        let options = self.request_prompt_options(request);
        self.parts.tokenizer(&options)?;
        self.load_for(Part::TextEncoder)
    }

    fn request_prompt_options(&self, request: &Request) -> PromptOptions {
        let own = self.prompt_options();
        PromptOptions {
            instruction: match &request.instruction {
                InstructionChoice::Checkpoint => own.instruction.clone(),
                InstructionChoice::None => None,
                InstructionChoice::Custom(instruction) => Some(instruction.clone()),
            },
            max_tokens: request.max_tokens.unwrap_or(own.max_tokens),
        }
    }

    /// Denoises: from noise, or from the request's latents, to scaled latents of the pictures.
    /// `observe` sees every step and may end the run or exchange the latents.
    ///
    /// The keys and values of the text are computed once. With classifier-free guidance the
    /// network runs on `[negative, prompt]` as one batch, and perturbed attention branches off it
    /// at the first perturbed block.
    ///
    /// # Shapes
    /// - output `[prompts * count, channels, height / compression, width / compression]`, f32
    ///
    /// # Errors
    /// When the request is not valid or does not fit the conditioning, the transformer cannot be
    /// loaded, or [`PipelineError::StepNotFinite`] when a step gives values that are not finite.
    pub fn sample(
        &mut self,
        request: &Request,
        conditioning: &TextConditioning,
        observe: &mut dyn FnMut(StepInfo) -> Control,
    ) -> Result<Tensor<4>, PipelineError> {
        let settings = request.validate(self)?;
        self.check_conditioning(
            &settings,
            &conditioning.prompt,
            conditioning.negative.as_ref(),
        )?;
        let (scheduler, device) = (*self.scheduler(), self.device.clone());
        let shape = self.latent_shape(&settings);
        let initial = match &request.latents {
            Some(latents) => latents.clone().to_device(&device).cast(DType::F32),
            None => seeded_noise(&settings, noise::Stream::Initial, shape, &device),
        };
        let step_noise = |index: usize| match &request.step_noise {
            Some(noise) => noise[index].clone().to_device(&device),
            None => {
                let stream = noise::Stream::Step(index as u32);
                seeded_noise(&settings, stream, shape, &device)
            }
        };
        self.load_for(Part::Transformer)?;
        let transformer = self.parts.transformer()?;
        let mut network = Network::new(transformer, &settings, conditioning, &device)?;
        match (&settings.schedule, &scheduler) {
            (Schedule::Scm(schedule), Scheduler::Scm { sigma_data }) => {
                let initial = initial.mul_scalar(sigma_data.value());
                let predict =
                    trigflow::from_flow(*sigma_data, |x, time| network.predict(x, time, time));
                let noise = |index| Ok(step_noise(index));
                let denoised = scm(schedule, *sigma_data, initial, predict, noise, observe)?;
                Ok(denoised.div_scalar(sigma_data.value()))
            }
            (Schedule::Flow(schedule), _) => {
                let predict = |x, time| {
                    let sigma = schedule.sigmas()[network.step];
                    network.predict(x, time, sigma)
                };
                match settings.solver {
                    Solver::FlowDpm { order } => {
                        let options = scheduler.dpm_options(order);
                        dpm_solver(schedule, &options, initial, predict, observe)
                    }
                    _ => flow_euler(schedule, initial, predict, observe),
                }
            }
            (Schedule::Scm(_), _) => Err(PipelineError::SolverMismatch {
                solver: settings.solver.to_string(),
                expected: "flow-dpm or flow-euler",
            }),
        }
    }

    /// `[pictures, channels, height, width]` of the latents of a request.
    pub fn latent_shape(&self, settings: &Settings) -> [usize; 4] {
        let compression = self.compression();
        [
            settings.pictures(),
            self.transformer_config().in_channels,
            settings.height / compression,
            settings.width / compression,
        ]
    }

    /// Checks embeddings against a request and the transformer.
    pub(crate) fn check_conditioning(
        &self,
        settings: &Settings,
        prompt: &PromptEmbeds,
        negative: Option<&PromptEmbeds>,
    ) -> Result<(), PipelineError> {
        let channels = self.transformer_config().caption_channels;
        let check = |what: &'static str, embeds: &PromptEmbeds, rows: &[usize]| {
            let [found_rows, tokens, found] = embeds.embeds.dims();
            if rows.contains(&found_rows) && found == channels {
                return Ok(());
            }
            Err(PipelineError::Shape {
                what,
                expected: vec![settings.prompts, tokens, channels],
                found: vec![found_rows, tokens, found],
            })
        };
        check("the prompt embeddings", prompt, &[settings.prompts])?;
        match negative {
            Some(negative) => check("the negative embeddings", negative, &[settings.prompts, 1]),
            None if settings.classifier_free => Err(PipelineError::NoNegative {
                guidance: settings.guidance.scale(),
            }),
            None => Ok(()),
        }
    }

    /// Decodes scaled latents into pictures of eight bits a channel.
    ///
    /// # Shapes
    /// - latents `[batch, channels, height, width]`
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the latents do not fit it;
    /// [`PipelineError::NotFinite`] when it gives values that are not finite.
    pub fn decode(&mut self, latents: Tensor<4>) -> Result<Vec<RgbImage>, PipelineError> {
        let [_, _, height, width] = latents.dims();
        let pixels = height * width * self.compression() * self.compression();
        let pictures = (DECODED_PIXELS / pixels.max(1)).max(1);
        let mut images = Vec::new();
        for latents in latents.split(pictures, 0) {
            let decoded = self.decode_tensor(latents)?;
            images.extend(image::from_tensor(decoded).map_err(|error| match error {
                PipelineError::NotFinite { stage, .. } => PipelineError::NotFinite {
                    stage,
                    dtype: self.autoencoder_dtype(),
                },
                other => other,
            })?);
        }
        Ok(images)
    }

    /// Decodes scaled latents into pictures as the autoencoder gives them, all of the batch at
    /// once.
    ///
    /// # Shapes
    /// - latents `[batch, channels, height, width]`
    /// - output `[batch, 3, height * compression, width * compression]`, about [-1, 1], f32
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the latents do not fit it.
    pub fn decode_tensor(&mut self, latents: Tensor<4>) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Part::Vae)?;
        let memory = MemoryOptions {
            slice: None,
            tiling: self.tiling,
        };
        Ok(self.parts.autoencoder()?.decode_with(latents, &memory)?)
    }

    /// Encodes a picture into scaled latents.
    ///
    /// # Shapes
    /// - output `[1, channels, height / compression, width / compression]`, f32
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded or the size is no multiple of the compression ratio.
    pub fn encode_image(&mut self, picture: &RgbImage) -> Result<Tensor<4>, PipelineError> {
        self.load_for(Part::Vae)?;
        let memory = MemoryOptions {
            slice: None,
            tiling: self.tiling,
        };
        let picture = image::to_tensor(picture, &self.device);
        Ok(self.parts.autoencoder()?.encode_with(picture, &memory)?)
    }

    fn autoencoder_dtype(&mut self) -> String {
        self.parts.autoencoder().map_or_else(
            |_| "f32".to_owned(),
            |model| dtype::name(model.decoder.dtype()),
        )
    }
}

/// Unit normal noise, picture `i` from its own seed `seed + i`.
fn seeded_noise(
    settings: &Settings,
    stream: noise::Stream,
    shape: [usize; 4],
    device: &Device,
) -> Tensor<4> {
    let [_, channels, height, width] = shape;
    let pictures = settings
        .seeds()
        .into_iter()
        .map(|seed| noise::batch(seed, 0, stream, [1, channels, height, width], device))
        .collect();
    Tensor::cat(pictures, 0)
}

/// The transformer with everything that does not change between the steps of a run.
struct Network<'a> {
    transformer: &'a SanaTransformer,
    settings: &'a Settings,
    device: &'a Device,
    prompt: PromptEmbeds,
    /// Keys and values of the prompts alone, made at the first step that needs them.
    plain: OnceCell<TextContext>,
    /// Keys and values of `[negative, prompt]`, where some step has classifier-free guidance.
    guided: Option<TextContext>,
    projected: Option<ProjectedGuidance<4>>,
    embedded_guidance: Option<f64>,
    /// Steps taken.
    step: usize,
}

/// What one run of the network gives.
struct Outputs {
    /// For the whole batch.
    all: Tensor<4>,
    /// For the prompts with perturbed attention, where that was asked for.
    perturbed: Option<Tensor<4>>,
}

/// What the network says at one step, each `[pictures, channels, height, width]`.
struct Predictions {
    /// For the negative prompts, with classifier-free guidance.
    negative: Option<Tensor<4>>,
    prompt: Tensor<4>,
    /// For the prompts with perturbed attention, where that guides.
    perturbed: Option<Tensor<4>>,
}

impl<'a> Network<'a> {
    fn new(
        transformer: &'a SanaTransformer,
        settings: &'a Settings,
        conditioning: &TextConditioning,
        device: &'a Device,
    ) -> Result<Self, PipelineError> {
        let config = transformer.config();
        let prompt = on_device(&conditioning.prompt, device).repeat_each(settings.count);
        let guided = match &conditioning.negative {
            Some(negative) if settings.classifier_free => {
                let rows = negative.embeds.dims()[0];
                let negative = on_device(negative, device);
                let negative = negative.repeat_each(settings.pictures() / rows);
                let both = PromptEmbeds::cat(vec![negative, prompt.clone()])?;
                Some(context(transformer, both))
            }
            _ => None,
        };
        Ok(Self {
            transformer,
            settings,
            device,
            prompt,
            plain: OnceCell::new(),
            guided,
            projected: settings
                .projection
                .map(|options| ProjectedGuidance::new(settings.guidance.scale(), options)),
            embedded_guidance: config
                .guidance_embeds
                .then(|| settings.guidance.scale() * config.guidance_embeds_scale),
            step: 0,
        })
    }

    /// The velocity at `time`, which is what the network is called with, and at the noise level
    /// `sigma` in [0, 1], which decides whether guidance applies.
    fn predict(
        &mut self,
        latents: Tensor<4>,
        time: f64,
        sigma: f64,
    ) -> Result<Tensor<4>, PipelineError> {
        self.step += 1;
        let predictions = self.predictions(latents.clone(), time, sigma);
        let velocity = self.combined(latents, sigma, predictions);
        if all_finite(velocity.clone())? {
            return Ok(velocity);
        }
        Err(PipelineError::StepNotFinite {
            step: self.step,
            steps: self.settings.steps(),
            timestep: time,
            dtype: dtype::name(self.transformer.dtype()),
        })
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
        let pictures = self.settings.pictures();
        Predictions {
            negative: Some(all.clone().narrow(0, 0, pictures)),
            prompt: all.narrow(0, pictures, pictures),
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
                let pictures = self.settings.pictures();
                both.items(pictures..2 * pictures)
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
        let constant = |value: f64| {
            let values = TensorData::new(vec![value as f32; batch], [batch]);
            Tensor::<1>::from_data(values, (self.device, DType::F32))
        };
        // A learned variance, in the second half of the channels, has no use in a flow.
        let velocity = |output: Tensor<4>| match output.dims()[1] {
            outputs if outputs > channels => output.narrow(1, 0, channels),
            _ => output,
        };
        let (time, guidance) = (constant(time), self.embedded_guidance.map(constant));
        let blocks = self.settings.perturbed_blocks.as_ref();
        match blocks.filter(|_| perturbs) {
            None => Outputs {
                all: velocity(self.transformer.forward(latents, time, guidance, text)),
                perturbed: None,
            },
            Some(blocks) => {
                let PerturbedOutput { output, perturbed } = self.transformer.forward_perturbed(
                    latents,
                    time,
                    guidance,
                    text,
                    blocks,
                    self.plain(),
                );
                Outputs {
                    all: velocity(output),
                    perturbed: Some(velocity(perturbed)),
                }
            }
        }
    }
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
    let embeds = embeds.trim();
    let padded = embeds.keep().iter().flatten().any(|keep| !keep);
    transformer.text_context(embeds.embeds, padded.then_some(embeds.mask))
}

/// Whether no element is NaN or infinite.
fn all_finite<const D: usize>(tensor: Tensor<D>) -> Result<bool, PipelineError> {
    let sum = tensor.cast(DType::F32).abs().sum();
    let sum: f32 = sum
        .try_into_scalar()
        .map_err(|error| PipelineError::Device {
            doing: "reading a result",
            reason: format!("{error:?}"),
        })?;
    Ok(sum.is_finite())
}
