//! What a user asks for.

use burn::tensor::Tensor;
use sana_sampler::{AdaptiveProjection, GuidanceInterval, ScmTimesteps};
use sana_text::{Instruction, PromptEmbeds};

use super::control::ControlRequest;
use super::hires::Hires;
use super::image_to_image::ImageToImage;
use crate::checkpoint::{Schedule, Solver};

/// The text that goes before the prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InstructionChoice {
    /// The checkpoint's own: for published ones the reference's template.
    #[default]
    Checkpoint,
    /// None.
    None,
    /// This one.
    Custom(Instruction),
}

/// How the size of the images is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SizeChoice {
    /// `[width, height]` in pixels, as it is.
    Exact([usize; 2]),
    /// The bucket nearest to `[width, height]`, resized to that.
    Bucket([usize; 2]),
    /// The bucket nearest to the ratio of `[width, height]`.
    Aspect([f64; 2]),
}

/// What to generate: prompts and how. Whatever is not set has the checkpoint's default.
///
/// ```
/// use sana_pipeline::Request;
///
/// let request = Request::new("a red circle left of a blue square")
///     .size(512, 512)
///     .steps(20)
///     .guidance(4.5)
///     .seed(7)
///     .count(2);
/// # let _ = request;
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Request {
    pub(super) prompts: Vec<String>,
    pub(super) negatives: Vec<String>,
    pub(super) size: Option<SizeChoice>,
    pub(super) steps: Option<usize>,
    pub(super) guidance: Option<f64>,
    pub(super) guidance_interval: GuidanceInterval,
    pub(super) perturbed_attention: f64,
    pub(super) perturbed_blocks: Option<Vec<usize>>,
    pub(super) projection: Option<AdaptiveProjection>,
    pub(super) seed: u64,
    pub(super) seeds: Option<Vec<u64>>,
    pub(super) count: usize,
    pub(super) solver: Option<Solver>,
    pub(super) shift: Option<f64>,
    pub(super) timesteps: ScmTimesteps,
    pub(super) schedule: Option<Schedule>,
    pub(super) image_to_image: ImageToImage,
    pub(super) hires: Hires,
    pub(super) instruction: InstructionChoice,
    pub(super) max_tokens: Option<usize>,
    pub(super) latents: Option<Tensor<4>>,
    pub(super) step_noise: Option<Vec<Tensor<4>>>,
    pub(super) embeddings: Option<(PromptEmbeds, Option<PromptEmbeds>)>,
    pub(super) control: ControlRequest,
}

impl Request {
    /// Images of one prompt.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self::batch([prompt])
    }

    /// Images of several prompts, made together.
    pub fn batch<I>(prompts: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        Self {
            prompts: prompts.into_iter().map(Into::into).collect(),
            negatives: Vec::new(),
            size: None,
            steps: None,
            guidance: None,
            guidance_interval: GuidanceInterval::FULL,
            perturbed_attention: 0.0,
            perturbed_blocks: None,
            projection: None,
            seed: 0,
            seeds: None,
            count: 1,
            solver: None,
            shift: None,
            timesteps: ScmTimesteps::Reference,
            schedule: None,
            image_to_image: ImageToImage::default(),
            hires: Hires::default(),
            instruction: InstructionChoice::Checkpoint,
            max_tokens: None,
            latents: None,
            step_noise: None,
            embeddings: None,
            control: ControlRequest::default(),
        }
    }

    /// What the images should be guided away from, the same for all prompts. Empty by default.
    /// Without effect where there is no classifier-free guidance.
    pub fn negative(self, prompt: impl Into<String>) -> Self {
        self.negatives([prompt])
    }

    /// A negative prompt for each prompt.
    pub fn negatives<I>(mut self, prompts: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.negatives = prompts.into_iter().map(Into::into).collect();
        self
    }

    /// Size in pixels, both sides multiples of 32 (of the autoencoder's compression ratio). The
    /// size the model was trained for by default.
    pub fn size(mut self, width: usize, height: usize) -> Self {
        self.size = Some(SizeChoice::Exact([width, height]));
        self
    }

    /// The size of the nearest of the model's [buckets](crate::spec::ModelSpec::buckets), resized and cropped
    /// to this size in pixels, each side from 1 to 16384: what the reference does by default
    /// (`use_resolution_binning`). In place of [`size`](Self::size).
    pub fn bucketed_size(mut self, width: usize, height: usize) -> Self {
        self.size = Some(SizeChoice::Bucket([width, height]));
        self
    }

    /// The size of the model's [bucket](crate::spec::ModelSpec::buckets) whose aspect ratio is nearest to
    /// `width : height`, two positive numbers such as 16 and 9. In place of [`size`](Self::size).
    pub fn aspect(mut self, width: f64, height: f64) -> Self {
        self.size = Some(SizeChoice::Aspect([width, height]));
        self
    }

    /// Number of steps, at least 1.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Guidance scale, finite and at least 0. Up to 1 there is no guidance. Sana-Sprint embeds the
    /// scale instead of running the network twice.
    pub fn guidance(mut self, scale: f64) -> Self {
        self.guidance = Some(scale);
        self
    }

    /// The noise levels at which guidance is applied, classifier-free and by perturbed attention;
    /// all by default. At the others the prediction for the prompt is used as it is.
    pub fn guidance_interval(mut self, interval: GuidanceInterval) -> Self {
        self.guidance_interval = interval;
        self
    }

    /// Perturbed attention guidance of this scale, finite and at least 0, next to classifier-free
    /// guidance or without it; see [`perturbed_attention_guidance`]. 0, the default, turns it off. Each
    /// step then runs the blocks from the first perturbed one on once more for each image.
    ///
    /// [`perturbed_attention_guidance`]: sana_sampler::perturbed_attention_guidance
    pub fn perturbed_attention(mut self, scale: f64) -> Self {
        self.perturbed_attention = scale;
        self
    }

    /// The blocks whose self-attention is perturbed, by exact 0-based index, at least one. By
    /// default the one that published pipelines perturb: 8 of the 20 of the 1.6B models, else the
    /// middle one. Without effect where perturbed attention has no scale.
    pub fn perturbed_blocks(mut self, indices: impl IntoIterator<Item = usize>) -> Self {
        self.perturbed_blocks = Some(indices.into_iter().collect());
        self
    }

    /// Adaptive projected guidance in place of plain classifier-free guidance; see
    /// [`ProjectedGuidance`](sana_sampler::ProjectedGuidance). Without effect where there is no
    /// classifier-free guidance.
    pub fn projection(mut self, options: AdaptiveProjection) -> Self {
        self.projection = Some(options);
        self
    }

    /// Seed of the first image's noise; image `i` has `seed + i`. 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// A seed for each image, those of a prompt one after the other, in place of
    /// [`seed`](Self::seed).
    pub fn seeds(mut self, seeds: Vec<u64>) -> Self {
        self.seeds = Some(seeds);
        self
    }

    /// Other prompts, made together with the settings of this request.
    pub fn with_prompts<I>(mut self, prompts: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.prompts = prompts.into_iter().map(Into::into).collect();
        self
    }

    /// Images per prompt; 1 by default.
    pub fn count(mut self, images: usize) -> Self {
        self.count = images;
        self
    }

    /// The solver; the checkpoint's own by default.
    pub fn solver(mut self, solver: Solver) -> Self {
        self.solver = Some(solver);
        self
    }

    /// The flow shift of the noise levels; the checkpoint's own by default.
    pub fn shift(mut self, shift: f64) -> Self {
        self.shift = Some(shift);
        self
    }

    /// Published timesteps of Sana-Sprint by name; the reference's by default. The paper's are for 1, 2
    /// and 4 steps of Sana-Sprint.
    pub fn timesteps(mut self, timesteps: ScmTimesteps) -> Self {
        self.timesteps = timesteps;
        self
    }

    /// Noise levels or times of one's own; `steps`, `shift` and `timesteps` have no effect then.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// The text that goes before the prompts.
    pub fn instruction(mut self, instruction: InstructionChoice) -> Self {
        self.instruction = instruction;
        self
    }

    /// Tokens kept of every prompt; the checkpoint's own by default, which is 300 for published
    /// ones.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Initial latents, unit normal, in place of noise from the seed. With an image they are the
    /// noise that is mixed with it.
    ///
    /// # Shapes
    /// - latents `[prompts * count, channels, height / 32, width / 32]`, images of a prompt one
    ///   after the other; the size follows from them unless it is set
    pub fn latents(mut self, latents: Tensor<4>) -> Self {
        self.latents = Some(latents);
        self
    }

    /// The unit normal noise that SCM adds after each step but the last, in place of noise from
    /// the seed. More tensors than are needed do no harm.
    ///
    /// # Shapes
    /// - each as [`latents`](Self::latents)
    pub fn step_noise(mut self, noise: Vec<Tensor<4>>) -> Self {
        self.step_noise = Some(noise);
        self
    }

    /// Ready embeddings of the prompts, and of the negative prompts (one row for all or one for
    /// each), in place of the text encoder. The prompts' texts have no effect then.
    pub fn embeddings(mut self, prompts: PromptEmbeds, negatives: Option<PromptEmbeds>) -> Self {
        self.embeddings = Some((prompts, negatives));
        self
    }

    /// The prompts.
    pub fn prompts(&self) -> &[String] {
        &self.prompts
    }
}
