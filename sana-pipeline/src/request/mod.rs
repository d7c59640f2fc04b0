//! What to generate.

mod buckets;
mod control;
mod image_to_image;

use burn::tensor::Tensor;
use sana_linear_attn::transformer::PerturbedBlocks;
use sana_sampler::{AdaptiveProjection, Guidance, GuidanceInterval, ScmTimesteps};
use sana_text::{Instruction, PromptEmbeds, TextError};

use crate::checkpoint::{Schedule, Solver};
use crate::error::PipelineError;
use crate::pipeline::SanaPipeline;

use control::ControlRequest;
use image_to_image::Editing;

pub use buckets::Buckets;
pub use control::{ControlImage, ControlSettings};
pub(crate) use image_to_image::kept_cells;
pub use image_to_image::{EditError, EditSettings};

/// The largest side of a picture in pixels: four times what the largest released model makes.
const LARGEST_SIDE: usize = 16384;

/// The text that goes before the prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum InstructionChoice {
    /// The checkpoint's own: for published ones the reference's wording.
    #[default]
    Checkpoint,
    /// None.
    None,
    /// This one.
    Custom(Instruction),
}

/// How the size of the pictures is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum SizeChoice {
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
    pub(crate) prompts: Vec<String>,
    pub(crate) negatives: Vec<String>,
    size: Option<SizeChoice>,
    steps: Option<usize>,
    guidance: Option<f64>,
    guidance_interval: GuidanceInterval,
    perturbed_attention: f64,
    perturbed_blocks: Option<Vec<usize>>,
    projection: Option<AdaptiveProjection>,
    seed: u64,
    seeds: Option<Vec<u64>>,
    count: usize,
    solver: Option<Solver>,
    shift: Option<f64>,
    times: ScmTimesteps,
    schedule: Option<Schedule>,
    pub(crate) editing: Editing,
    pub(crate) instruction: InstructionChoice,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) latents: Option<Tensor<4>>,
    pub(crate) step_noise: Option<Vec<Tensor<4>>>,
    pub(crate) embeddings: Option<(PromptEmbeds, Option<PromptEmbeds>)>,
    pub(crate) control: ControlRequest,
}

/// A request with every default filled in, checked against a checkpoint.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Number of prompts.
    pub prompts: usize,
    /// Pictures per prompt.
    pub count: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[width, height]` in pixels that the pictures are resized and cropped to after decoding;
    /// `None` where they stay as they are.
    pub output_size: Option<[usize; 2]>,
    /// Scales of the guidance, and at which noise levels it is applied.
    pub guidance: Guidance,
    /// The blocks with perturbed attention; `None` without perturbed attention guidance.
    pub perturbed_blocks: Option<PerturbedBlocks>,
    /// Options of adaptive projected guidance; `None` where guidance is not projected.
    pub projection: Option<AdaptiveProjection>,
    /// The solver.
    pub solver: Solver,
    /// Its noise levels or times; in image-to-image those that run.
    pub schedule: Schedule,
    /// What image-to-image and inpainting do; `None` where pictures are made from noise alone.
    pub editing: Option<EditSettings>,
    /// Seed of the first picture.
    pub seed: u64,
    /// The seed of every picture, where they do not count up from the first.
    pub(crate) own_seeds: Option<Vec<u64>>,
    /// How the control picture is followed; `None` without one.
    pub control: Option<ControlSettings>,
    /// Whether every step runs the network for the negative prompt too.
    pub(crate) classifier_free: bool,
}

impl Settings {
    /// Number of steps that run.
    pub fn steps(&self) -> usize {
        self.schedule.steps()
    }

    /// Number of steps of the whole schedule, of which image-to-image runs the last
    /// [`steps`](Self::steps).
    pub fn schedule_steps(&self) -> usize {
        self.editing
            .map_or(self.steps(), |edit| edit.schedule_steps)
    }

    /// Number of pictures: prompts times pictures per prompt.
    pub fn pictures(&self) -> usize {
        self.prompts * self.count
    }

    /// The seed of every picture: its [own](Request::seeds), or `seed + i` for picture `i`. A
    /// request for it alone with that seed makes the same picture.
    pub fn seeds(&self) -> Vec<u64> {
        if let Some(seeds) = &self.own_seeds {
            return seeds.clone();
        }
        (0..self.pictures() as u64)
            .map(|picture| self.seed.wrapping_add(picture))
            .collect()
    }
}

impl Request {
    /// Pictures of one prompt.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self::batch([prompt])
    }

    /// Pictures of several prompts, made together.
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
            times: ScmTimesteps::Reference,
            schedule: None,
            editing: Editing::default(),
            instruction: InstructionChoice::Checkpoint,
            max_tokens: None,
            latents: None,
            step_noise: None,
            embeddings: None,
            control: ControlRequest::default(),
        }
    }

    /// What the pictures should be guided away from, the same for all prompts. Empty by default.
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

    /// The size of the nearest of the model's [buckets](SanaPipeline::buckets), resized and cropped
    /// to this size in pixels, each side from 1 to 16384: what the reference does by default
    /// (`use_resolution_binning`). In place of [`size`](Self::size).
    pub fn bucketed_size(mut self, width: usize, height: usize) -> Self {
        self.size = Some(SizeChoice::Bucket([width, height]));
        self
    }

    /// The size of the model's [bucket](SanaPipeline::buckets) whose aspect ratio is nearest to
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

    /// Perturbed attention guidance of this scale, finite and at least 0, beside classifier-free
    /// guidance or without it; see [`perturbed_attention_guidance`]. 0, the default, is none. Each
    /// step then runs the blocks from the first perturbed one on once more for each picture.
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

    /// Seed of the first picture's noise; picture `i` has `seed + i`. 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// A seed for each picture, those of a prompt one after the other, in place of
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

    /// Pictures per prompt; 1 by default.
    pub fn count(mut self, pictures: usize) -> Self {
        self.count = pictures;
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

    /// Published times of Sana-Sprint by name; the reference's by default. The paper's are for 1, 2
    /// and 4 steps of Sana-Sprint.
    pub fn times(mut self, times: ScmTimesteps) -> Self {
        self.times = times;
        self
    }

    /// Noise levels or times of one's own; `steps`, `shift` and `times` have no effect then.
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

    /// Initial latents, unit normal, in place of noise from the seed. With a picture they are the
    /// noise that is mixed with it.
    ///
    /// # Shapes
    /// - latents `[prompts * count, channels, height / 32, width / 32]`, pictures of a prompt one
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

    /// Fills in the checkpoint's defaults and checks everything against it.
    ///
    /// # Errors
    /// When there is nothing to make, a number is out of its range, the solver or the guidance does
    /// not fit the model, or a tensor does not fit the rest; see [`PipelineError`].
    pub fn validate(&self, pipeline: &SanaPipeline) -> Result<Settings, PipelineError> {
        let prompts = match &self.embeddings {
            Some((embeds, _)) => embeds.embeds.dims()[0],
            None => self.prompts.len(),
        };
        if prompts == 0 {
            return Err(PipelineError::NoPrompt);
        }
        if self.count == 0 {
            return Err(PipelineError::NoPictures);
        }
        if self.negatives.len() > 1 && self.negatives.len() != prompts {
            return Err(PipelineError::NegativeCount {
                expected: prompts,
                found: self.negatives.len(),
            });
        }
        let pictures = prompts.saturating_mul(self.count);
        let seeds = self.seeds.as_ref();
        if let Some(seeds) = seeds.filter(|seeds| seeds.len() != pictures) {
            return Err(PipelineError::SeedCount {
                expected: pictures,
                found: seeds.len(),
            });
        }
        if self.max_tokens == Some(0) {
            return Err(TextError::NoTokensKept.into());
        }
        let (output_size, [width, height]) = self.checked_size(pipeline)?;
        let defaults = pipeline.defaults();
        let guidance = Guidance::new(self.guidance.unwrap_or(defaults.guidance))?
            .with_perturbed_attention(self.perturbed_attention)?
            .with_interval(self.guidance_interval);
        let (solver, schedule) = self.checked_schedule(pipeline)?;
        let editing = self.editing.checked(prompts, [width, height], &schedule)?;
        if output_size.is_some() && editing.is_some_and(|editing| editing.masked) {
            return Err(EditError::MaskInBucket.into());
        }
        let schedule = match editing {
            Some(edit) => schedule.for_strength(edit.strength)?,
            None => schedule,
        };
        let embedded = pipeline.transformer_config().guidance_embeds || solver == Solver::Scm;
        if embedded {
            self.check_embedded_guidance()?;
        }
        let latents = {
            let compression = pipeline.compression();
            let channels = pipeline.transformer_config().in_channels;
            [channels, height / compression, width / compression]
        };
        let settings = Settings {
            prompts,
            count: self.count,
            width,
            height,
            output_size,
            guidance,
            perturbed_blocks: self.checked_perturbed_blocks(pipeline)?,
            projection: self.projection,
            solver,
            schedule,
            editing,
            seed: seeds.map_or(self.seed, |seeds| seeds[0]),
            own_seeds: self.seeds.clone(),
            control: self.control.validate(pipeline, prompts, latents)?,
            classifier_free: guidance.is_active() && !embedded,
        };
        self.check_tensors(pipeline, &settings)?;
        Ok(settings)
    }

    /// The size to resize to, if any, and the size to make.
    fn checked_size(
        &self,
        pipeline: &SanaPipeline,
    ) -> Result<(Option<[usize; 2]>, [usize; 2]), PipelineError> {
        let compression = pipeline.compression();
        let from_latents = self.latents.as_ref().map(|latents| {
            let [_, _, height, width] = latents.dims();
            [width * compression, height * compression]
        });
        let bucket = |ratio: f64| {
            let [height, width] = pipeline.buckets().nearest(ratio);
            [width, height]
        };
        let (output_size, [width, height]) = match self.size {
            None => {
                let from_picture = || self.editing.size(pipeline);
                let size = from_latents.or_else(from_picture);
                (None, size.unwrap_or(pipeline.defaults().size))
            }
            Some(SizeChoice::Exact(size)) => (None, size),
            Some(SizeChoice::Bucket([width, height])) => {
                let largest = LARGEST_SIDE;
                if !(1..=largest).contains(&width) || !(1..=largest).contains(&height) {
                    return Err(PipelineError::OutputSize {
                        width,
                        height,
                        largest,
                    });
                }
                let made = bucket(height as f64 / width as f64);
                (Some([width, height]).filter(|size| *size != made), made)
            }
            Some(SizeChoice::Aspect([width, height])) => {
                let positive = |number: f64| number > 0.0 && number.is_finite();
                if !positive(width) || !positive(height) {
                    return Err(PipelineError::Aspect { width, height });
                }
                (None, bucket(height / width))
            }
        };
        let multiple = pipeline.size_multiple();
        let largest = LARGEST_SIDE / multiple * multiple;
        let fits = |side: usize| (1..=largest).contains(&side) && side.is_multiple_of(multiple);
        if fits(width) && fits(height) {
            return Ok((output_size, [width, height]));
        }
        let nearest = |side: usize| {
            let rounded = side.min(largest).saturating_add(multiple / 2) / multiple * multiple;
            rounded.clamp(multiple, largest.max(multiple))
        };
        Err(PipelineError::Size {
            width,
            height,
            multiple,
            largest,
            nearest: [nearest(width), nearest(height)],
        })
    }

    /// Refuses guidance that needs more than one prediction.
    fn check_embedded_guidance(&self) -> Result<(), PipelineError> {
        let options = [
            (
                self.perturbed_attention > 0.0 || self.perturbed_blocks.is_some(),
                "perturbed attention guidance",
            ),
            (self.projection.is_some(), "adaptive projected guidance"),
            (
                self.guidance_interval != GuidanceInterval::FULL,
                "a guidance interval",
            ),
        ];
        match options.into_iter().find(|(asked, _)| *asked) {
            Some((_, option)) => Err(PipelineError::EmbeddedGuidance { option }),
            None => Ok(()),
        }
    }

    /// The blocks to perturb. Those that were asked for are checked in any case.
    fn checked_perturbed_blocks(
        &self,
        pipeline: &SanaPipeline,
    ) -> Result<Option<PerturbedBlocks>, PipelineError> {
        let config = pipeline.transformer_config();
        let blocks = match &self.perturbed_blocks {
            Some(indices) => config.perturbed_blocks(indices.iter().copied())?,
            None => config.perturbed_blocks([config.default_perturbed_block()])?,
        };
        Ok((self.perturbed_attention > 0.0).then_some(blocks))
    }

    fn checked_schedule(
        &self,
        pipeline: &SanaPipeline,
    ) -> Result<(Solver, Schedule), PipelineError> {
        let scheduler = pipeline.scheduler();
        let solver = self.solver.unwrap_or(scheduler.solver());
        scheduler.check_solver(solver)?;
        let Some(schedule) = &self.schedule else {
            let steps = self.steps.unwrap_or(pipeline.defaults().steps);
            let schedule = scheduler.named_schedule(solver, steps, self.shift, self.times)?;
            return Ok((solver, schedule));
        };
        // A grid of the other kind is as wrong as a solver of the other kind.
        scheduler.check_solver(match schedule {
            Schedule::Flow(_) => Solver::FlowEuler,
            Schedule::Scm(_) => Solver::Scm,
        })?;
        Ok((solver, schedule.clone()))
    }

    fn check_tensors(
        &self,
        pipeline: &SanaPipeline,
        settings: &Settings,
    ) -> Result<(), PipelineError> {
        let expected = pipeline.latent_shape(settings);
        let check = |what: &'static str, tensor: &Tensor<4>| match tensor.dims() {
            found if found == expected => Ok(()),
            found => Err(PipelineError::Shape {
                what,
                expected: expected.to_vec(),
                found: found.to_vec(),
            }),
        };
        if let Some(latents) = &self.latents {
            check("the initial latents", latents)?;
        }
        self.editing.check_latents(settings, expected)?;
        if let Some(noise) = &self.step_noise {
            let steps = settings.steps();
            let needed = if settings.solver == Solver::Scm {
                steps - 1
            } else {
                0
            };
            if noise.len() < needed {
                return Err(PipelineError::StepNoiseCount {
                    steps,
                    expected: needed,
                    found: noise.len(),
                });
            }
            noise
                .iter()
                .try_for_each(|noise| check("the step noise", noise))?;
        }
        if let Some((prompts, negatives)) = &self.embeddings {
            if !self.prompts.is_empty() && self.prompts.len() != settings.prompts {
                return Err(PipelineError::Shape {
                    what: "the prompt embeddings",
                    expected: shape_with_rows(prompts, self.prompts.len()),
                    found: prompts.embeds.dims().to_vec(),
                });
            }
            pipeline.check_conditioning(
                settings,
                prompts,
                negatives.as_ref().filter(|_| settings.classifier_free),
            )?;
        }
        Ok(())
    }
}

fn shape_with_rows(embeds: &PromptEmbeds, rows: usize) -> Vec<usize> {
    let [_, tokens, channels] = embeds.embeds.dims();
    vec![rows, tokens, channels]
}
