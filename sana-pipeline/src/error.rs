//! Everything that can go wrong between a checkpoint folder and a picture.

use std::fmt;
use std::path::{Path, PathBuf};

use sana_dcae::{DcAeError, DecoderPlace};
use sana_linear_attn::WeightError;
use sana_linear_attn::transformer::{
    ConfigError, ControlNetError, LoraError, PerturbedBlocksError, Place,
};
use sana_sampler::ScmTimesteps;
use sana_text::TextError;

use crate::checkpoint::Component;
use crate::memory::MemoryAdvice;
use crate::memory::estimate::advised;
#[cfg(feature = "scenes")]
use crate::scenes::SceneError;
use crate::units::human;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A checkpoint was asked for where there is no folder.
    #[error("no folder {}", path.display())]
    NoFolder {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder that holds no checkpoint.
    #[error(
        "{} is not a checkpoint folder: it has no model_index.json; a checkpoint in the diffusers \
         layout holds model_index.json and the folders scheduler, text_encoder, tokenizer, \
         transformer and vae", folder.display()
    )]
    NotCheckpoint {
        /// The folder.
        folder: PathBuf,
    },
    /// A checkpoint that lacks files its `model_index.json` promises.
    #[error("checkpoint {origin} is incomplete, it lacks {}", files.join(", "))]
    Incomplete {
        /// The checkpoint.
        origin: String,
        /// The files, relative to it.
        files: Vec<String>,
    },
    /// A JSON file that cannot be used.
    #[error("{origin} is not usable: {source}")]
    Json {
        /// The file.
        origin: String,
        /// The parser's reason.
        source: serde_json::Error,
    },
    /// A checkpoint of another kind of pipeline.
    #[error("{origin} holds a {found}, expected one of {}", expected.join(", "))]
    PipelineClass {
        /// Its `model_index.json`.
        origin: String,
        /// The class named there.
        found: String,
        /// The classes that this crate runs.
        expected: &'static [&'static str],
    },
    /// A part of a checkpoint is of a class that this crate does not implement.
    #[error("{part} of {origin} is a {found}, expected {}", expected.join(" or "))]
    PartClass {
        /// The part.
        part: Component,
        /// The checkpoint.
        origin: String,
        /// The class named in `model_index.json`.
        found: String,
        /// The classes that would do.
        expected: &'static [&'static str],
    },
    /// A part that is needed now, but that the checkpoint does not have.
    #[error("checkpoint {origin} has no {part}")]
    NoPart {
        /// The part.
        part: Component,
        /// The checkpoint.
        origin: String,
    },
    /// Weights were asked for of a part that never has any.
    #[error("a {part} has no weights")]
    PartWithoutWeights {
        /// The part.
        part: Component,
    },
    /// Two parts of a checkpoint do not fit each other.
    #[error("{component} has {found} {what}, the transformer expects {expected}")]
    ComponentsDiffer {
        /// The component that does not fit the transformer.
        component: Component,
        /// What is counted, such as `latent channels`.
        what: &'static str,
        /// The part's number.
        found: usize,
        /// The transformer's number.
        expected: usize,
    },
    /// A scheduler class that this crate does not implement.
    #[error("{origin} names the scheduler {found:?}, expected one of {}", expected.join(", "))]
    SchedulerClass {
        /// The scheduler's config.
        origin: String,
        /// The class.
        found: String,
        /// The classes that this crate implements.
        expected: &'static [&'static str],
    },
    /// An option of a scheduler with a value that this crate does not implement.
    #[error("{origin}: {option} is {found}, supported is {supported}")]
    SchedulerOption {
        /// The scheduler's config.
        origin: String,
        /// The option.
        option: &'static str,
        /// Its value as JSON.
        found: String,
        /// What would be possible.
        supported: String,
    },
    /// A solver that cannot run the kind of model a checkpoint holds.
    #[error("the solver {solver} does not fit this checkpoint, which is sampled by {expected}")]
    SolverMismatch {
        /// The solver asked for.
        solver: String,
        /// The solvers that fit.
        expected: &'static str,
    },
    /// Times of Sana-Sprint were asked for of a flow model.
    #[error(
        "the {times} times are those of Sana-Sprint; this checkpoint is sampled by flow-dpm or \
         flow-euler: leave the schedule out or take `reference`"
    )]
    TimesMismatch {
        /// The times asked for.
        times: ScmTimesteps,
    },
    /// A request without a prompt and without embeddings.
    #[error("nothing to generate: the request has no prompt")]
    NoPrompt,
    /// A request for no pictures.
    #[error("nothing to generate: 0 pictures per prompt were asked for")]
    NoPictures,
    /// A size in pixels that the model cannot make.
    #[error(
        "size {width}x{height}: width and height must be multiples of {multiple} from {multiple} \
         to {largest}; the nearest that works is {}x{}", nearest[0], nearest[1]
    )]
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// What both sides must be a multiple of.
        multiple: usize,
        /// The largest side.
        largest: usize,
        /// The nearest `[width, height]` that works.
        nearest: [usize; 2],
    },
    /// An aspect ratio that is none.
    #[error("an aspect ratio is two positive numbers, found {width}:{height}")]
    Aspect {
        /// Width, in any unit.
        width: f64,
        /// Height, in the same unit.
        height: f64,
    },
    /// A size that a picture cannot be resized to.
    #[error("size {width}x{height}: width and height must lie in 1 to {largest}")]
    OutputSize {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The largest side.
        largest: usize,
    },
    /// A request that does not fit into memory by the
    /// [estimate](crate::SanaPipeline::memory_estimate).
    #[error("needs {}, {} free: {}", human(*needs), human(*free), advised(advice))]
    Memory {
        /// Bytes that it needs where it is run in the way that takes least.
        needs: u64,
        /// Bytes that it may take.
        free: u64,
        /// Changes each of which would make it fit.
        advice: Vec<MemoryAdvice>,
    },
    /// Another number of negative prompts than of prompts.
    #[error("{found} negative prompts for {expected} prompts: give one for all or one for each")]
    NegativeCount {
        /// Prompts of the request.
        expected: usize,
        /// Negative prompts of the request.
        found: usize,
    },
    /// Another number of seeds than of pictures.
    #[error("{found} seeds for {expected} pictures: give one for each")]
    SeedCount {
        /// Pictures of the request: prompts times pictures per prompt.
        expected: usize,
        /// Seeds of the request.
        found: usize,
    },
    /// A tensor given with a request, or between two stages, that does not fit.
    #[error("{what} must have the shape {expected:?}, found {found:?}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// The shape it had to have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// Another number of noise tensors than the solver asks for.
    #[error("{steps} steps need {expected} tensors of step noise, found {found}")]
    StepNoiseCount {
        /// Steps of the request.
        steps: usize,
        /// Tensors that are needed at least.
        expected: usize,
        /// Tensors given.
        found: usize,
    },
    /// Guidance was asked for, but the negative embeddings are missing.
    #[error(
        "guidance {guidance} needs negative embeddings beside those of the prompts; \
         give both, or a guidance of 1"
    )]
    NoNegative {
        /// The guidance scale.
        guidance: f64,
    },
    /// A folder that was named as a ControlNet's, and is none.
    #[error(
        "{} holds no ControlNet: there is no config.json in it, nor a folder controlnet with one; \
         a ControlNet's folder has config.json and diffusion_pytorch_model.safetensors",
        folder.display()
    )]
    NotControlNet {
        /// The folder.
        folder: PathBuf,
    },
    /// A control picture that no ControlNet is there for.
    #[error(
        "the request has a control picture, but there is no ControlNet to follow it: name its \
         folder (--controlnet DIR, LoadOptions::controlnet)"
    )]
    NoControlNet,
    /// A ControlNet was asked for, and there is nothing that it could follow.
    #[error(
        "the ControlNet {} needs a control picture (--control IMG, Request::control); without one \
         leave the ControlNet out",
        folder.display()
    )]
    NoControlPicture {
        /// The ControlNet's folder.
        folder: PathBuf,
    },
    /// Another number of control pictures than of prompts.
    #[error("{found} control pictures for {expected} prompts: give one for all or one for each")]
    ControlCount {
        /// Prompts of the request.
        expected: usize,
        /// Control pictures of the request.
        found: usize,
    },
    /// A control scale out of its range.
    #[error("the control scale must be a finite number of at least 0, got {found}")]
    ControlScale {
        /// The scale.
        found: f64,
    },
    /// Steps with control that are no interval.
    #[error("the steps with control must be shares with 0 <= start < end <= 1, got {start}..{end}")]
    ControlInterval {
        /// Where it starts.
        start: f64,
        /// Where it ends.
        end: f64,
    },
    /// A picture without pixels.
    #[error("{what} has no pixels")]
    EmptyPicture {
        /// Which picture.
        what: &'static str,
    },
    /// Guidance of a kind that a model with embedded guidance (Sana-Sprint) does not have.
    #[error(
        "{option} combines several predictions of a step; this model (Sana-Sprint) makes one, with \
         the guidance scale as an input"
    )]
    EmbeddedGuidance {
        /// What was asked for.
        option: &'static str,
    },
    /// The network's output at a step is not finite.
    #[error(
        "step {step} of {steps} (timestep {timestep}) gave values that are not finite{}; \
         try another dtype ({dtype} was used), and look for such weights with sana inspect --check",
        first_in(place)
    )]
    StepNotFinite {
        /// The step, from 1.
        step: usize,
        /// All steps.
        steps: usize,
        /// The time the network was called with.
        timestep: f64,
        /// The first part of the network with such a value; `None` when the network's own output
        /// was finite, and what was made of it not.
        place: Option<Place>,
        /// Dtype of the transformer.
        dtype: String,
    },
    /// The output of another stage is not finite.
    #[error(
        "the {stage} stage gave values that are not finite{}; try another dtype ({dtype} was \
         used), and look for such weights with sana inspect --check",
        first_in(place)
    )]
    NotFinite {
        /// The stage.
        stage: &'static str,
        /// The first layer of the decoder with such a value, where it was found.
        place: Option<DecoderPlace>,
        /// Dtype of its network.
        dtype: String,
    },
    /// A picture file that cannot be read.
    #[error("cannot read the picture {}: {reason}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        reason: String,
    },
    /// Two pictures that are compared differ in size.
    #[error("pictures of {}x{} and {}x{} pixels cannot be compared", left[0], left[1], right[0], right[1])]
    PictureSizes {
        /// `[width, height]` of the one.
        left: [u32; 2],
        /// `[width, height]` of the other.
        right: [u32; 2],
    },
    /// A sheet of no pictures.
    #[error("no pictures to put on a sheet")]
    EmptyGrid,
    /// More pictures than a sheet can show.
    #[error(
        "{pictures} pictures in {columns} columns, with gaps, do not fit on a sheet of {largest} \
         pixels: put fewer on one, in more or fewer columns"
    )]
    GridSize {
        /// Pictures.
        pictures: usize,
        /// Pictures in a row.
        columns: usize,
        /// The most pixels of a sheet.
        largest: u64,
    },
    /// A keyword of a PNG text chunk that the format does not allow.
    #[error(
        "{keyword:?} cannot be the keyword of a PNG text chunk: 1 to 79 Latin-1 characters are"
    )]
    TextKeyword {
        /// The keyword.
        keyword: String,
    },
    /// A name that is no released variant's.
    #[error("no variant {found:?}, the released ones are {}", known.join(", "))]
    UnknownVariant {
        /// The name.
        found: String,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// A checkpoint was to be written where one is already.
    #[error("{} holds a checkpoint already; choose another folder", folder.display())]
    CheckpointExists {
        /// The folder.
        folder: PathBuf,
    },
    /// A dtype that weights cannot be written in.
    #[error("weights cannot be written as {found}, supported are f32, f16 and bf16")]
    WeightDtype {
        /// The dtype.
        found: String,
    },
    /// Something needs the built-in checkpoint, which this build leaves out.
    #[error("{needs} needs the built-in checkpoint: build with the feature scenes-model")]
    NoBuiltIn {
        /// What needs it.
        needs: &'static str,
    },
    /// The device failed.
    #[error("the device failed while {doing}: {reason}")]
    Device {
        /// What was going on.
        doing: &'static str,
        /// The backend's reason.
        reason: String,
    },
    /// The observer of the steps failed.
    #[error("the observer of the steps failed")]
    Observer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The config of the transformer or the ControlNet is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A ControlNet cannot steer the transformer.
    #[error(transparent)]
    ControlNet(#[from] ControlNetError),
    /// The transformer does not have the blocks that perturbed attention was asked for in.
    #[error(transparent)]
    PerturbedBlocks(#[from] PerturbedBlocksError),
    /// A part's weights are not usable.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A LoRA cannot be applied to the transformer.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The tokenizer or the text encoder failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The autoencoder failed.
    #[error(transparent)]
    Autoencoder(#[from] DcAeError),
    /// Steps, schedule or guidance are impossible.
    #[error(transparent)]
    Sampler(#[from] sana_sampler::SamplerError),
    /// A picture or mask to work on does not fit the request.
    #[error(transparent)]
    ImageToImage(#[from] ImageToImageError),
    /// An image cannot be evaluated by the scene language.
    #[cfg(feature = "scenes")]
    #[error(transparent)]
    Scene(#[from] SceneError),
}

/// Why pictures to work on cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageToImageError {
    /// An option that works on a picture, without one.
    #[error("{option} needs a picture to work on: give an image too")]
    NoImage {
        /// The option.
        option: &'static str,
    },
    /// Another number of pictures than of prompts.
    #[error("{found} pictures for {expected} prompts: give one for all or one for each")]
    ImageCount {
        /// Prompts of the request.
        expected: usize,
        /// Pictures of the request.
        found: usize,
    },
    /// A picture without a pixel.
    #[error("picture {index} has no pixels ({width}x{height})")]
    EmptyImage {
        /// Which of the request's pictures, from 0.
        index: usize,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// A mask of another size than the picture it belongs to.
    #[error(
        "the mask has {}x{} pixels and the picture {}x{}: a mask must have the size of its picture",
        mask[0], mask[1], image[0], image[1]
    )]
    MaskSize {
        /// `[width, height]` of the mask.
        mask: [u32; 2],
        /// `[width, height]` of the picture.
        image: [u32; 2],
    },
    /// A mask for pictures that are resized and cropped after they are decoded.
    #[error(
        "a mask keeps pixels as they are, and pictures of a bucket are resized afterwards: ask for \
         the exact size, multiples of what the model needs"
    )]
    MaskInBucket,
    /// A mask that leaves nothing to draw.
    #[error(
        "the mask has no white pixel in the {width}x{height} pixels of the picture, so there is \
         nothing to draw: white is drawn anew, black stays"
    )]
    EmptyMask {
        /// Width of the picture to make.
        width: usize,
        /// Height of the picture to make.
        height: usize,
    },
}

/// Where the first value that is not finite was found, for the middle of a sentence.
fn first_in(place: &Option<impl fmt::Display>) -> String {
    place
        .as_ref()
        .map_or_else(String::new, |place| format!(", first in {place}"))
}

impl PipelineError {
    /// That this file cannot be written, of the system's reason.
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Write {
            path: path.to_path_buf(),
            source,
        }
    }
}
