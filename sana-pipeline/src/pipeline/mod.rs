//! The whole way from a prompt to a picture.

mod networks;
mod observer;
mod options;
mod plan;
mod stages;

use std::path::Path;

use burn::tensor::{DType, Device};
use sana_dcae::{DcAe, DcAeConfig, Tiling};
use sana_linear_attn::{
    SanaControlNet, SanaControlNetConfig, SanaTransformer, SanaTransformerConfig, Weights,
};
use sana_text::{Gemma2Model, PromptOptions, PromptTokenizer};

use crate::checkpoint::ControlNetFolder;
use crate::checkpoint::LoraMode;
use crate::checkpoint::{Checkpoint, Component};
use crate::checkpoint::{Scheduler, Solver};
use crate::error::PipelineError;
use crate::image::RgbImage;
use crate::memory::{LoadedPart, MemoryModel, MemoryShortage, StageMeter, StageReport};
use crate::request::Buckets;
use crate::request::{Request, Settings};

use networks::Parts;
use observer::Observer;

pub use observer::{ObserverError, StepAction, StepInfo};
pub use options::{LoadOptions, MemoryPolicy};
pub use stages::TextConditioning;

/// What a request has where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Defaults {
    /// `[width, height]` in pixels: the size the transformer was trained for.
    pub size: [usize; 2],
    /// Steps: 20, or 2 for Sana-Sprint.
    pub steps: usize,
    /// Guidance scale: 4.5.
    pub guidance: f64,
    /// The solver of `scheduler_config.json`.
    pub solver: Solver,
}

/// What [`SanaPipeline::generate`] made.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The pictures, those of a prompt one after the other.
    pub images: Vec<RgbImage>,
    /// The seed of each picture.
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

/// A text-to-image model of the Sana family: tokenizer, text encoder, transformer, autoencoder and
/// scheduler.
///
/// The stages [`encode_prompt`](Self::encode_prompt), [`sample`](Self::sample) and
/// [`decode`](Self::decode) are public one by one; [`generate`](Self::generate) is all three. Each
/// network is loaded from its mapped file when its stage first runs.
#[derive(Debug)]
pub struct SanaPipeline {
    pub(crate) parts: Parts,
    pub(crate) device: Device,
    pub(crate) one_stage_at_a_time: bool,
    pub(crate) tiling: Option<Tiling>,
    pub(crate) memory: MemoryModel,
    pub(crate) memory_policy: MemoryPolicy,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) memory_shortage: MemoryShortage,
    scheduler: Scheduler,
    prompt_options: PromptOptions,
    transformer: SanaTransformerConfig,
    autoencoder: DcAeConfig,
}

impl SanaPipeline {
    /// Opens a checkpoint folder in the published layout, with default options.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`from_checkpoint`](Self::from_checkpoint).
    pub fn load(folder: &Path, device: &Device) -> Result<Self, PipelineError> {
        Self::from_checkpoint(Checkpoint::open(folder)?, LoadOptions::default(), device)
    }

    /// Opens a checkpoint. Configs are read and checked, weight files are opened and their headers
    /// checked; no weights are loaded yet. A part that the checkpoint does not have is an error
    /// when it is needed, except for the transformer, the autoencoder and the scheduler, which are
    /// needed at once.
    ///
    /// # Errors
    /// When a config or the header of a weight file is not usable, parts do not fit each other, or
    /// a LoRA or a ControlNet does not fit the transformer.
    pub fn from_checkpoint(
        checkpoint: Checkpoint,
        options: LoadOptions,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        let checkpoint = match &options.transformer {
            Some(path) => checkpoint.with_transformer(path, options.variant.as_deref())?,
            None => checkpoint,
        };
        let transformer = checkpoint.transformer_config()?;
        let autoencoder = checkpoint.vae_config()?;
        check_latents(&transformer, &autoencoder)?;
        for file in &options.loras {
            file.open()?.lora().check(&transformer, device)?;
        }
        let controlnet = checkpoint.controlnet(options.controlnet.as_deref())?;
        let mut text = None;
        let mut loaded = Vec::new();
        if let Some(controlnet) = &controlnet {
            controlnet.check(&transformer)?;
            let weights = controlnet.weights(options.variant.as_deref())?;
            let part = Component::ControlNet;
            loaded.push(LoadedPart::new(part, &weights, options.dtype, device));
        }
        for part in checkpoint
            .parts()
            .filter(|part| part.weights_stem().is_some() && *part != Component::ControlNet)
        {
            let weights = checkpoint.weights(part, options.variant.as_deref())?;
            let mut part_loaded = LoadedPart::new(part, &weights, options.dtype, device);
            if part == Component::TextEncoder {
                let config = checkpoint.text_config()?;
                check_caption(&transformer, config.hidden_size)?;
                text = Some(config);
            }
            if part == Component::Transformer {
                for file in &options.loras {
                    let elements = Weights::open_file(&file.path)?.total_elements();
                    part_loaded = part_loaded.with_low_rank(elements);
                }
            }
            loaded.push(part_loaded);
        }
        if let Some(tiling) = options.tiling {
            tiling.validate(autoencoder.compression())?;
        }
        let memory = MemoryModel {
            parts: loaded,
            text,
            transformer: transformer.clone(),
            autoencoder: autoencoder.clone(),
            residuals: controlnet
                .as_ref()
                .map_or(0, |controlnet| controlnet.config().transformer.num_layers),
            low_rank: options
                .loras
                .iter()
                .any(|file| file.mode == LoraMode::Apart),
            cpu: sana_linear_attn::precision::is_cpu(device),
            tiling: tiles(options.tiling, &autoencoder),
        };
        let mut pipeline = Self {
            device: device.clone(),
            one_stage_at_a_time: false,
            tiling: options.tiling,
            memory,
            memory_policy: options.memory,
            memory_limit: options.memory_limit,
            memory_shortage: options.memory_shortage,
            scheduler: checkpoint.scheduler()?,
            prompt_options: checkpoint.keys().prompt_options(),
            transformer,
            autoencoder,
            parts: Parts::of_checkpoint(checkpoint, options, device).with_controlnet(controlnet),
        };
        pipeline.one_stage_at_a_time = pipeline.begins_with_one_stage();
        Ok(pipeline)
    }

    /// Puts networks together that are in memory already, for example in training.
    ///
    /// # Errors
    /// [`PipelineError::PartsDiffer`] when they do not fit each other.
    pub fn from_parts(
        tokenizer: PromptTokenizer,
        text_encoder: Gemma2Model,
        transformer: SanaTransformer,
        autoencoder: DcAe,
        scheduler: Scheduler,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        check_latents(transformer.config(), autoencoder.config())?;
        check_caption(transformer.config(), text_encoder.config().hidden_size)?;
        Ok(Self {
            device: device.clone(),
            one_stage_at_a_time: false,
            tiling: None,
            // The weights are in memory already, whatever they take.
            memory: MemoryModel {
                parts: Vec::new(),
                text: Some(text_encoder.config().clone()),
                transformer: transformer.config().clone(),
                autoencoder: autoencoder.config().clone(),
                residuals: 0,
                low_rank: false,
                cpu: sana_linear_attn::precision::is_cpu(device),
                tiling: tiles(None, autoencoder.config()),
            },
            memory_policy: MemoryPolicy::KeepAll,
            memory_limit: None,
            memory_shortage: MemoryShortage::Refuse,
            scheduler,
            prompt_options: tokenizer.options().clone(),
            transformer: transformer.config().clone(),
            autoencoder: autoencoder.config().clone(),
            parts: Parts::in_memory(tokenizer, text_encoder, transformer, autoencoder, device),
        })
    }

    /// The checkpoint it was opened from; `None` after [`from_parts`](Self::from_parts).
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.parts.checkpoint()
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The scheduler of the checkpoint.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Instruction and number of tokens of the checkpoint.
    pub fn prompt_options(&self) -> &PromptOptions {
        &self.prompt_options
    }

    /// Config of the transformer.
    pub fn transformer_config(&self) -> &SanaTransformerConfig {
        &self.transformer
    }

    /// Config of the autoencoder.
    pub fn autoencoder_config(&self) -> &DcAeConfig {
        &self.autoencoder
    }

    /// Decisions of loading that a user may want to know, such as a dtype that the device does not
    /// support. They come with the part they are about.
    pub fn notes(&self) -> &[String] {
        self.parts.notes()
    }

    /// The dtype that the weights of each network have in memory, or will have once it is loaded;
    /// only headers are read for it.
    ///
    /// # Errors
    /// When a weight file has become unusable.
    pub fn dtypes(&self) -> Result<Vec<(Component, DType)>, PipelineError> {
        self.parts.dtypes()
    }

    /// Whether networks are dropped when their stage is over; see [`MemoryPolicy`]. Each
    /// [`generate`](Self::generate) decides anew where that is left to it.
    pub fn releases_stages(&self) -> bool {
        self.one_stage_at_a_time
    }

    /// Whether a part is in memory.
    pub fn is_loaded(&self, part: Component) -> bool {
        self.parts.is_loaded(part)
    }

    /// The text encoder, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable.
    pub fn text_encoder(&mut self) -> Result<&Gemma2Model, PipelineError> {
        self.parts.text_encoder()
    }

    /// The transformer, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable.
    pub fn transformer(&mut self) -> Result<&SanaTransformer, PipelineError> {
        self.parts.transformer()
    }

    /// The autoencoder, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable.
    pub fn autoencoder(&mut self) -> Result<&DcAe, PipelineError> {
        self.parts.autoencoder()
    }

    /// Config of the ControlNet, if there is one.
    pub fn controlnet_config(&self) -> Option<&SanaControlNetConfig> {
        self.parts.controlnet_folder().map(ControlNetFolder::config)
    }

    /// The ControlNet, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable; [`PipelineError::NoControlNet`] when there is none.
    pub fn controlnet(&mut self) -> Result<&SanaControlNet, PipelineError> {
        self.parts.controlnet()
    }

    /// Pixels per latent along each axis.
    pub fn compression(&self) -> usize {
        self.autoencoder.compression()
    }

    /// What both sides of a picture must be a multiple of: [`compression`](Self::compression)
    /// times the transformer's patch size.
    pub fn size_multiple(&self) -> usize {
        self.compression() * self.transformer.patch_size
    }

    /// The sizes that the model was trained at, by aspect ratio; a computed table for models that
    /// no published one is for.
    pub fn buckets(&self) -> Buckets {
        Buckets::of_model(self.memory.native(), self.size_multiple())
    }

    /// Tells of a size with less than half or more than twice the pixels that the model was trained
    /// on.
    pub fn size_note(&self, settings: &Settings) -> Option<String> {
        let native = self.memory.native();
        let area = |[width, height]: [usize; 2]| width as f64 * height as f64;
        let size = [settings.width, settings.height];
        let factor = area(size) / area([native; 2]);
        let (times, more) = match factor {
            factor if factor < 0.5 => (1.0 / factor, "fewer"),
            factor if factor > 2.0 => (factor, "more"),
            _ => return None,
        };
        Some(format!(
            "{}x{} has {times:.1} times {more} pixels than the {native}x{native} that the model was \
             trained at",
            size[0], size[1]
        ))
    }

    /// What a request has where it says nothing.
    pub fn defaults(&self) -> Defaults {
        Defaults {
            size: [self.transformer.sample_size * self.compression(); 2],
            steps: self.scheduler.default_steps(),
            guidance: 4.5,
            solver: self.scheduler.solver(),
        }
    }

    /// Makes pictures: [`encode_prompt`](Self::encode_prompt), [`sample`](Self::sample) and
    /// [`decode`](Self::decode), each measured, and [`composite`](Self::composite). A control picture
    /// and pictures to start from are encoded before, as stages of their own, so that the autoencoder
    /// is out of memory again where one stage runs at a time. `observe` sees every step and may end
    /// the run: with [`StepAction::Stop`] the images are decoded from the estimate of the clean
    /// latents that this step made.
    ///
    /// # Errors
    /// As the three stages, and [`PipelineError::Observer`]. The request is checked before anything is loaded, also against the
    /// memory there is: [`PipelineError::Memory`].
    pub fn generate<R>(
        &mut self,
        request: &Request,
        observe: &mut dyn FnMut(StepInfo) -> R,
    ) -> Result<Generation, PipelineError>
    where
        R: Into<Result<StepAction, ObserverError>>,
    {
        self.generate_observed(request, &mut |step| observer::answer(observe(step)))
    }

    fn generate_observed(
        &mut self,
        request: &Request,
        observe: &mut Observer<'_>,
    ) -> Result<Generation, PipelineError> {
        let settings = request.validate(self)?;
        let tiling = self.plan_request(request, &settings)?;
        let text_part = request
            .embeddings
            .is_none()
            .then_some(Component::TextEncoder);
        let (conditioning, text) = self.measured(
            "text",
            text_part,
            |this| this.load_text(request),
            |this| this.encode_prompt(request),
        )?;
        let mut stages = vec![text];
        let mut control = None;
        if settings.control.is_some_and(|control| control.is_active()) {
            let part = request.control.has_pictures().then_some(Component::Vae);
            let (latents, stage) = self.measured(
                "control",
                part,
                |this| part.map_or(Ok(()), |part| this.load_for(part)),
                |this| this.encode_control(request),
            )?;
            stages.push(stage);
            control = latents;
        }
        let mut known = None;
        if settings.editing.is_some() {
            let part = request.editing.latents.is_none().then_some(Component::Vae);
            let (encoded, encode) = self.measured(
                "encode",
                part,
                |this| part.map_or(Ok(()), |part| this.load_for(part)),
                |this| this.encode_known(request, &settings),
            )?;
            known = encoded;
            stages.push(encode);
        }
        let mut stopped = false;
        let (latents, denoise) = self.measured(
            "denoise",
            Some(Component::Transformer),
            |this| {
                this.load_for(Component::Transformer)?;
                this.parts.denoiser(control.is_some()).map(drop)
            },
            |this| {
                let control = control.clone();
                this.sample_encoded(
                    request,
                    &conditioning,
                    control,
                    known.as_ref(),
                    &mut |step| {
                        let action = observe(step)?;
                        stopped |= matches!(action, StepAction::Stop | StepAction::StopWith(_));
                        Ok(action)
                    },
                )
            },
        )?;
        let (images, decode) = self.measured(
            "decode",
            Some(Component::Vae),
            |this| this.load_for(Component::Vae),
            |this| this.decode_pictures(latents, tiling, settings.output_size),
        )?;
        stages.extend([denoise, decode]);
        Ok(Generation {
            images: self.composite(request, images)?,
            seeds: settings.seeds(),
            stages,
            dropped_tokens: conditioning.dropped_tokens().to_vec(),
            dropped_negative_tokens: conditioning.dropped_negative_tokens().to_vec(),
            stopped,
        })
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

    /// Loads a network for its stage, and drops the others where one stage runs at a time.
    pub(crate) fn load_for(&mut self, part: Component) -> Result<(), PipelineError> {
        self.make_room_for(part)?;
        match part {
            Component::TextEncoder => self.parts.text_encoder().map(drop),
            Component::Transformer => self.parts.transformer().map(drop),
            Component::Vae => self.parts.autoencoder().map(drop),
            Component::ControlNet => self.parts.controlnet().map(drop),
            Component::Scheduler | Component::Tokenizer => Ok(()),
        }
    }

    fn make_room_for(&mut self, part: Component) -> Result<(), PipelineError> {
        if self.one_stage_at_a_time {
            self.parts.release_all_but(part)?;
        }
        Ok(())
    }

    fn sync(&self, doing: &'static str) -> Result<(), PipelineError> {
        self.device.sync().map_err(|error| PipelineError::Device {
            doing,
            reason: format!("{error:?}"),
        })
    }
}

/// The tiles that the autoencoder works in where it does.
fn tiles(chosen: Option<Tiling>, autoencoder: &DcAeConfig) -> Tiling {
    chosen.unwrap_or_else(|| Tiling::for_compression(autoencoder.compression()))
}

/// The autoencoder's latents are the transformer's.
fn check_latents(
    transformer: &SanaTransformerConfig,
    autoencoder: &DcAeConfig,
) -> Result<(), PipelineError> {
    let differ = |what, found, expected| {
        Err(PipelineError::PartsDiffer {
            part: Component::Vae,
            what,
            found,
            expected,
        })
    };
    let (channels, latent) = (transformer.in_channels, autoencoder.latent_channels);
    if channels != latent {
        return differ("latent channels", latent, channels);
    }
    // Models that learn the variance predict it in as many channels again.
    let output = transformer.output_channels();
    if output != channels && output != 2 * channels {
        return differ("latent channels", latent, output);
    }
    if autoencoder.in_channels != 3 {
        return differ("picture channels", autoencoder.in_channels, 3);
    }
    Ok(())
}

/// The text encoder's hidden states are the transformer's captions.
fn check_caption(
    transformer: &SanaTransformerConfig,
    hidden_size: usize,
) -> Result<(), PipelineError> {
    if transformer.caption_channels == hidden_size {
        return Ok(());
    }
    Err(PipelineError::PartsDiffer {
        part: Component::TextEncoder,
        what: "channels",
        found: hidden_size,
        expected: transformer.caption_channels,
    })
}
