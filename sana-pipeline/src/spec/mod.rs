//! What a model is, as plain values: all that a request is checked against.

mod buckets;

use sana_dcae::DcAeConfig;
use sana_linear_attn::SanaTransformerConfig;
use sana_text::PromptOptions;

use crate::checkpoint::{
    Checkpoint, ControlNetFolder, Scheduler, Solver, check_caption, check_latents,
    fitting_scheduler,
};
use crate::error::{CheckpointError, PipelineError};

pub use buckets::Buckets;

/// A model of the Sana family as plain values, without weights.
/// [`Request::validate`](crate::Request::validate) checks a request against it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelSpec {
    /// Config of the transformer.
    pub transformer: SanaTransformerConfig,
    /// Config of the autoencoder.
    pub autoencoder: DcAeConfig,
    /// The scheduler, which decides on the solvers that fit.
    pub scheduler: Scheduler,
    /// Instruction and number of tokens of a prompt.
    pub prompt_options: PromptOptions,
    /// The ControlNet, if there is one.
    pub controlnet: Option<ControlNetFolder>,
    /// What was assumed where the components do not fit, such as another scheduler.
    pub notes: Vec<String>,
    /// Whether it is the model that is built into the library.
    pub(crate) built_in: bool,
}

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

impl Checkpoint {
    /// The model it holds, with its own ControlNet if it has one.
    ///
    /// # Errors
    /// When a config is missing or not usable, or the components do not fit each other.
    pub fn spec(&self) -> Result<ModelSpec, PipelineError> {
        self.spec_with(self.controlnet(None)?)
    }

    /// [`spec`](Self::spec) with this ControlNet.
    pub(crate) fn spec_with(
        &self,
        controlnet: Option<ControlNetFolder>,
    ) -> Result<ModelSpec, PipelineError> {
        let spec = ModelSpec::new(
            self.transformer_config()?,
            self.vae_config()?,
            self.scheduler()?,
            self.keys().prompt_options(),
        )?;
        if let Some(controlnet) = &controlnet {
            controlnet.check(&spec.transformer)?;
        }
        Ok(ModelSpec {
            controlnet,
            built_in: self.is_built_in(),
            ..spec
        })
    }
}

impl ModelSpec {
    /// Of components that fit each other, without a ControlNet.
    ///
    /// # Errors
    /// [`CheckpointError::ComponentsDiffer`] when the autoencoder's latents are not the transformer's.
    pub(crate) fn new(
        transformer: SanaTransformerConfig,
        autoencoder: DcAeConfig,
        scheduler: Scheduler,
        prompt_options: PromptOptions,
    ) -> Result<Self, CheckpointError> {
        check_latents(&transformer, &autoencoder)?;
        let (scheduler, note) = fitting_scheduler(scheduler, &transformer);
        Ok(Self {
            transformer,
            autoencoder,
            scheduler,
            prompt_options,
            controlnet: None,
            notes: note.into_iter().collect(),
            built_in: false,
        })
    }

    /// Pixels per latent along each axis.
    pub fn compression(&self) -> usize {
        self.autoencoder.compression()
    }

    /// What both sides of an image must be a multiple of: [`compression`](Self::compression) times
    /// the transformer's patch size.
    pub fn size_multiple(&self) -> usize {
        self.compression() * self.transformer.patch_size
    }

    /// Pixels that the model was trained at, on a side.
    fn native(&self) -> usize {
        self.transformer.sample_size * self.compression()
    }

    /// What a request has where it says nothing.
    pub fn defaults(&self) -> Defaults {
        Defaults {
            size: [self.native(); 2],
            steps: self.scheduler.default_steps(),
            guidance: 4.5,
            solver: self.scheduler.solver(),
        }
    }

    /// The sizes that the model was trained at, by aspect ratio; a computed table for models that
    /// no published one is for.
    pub fn buckets(&self) -> Buckets {
        Buckets::of_model(self.native(), self.size_multiple())
    }

    /// A warning for `[width, height]` with less than half or more than twice the pixels that the
    /// model was trained on, or far wider or taller than any image was.
    pub fn size_note(&self, size: [usize; 2]) -> Option<String> {
        let native = self.native();
        let area = |[width, height]: [usize; 2]| width as f64 * height as f64;
        let factor = area(size) / area([native; 2]);
        let (times, more) = match factor {
            factor if factor < 0.5 => (1.0 / factor, "fewer"),
            factor if factor > 2.0 => (factor, "more"),
            _ => return self.aspect_note(size),
        };
        Some(format!(
            "{}x{} has {times:.1} times {more} pixels than the {native}x{native} that the model was \
             trained at",
            size[0], size[1]
        ))
    }

    fn aspect_note(&self, [width, height]: [usize; 2]) -> Option<String> {
        let ratio = |[height, width]: [usize; 2]| width as f64 / height as f64;
        let buckets = self.buckets();
        let ratios = || buckets.sizes().iter().copied().map(ratio);
        let narrowest = ratios().fold(f64::INFINITY, f64::min);
        let widest = ratios().fold(0.0, f64::max);
        let found = ratio([height, width]);
        // A tenth is within what the rounding of sizes makes.
        if (narrowest / 1.1..=widest * 1.1).contains(&found) {
            return None;
        }
        Some(format!(
            "{width}x{height} is {found:.2} times as wide as high; the model was trained at \
             {narrowest:.2} to {widest:.2}"
        ))
    }

    /// `[channels, height, width]` of the latents of an image of `[width, height]`.
    pub(crate) fn latent_shape(&self, [width, height]: [usize; 2]) -> [usize; 3] {
        let compression = self.compression();
        [
            self.transformer.in_channels,
            height / compression,
            width / compression,
        ]
    }

    /// That a text encoder's hidden states are the transformer's captions.
    pub(crate) fn check_caption(&self, hidden_size: usize) -> Result<(), CheckpointError> {
        check_caption(&self.transformer, hidden_size)
    }
}
