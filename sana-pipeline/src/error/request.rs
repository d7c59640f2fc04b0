//! What can be wrong with a request.

use std::path::PathBuf;

use sana_linear_attn::transformer::PerturbedBlocksError;
use sana_sampler::{SamplerError, ScmTimesteps};

/// A request does not fit the model, or its parts do not fit each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A solver that cannot run the kind of model a checkpoint holds.
    #[error("the solver {solver} does not fit this checkpoint, which is sampled by {expected}")]
    SolverMismatch {
        /// The solver asked for.
        solver: String,
        /// The solvers that fit.
        expected: &'static str,
    },
    /// Timesteps of Sana-Sprint were requested of a flow model.
    #[error(
        "the {timesteps} timesteps are those of Sana-Sprint; this checkpoint is sampled by flow-dpm or \
         flow-euler: leave the schedule out or take `reference`"
    )]
    TimestepsMismatch {
        /// The timesteps requested.
        timesteps: ScmTimesteps,
    },
    /// A request without a prompt and without embeddings.
    #[error("nothing to generate: the request has no prompt")]
    NoPrompt,
    /// A prompt that is longer than any that is encoded, or recorded in an image.
    #[error(
        "the {what} has {bytes} bytes; at most {largest} are taken, of which a model reads the first \
         few hundred words"
    )]
    TextLength {
        /// Which text.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The largest length.
        largest: usize,
    },
    /// A request that keeps no token of its prompts.
    #[error("max_tokens is 0: at least 1 token of a prompt has to be kept")]
    NoTokensKept,
    /// A request for no images.
    #[error("nothing to generate: 0 images per prompt were asked for")]
    NoImages,
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
    /// An aspect ratio that is not two positive numbers.
    #[error("an aspect ratio is two positive numbers, found {width}:{height}")]
    Aspect {
        /// Width, in any unit.
        width: f64,
        /// Height, in the same unit.
        height: f64,
    },
    /// A size that an image cannot be resized to.
    #[error("size {width}x{height}: width and height must lie in 1 to {largest}")]
    OutputSize {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The largest side.
        largest: usize,
    },
    /// A scale of the second pass that is out of its range.
    #[error("the scale of the second pass must be above 1 and at most {largest}, found {scale}")]
    HiresScale {
        /// The scale asked for.
        scale: f64,
        /// The largest one.
        largest: f64,
    },
    /// A second pass together with what it cannot be together with.
    #[error("a second pass (hires) cannot be together with {with}")]
    HiresWith {
        /// Which setting.
        with: &'static str,
    },
    /// Another number of negative prompts than of prompts.
    #[error("{found} negative prompts for {expected} prompts: give one for all or one for each")]
    NegativeCount {
        /// Prompts of the request.
        expected: usize,
        /// Negative prompts of the request.
        found: usize,
    },
    /// Another number of seeds than of images.
    #[error("{found} seeds for {expected} images: give one for each")]
    SeedCount {
        /// Images of the request: prompts times images per prompt.
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
        "guidance {guidance} needs negative embeddings next to those of the prompts; \
         give both, or a guidance of 1"
    )]
    NoNegative {
        /// The guidance scale.
        guidance: f64,
    },
    /// A control image that no ControlNet is there for.
    #[error(
        "the request has a control image, but there is no ControlNet to follow it: name its \
         folder when the checkpoint is opened"
    )]
    NoControlNet,
    /// A ControlNet was asked for, and there is nothing that it could follow.
    #[error(
        "the ControlNet {} needs a control image; without one leave the ControlNet out",
        folder.display()
    )]
    NoControlImage {
        /// The ControlNet's folder.
        folder: PathBuf,
    },
    /// Another number of control images than of prompts.
    #[error("{found} control images for {expected} prompts: give one for all or one for each")]
    ControlCount {
        /// Prompts of the request.
        expected: usize,
        /// Control images of the request.
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
    /// An image without pixels.
    #[error("{what} has no pixels")]
    EmptyImage {
        /// Which image.
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
    /// The transformer does not have the blocks that perturbed attention was asked for in.
    #[error("{0}")]
    PerturbedBlocks(#[from] PerturbedBlocksError),
    /// Steps, schedule or guidance are impossible.
    #[error("{0}")]
    Sampler(#[from] SamplerError),
    /// An image or mask to work on does not fit the request.
    #[error("{0}")]
    ImageToImage(#[from] ImageToImageError),
}

/// Why images cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageToImageError {
    /// An option that works on an image, without one.
    #[error("{option} needs an image to work on")]
    NoImage {
        /// The option.
        option: &'static str,
    },
    /// Another number of images than of prompts.
    #[error("{found} images for {expected} prompts: give one for all or one for each")]
    ImageCount {
        /// Prompts of the request.
        expected: usize,
        /// Images of the request.
        found: usize,
    },
    /// An image without a pixel.
    #[error("image {index} has no pixels ({width}x{height})")]
    EmptyImage {
        /// Which of the request's images, from 0.
        index: usize,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// A mask of another size than the image it belongs to.
    #[error(
        "the mask has {}x{} pixels and the image {}x{}: a mask must have the size of its image",
        mask[0], mask[1], image[0], image[1]
    )]
    MaskSize {
        /// `[width, height]` of the mask.
        mask: [u32; 2],
        /// `[width, height]` of the image.
        image: [u32; 2],
    },
    /// A mask for images that are resized and cropped after they are decoded.
    #[error(
        "a mask keeps pixels as they are, and images of a bucket are resized afterwards: ask for \
         the exact size, multiples of what the model needs"
    )]
    MaskInBucket,
    /// A mask that leaves nothing to regenerate.
    #[error(
        "the mask has no white pixel in the {width}x{height} pixels of the image, so there is \
         nothing to regenerate: white is regenerated, black is kept"
    )]
    EmptyMask {
        /// Width of the image to make.
        width: usize,
        /// Height of the image to make.
        height: usize,
    },
}
