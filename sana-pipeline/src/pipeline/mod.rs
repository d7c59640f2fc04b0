//! The whole way from a prompt to an image.

mod blocking;
mod networks;
mod observer;
mod options;
mod plan;
mod stages;

use std::path::Path;

use burn::tensor::{DType, Device};
use sana_dcae::{DcAe, DcAeConfig, Tiling};
use sana_linear_attn::gpu::DeviceMemory;
use sana_linear_attn::transformer::depth::BlockImportance;
use sana_linear_attn::{SanaControlNet, SanaControlNetConfig, SanaTransformer};
use sana_text::{Gemma2Model, PromptTokenizer};

use crate::checkpoint::ControlNetFolder;
use crate::checkpoint::LoraMode;
use crate::checkpoint::Scheduler;
use crate::checkpoint::{Checkpoint, Component};
use crate::error::PipelineError;
use crate::image::RgbImage;
use crate::memory::{LoadedPart, MemoryModel, MemoryPolicy, MemoryShortage};
use crate::preview::{FittedLatentRgb, LatentRgb};
use crate::spec::ModelSpec;

use networks::Networks;

pub use observer::{StepAction, StepInfo};
pub use options::LoadOptions;
pub use plan::Plan;
pub use stages::{Generation, TextConditioning};

/// A text-to-image model of the Sana family: tokenizer, text encoder, transformer, autoencoder and
/// scheduler.
///
/// The stages [`encode_prompt`](Self::encode_prompt), [`sample`](Self::sample) and
/// [`decode`](Self::decode) are public one by one; [`generate`](Self::generate) is all three. Each
/// network is loaded from its mapped file when its stage first runs.
#[derive(Debug)]
pub struct SanaPipeline {
    pub(crate) networks: Networks,
    pub(crate) device: Device,
    pub(crate) one_stage_at_a_time: bool,
    pub(crate) tiling: Option<Tiling>,
    pub(crate) memory: MemoryModel,
    pub(crate) memory_policy: MemoryPolicy,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) memory_shortage: MemoryShortage,
    pub(crate) spec: ModelSpec,
    /// The colours of latents, for previews.
    pub(crate) latent_rgb: Option<LatentRgb>,
    /// Of the blocks, while it is measured.
    pub(crate) importance: Option<BlockImportance>,
}

impl SanaPipeline {
    /// The model that is built into the library, with default options: images of the
    /// [scene language](crate::scenes) of 128 x 128 pixels. Needs the feature `scenes-model`.
    ///
    /// ```no_run
    /// use burn::tensor::Device;
    /// use sana_pipeline::{PipelineError, Request, SanaPipeline, StepAction, image};
    ///
    /// fn generate(device: &Device) -> Result<(), PipelineError> {
    ///     let mut pipeline = SanaPipeline::built_in(device)?;
    ///     let request = Request::new("a red circle left of a blue square");
    ///     let generation = pipeline.generate(&request, &mut |_| StepAction::Continue)?;
    ///     image::save_png("scene.png".as_ref(), &generation.images[0], &[])
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`from_checkpoint`](Self::from_checkpoint).
    #[cfg(feature = "scenes-model")]
    #[cfg_attr(docsrs, doc(cfg(feature = "scenes-model")))]
    pub fn built_in(device: &Device) -> Result<Self, PipelineError> {
        Self::from_checkpoint(Checkpoint::built_in(), LoadOptions::default(), device)
    }

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
        let checkpoint = match &options.text_encoder {
            Some(path) => checkpoint.with_text_encoder(path, options.variant.as_deref())?,
            None => checkpoint,
        };
        let controlnet = checkpoint.controlnet(options.controlnet.as_deref())?;
        let controlnet = controlnet.map(|folder| folder.with_wiring(options.control_wiring));
        checkpoint.check_variant(options.variant.as_deref(), controlnet.as_ref())?;
        let spec = checkpoint.spec_with(controlnet)?;
        let (mut lora_notes, mut loras) = (Vec::new(), Vec::new());
        for file in &options.loras {
            let scaled = file.open()?;
            scaled.lora().check(&spec.transformer, device)?;
            lora_notes.extend(scaled.notes());
            loras.push(scaled);
        }
        let latent_rgb = checkpoint.latent_rgb()?;
        let mut text = None;
        let mut loaded = Vec::new();
        if let Some(controlnet) = &spec.controlnet {
            let weights = controlnet.weights(options.variant.as_deref())?;
            controlnet.check_weights(&weights, device)?;
            let part = Component::ControlNet;
            loaded.push(LoadedPart::new(part, &weights, options.dtype, device));
        }
        for part in checkpoint.weighted() {
            let weights = checkpoint.weights(part, options.variant.as_deref())?;
            checkpoint.check_component(part, &weights, device)?;
            let mut part_loaded = LoadedPart::new(part, &weights, options.dtype, device);
            if part == Component::TextEncoder {
                let config = checkpoint.text_config()?;
                spec.check_caption(config.hidden_size)?;
                if let Some(form) = options.quantize.text_encoder {
                    let sizes = config.quantized_sizes(device)?;
                    part_loaded = part_loaded.quantized(&sizes, form, device);
                }
                text = Some(config);
            }
            if part == Component::Transformer {
                if let Some(quantize) = options.quantize.of_transformer() {
                    let sizes = spec.transformer.quantized_sizes(quantize, device);
                    part_loaded = part_loaded.quantized(&sizes, quantize.to, device);
                }
                for scaled in &loras {
                    if part_loaded.is_quantized() {
                        scaled.check_quantized()?;
                    }
                    part_loaded = part_loaded.with_low_rank(scaled.lora().total_elements());
                }
            }
            loaded.push(part_loaded);
        }
        if let Some(tiling) = options.tiling {
            tiling.validate(spec.compression())?;
        }
        let memory = MemoryModel {
            parts: loaded,
            text,
            transformer: spec.transformer.clone(),
            autoencoder: spec.autoencoder.clone(),
            residuals: spec
                .controlnet
                .as_ref()
                .map_or(0, |controlnet| controlnet.config().transformer.num_layers),
            low_rank: options
                .loras
                .iter()
                .any(|file| file.mode == LoraMode::Unmerged),
            cpu: sana_linear_attn::precision::is_cpu(device),
            device: DeviceMemory::of(device),
            tiling: tiles(options.tiling, &spec.autoencoder),
        };
        let mut pipeline = Self {
            device: device.clone(),
            one_stage_at_a_time: false,
            tiling: options.tiling,
            memory,
            memory_policy: options.memory,
            memory_limit: options.memory_limit,
            memory_shortage: options.memory_shortage,
            networks: Networks::of_checkpoint(checkpoint, options, device)
                .with_controlnet(spec.controlnet.clone()),
            spec,
            latent_rgb,
            importance: None,
        };
        for note in pipeline.spec.notes.iter().cloned().chain(lora_notes) {
            pipeline.networks.note(note);
        }
        pipeline.one_stage_at_a_time = pipeline.begins_with_one_stage();
        Ok(pipeline)
    }

    /// Puts networks together that are in memory already, for example in training.
    ///
    /// # Errors
    /// [`CheckpointError::ComponentsDiffer`](crate::error::CheckpointError::ComponentsDiffer) when they do not fit each other.
    pub fn from_networks(
        tokenizer: PromptTokenizer,
        text_encoder: Gemma2Model,
        transformer: SanaTransformer,
        autoencoder: DcAe,
        scheduler: Scheduler,
        device: &Device,
    ) -> Result<Self, PipelineError> {
        let spec = ModelSpec::new(
            transformer.config().clone(),
            autoencoder.config().clone(),
            scheduler,
            tokenizer.options().clone(),
        )?;
        let text = text_encoder.config().clone();
        spec.check_caption(text.hidden_size)?;
        let mut networks =
            Networks::in_memory(tokenizer, text_encoder, transformer, autoencoder, device);
        for note in spec.notes.iter().cloned() {
            networks.note(note);
        }
        Ok(Self {
            device: device.clone(),
            one_stage_at_a_time: false,
            tiling: None,
            // The weights are in memory already, whatever they take.
            memory: MemoryModel {
                parts: Vec::new(),
                text: Some(text),
                transformer: spec.transformer.clone(),
                autoencoder: spec.autoencoder.clone(),
                residuals: 0,
                low_rank: false,
                cpu: sana_linear_attn::precision::is_cpu(device),
                device: DeviceMemory::of(device),
                tiling: tiles(None, &spec.autoencoder),
            },
            memory_policy: MemoryPolicy::KeepAll,
            memory_limit: None,
            memory_shortage: MemoryShortage::Refuse,
            latent_rgb: LatentRgb::published(&spec.autoencoder),
            spec,
            importance: None,
            networks,
        })
    }

    /// The checkpoint it was opened from; `None` after [`from_networks`](Self::from_networks).
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.networks.checkpoint()
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model as plain values: configs, scheduler, defaults, sizes.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Decisions of loading that a user may want to know, such as a dtype that the device does not
    /// support. They come with the part they are about.
    pub fn notes(&self) -> &[String] {
        self.networks.notes()
    }

    /// The dtype that the weights of each network have in memory, or will have once it is loaded;
    /// only headers are read for it.
    ///
    /// # Errors
    /// When a weight file has become unusable.
    pub fn dtypes(&self) -> Result<Vec<(Component, DType)>, PipelineError> {
        self.networks.dtypes()
    }

    /// Whether networks are dropped when their stage is over; see [`MemoryPolicy`]. Each
    /// [`generate`](Self::generate) decides again where that is left to it.
    pub fn releases_stages(&self) -> bool {
        self.one_stage_at_a_time
    }

    /// Whether a part is in memory.
    pub fn is_loaded(&self, part: Component) -> bool {
        self.networks.is_loaded(part)
    }

    /// The text encoder, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable.
    pub fn text_encoder(&mut self) -> Result<&Gemma2Model, PipelineError> {
        self.networks.text_encoder()
    }

    /// The transformer, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable.
    pub fn transformer(&mut self) -> Result<&SanaTransformer, PipelineError> {
        self.networks.transformer()
    }

    /// The autoencoder, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable.
    pub fn autoencoder(&mut self) -> Result<&DcAe, PipelineError> {
        self.networks.autoencoder()
    }

    /// Config of the ControlNet, if there is one.
    pub fn controlnet_config(&self) -> Option<&SanaControlNetConfig> {
        self.networks
            .controlnet_folder()
            .map(ControlNetFolder::config)
    }

    /// The ControlNet, loaded now if it was not.
    ///
    /// # Errors
    /// When its weights are not usable; [`RequestError::NoControlNet`](crate::error::RequestError::NoControlNet) without one.
    pub fn controlnet(&mut self) -> Result<&SanaControlNet, PipelineError> {
        self.networks.controlnet()
    }

    /// The colours of latents that [previews](StepInfo::preview) are made with: those of the
    /// [checkpoint](Checkpoint::latent_rgb), or what was [fitted](Self::fit_latent_rgb).
    pub fn latent_rgb(&self) -> Option<&LatentRgb> {
        self.latent_rgb.as_ref()
    }

    /// [Fits](LatentRgb::fit) the colours of latents to the autoencoder and uses them from now on;
    /// `what` says what the images are.
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded, and as [`LatentRgb::fit`].
    pub fn fit_latent_rgb(
        &mut self,
        what: &str,
        images: impl Iterator<Item = RgbImage>,
    ) -> Result<FittedLatentRgb, PipelineError> {
        self.load_for(Component::Vae)?;
        let side = self.spec.transformer.sample_size;
        let autoencoder = self.networks.autoencoder()?;
        let fitted = LatentRgb::fit(what, autoencoder, images, side, &self.device)?;
        self.latent_rgb = Some(fitted.latent_rgb.clone());
        Ok(fitted)
    }

    /// Loads a network for its stage, and drops the others where one stage runs at a time.
    pub(crate) fn load_for(&mut self, part: Component) -> Result<(), PipelineError> {
        self.make_room_for(part)?;
        match part {
            Component::TextEncoder => self.networks.text_encoder().map(drop),
            Component::Transformer => self.networks.transformer().map(drop),
            Component::Vae => self.networks.autoencoder().map(drop),
            Component::ControlNet => self.networks.controlnet().map(drop),
            Component::Scheduler | Component::Tokenizer => Ok(()),
        }
    }

    pub(crate) fn make_room_for(&mut self, part: Component) -> Result<(), PipelineError> {
        if self.one_stage_at_a_time {
            self.networks.release_all_but(part)?;
        }
        Ok(())
    }

    /// Waits for the device, where the thread may.
    pub(crate) fn sync(&self, doing: &'static str) -> Result<(), PipelineError> {
        blocking::sync(&self.device, doing)
    }
}

/// The tiles that the autoencoder works in where it does.
fn tiles(chosen: Option<Tiling>, autoencoder: &DcAeConfig) -> Tiling {
    chosen.unwrap_or_else(|| Tiling::for_compression(autoencoder.compression()))
}
