/// What a schedule, an option or a training input can be refused for.
///
/// The solvers themselves fail only with the error of the caller's own closures: their inputs are
/// types that were checked when they were made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplerError {
    /// A run of no steps.
    #[error("a schedule needs at least one step, found 0")]
    ZeroSteps,

    /// More steps than a schedule may have, so many that timesteps hardly differ.
    #[error("a schedule has at most {maximum} steps, found {found}")]
    TooManySteps {
        /// The largest number allowed.
        maximum: usize,
        /// The number that was asked for.
        found: usize,
    },

    /// The flow shift is not a positive finite number.
    #[error("the flow shift must be positive and finite, found {found}")]
    InvalidShift {
        /// The shift that was asked for.
        found: f64,
    },

    /// An order that no solver here has.
    #[error("the solver order must be 1, 2 or 3, found {found}")]
    InvalidOrder {
        /// The order that was asked for.
        found: usize,
    },

    /// A list of timesteps or sigmas with fewer than two values, so without a step.
    #[error("a list of {name} needs at least 2 values, found {found}")]
    ScheduleTooShort {
        /// `sigmas` or `times`.
        name: &'static str,
        /// How many values were given.
        found: usize,
    },

    /// A timestep or sigma that is not a number of its range.
    #[error("{name}[{index}] must be in [0, {maximum}], found {found}")]
    ScheduleOutOfRange {
        /// `sigmas` or `times`.
        name: &'static str,
        /// Position in the list.
        index: usize,
        /// The largest value allowed.
        maximum: f64,
        /// The value given.
        found: f64,
    },

    /// Timesteps or sigmas that do not fall from each value to the next.
    #[error("{name} must decrease strictly, but {name}[{index}] = {found} follows {previous}")]
    ScheduleNotDecreasing {
        /// `sigmas` or `times`.
        name: &'static str,
        /// Position of the value that does not fall.
        index: usize,
        /// The value before it.
        previous: f64,
        /// The value itself.
        found: f64,
    },

    /// Timesteps of consistency sampling that stop before 0, where the image is.
    #[error("the last of the timesteps must be 0, found {found}")]
    ScheduleEnd {
        /// The last timestep given.
        found: f64,
    },

    /// The Sprint paper gives timesteps for 1, 2 and 4 steps only.
    #[error(
        "the paper gives timesteps for 1, 2 and 4 steps, found {found}: take one of these, or the \
         reference's timesteps"
    )]
    NoPaperTimesteps {
        /// The number of steps that was asked for.
        found: usize,
    },

    /// A name that no published timesteps have.
    #[error("no timesteps are named {found:?}, there are {}", known.join(" and "))]
    UnknownTimesteps {
        /// The name.
        found: String,
        /// The names there are.
        known: Vec<&'static str>,
    },

    /// A strength that is not in `(0, 1]`.
    #[error("the strength must be above 0 and at most 1, found {found}")]
    InvalidStrength {
        /// The strength given.
        found: f64,
    },

    /// A strength so small that no step is left.
    #[error(
        "a strength of {strength} runs none of {steps} steps: steps times strength must be at \
         least 1, so take more of one or the other"
    )]
    StrengthTooSmall {
        /// The strength given.
        strength: f64,
        /// Steps of the whole schedule.
        steps: usize,
    },

    /// A start beyond the last step of a schedule.
    #[error("cannot start at step {start} of a schedule of {steps} steps")]
    StartOutOfRange {
        /// The step that was asked for, counted from 0.
        start: usize,
        /// How many steps there are.
        steps: usize,
    },

    /// The standard deviation of the data is not a positive finite number.
    #[error("sigma_data must be positive and finite, found {found}")]
    InvalidSigmaData {
        /// The value given.
        found: f64,
    },

    /// The guidance scale is negative or not finite.
    #[error("the guidance scale must be finite and at least 0, found {found}")]
    InvalidGuidance {
        /// The scale given.
        found: f64,
    },

    /// The scale of perturbed attention guidance is negative or not finite.
    #[error("the scale of perturbed attention must be finite and at least 0, found {found}")]
    InvalidPerturbedScale {
        /// The scale given.
        found: f64,
    },

    /// An option of adaptive projected guidance out of its range.
    #[error("the {name} of adaptive projected guidance must be {range}, found {found}")]
    InvalidProjection {
        /// `eta`, `norm` or `momentum`.
        name: &'static str,
        /// What would do.
        range: &'static str,
        /// The value given.
        found: f64,
    },

    /// A guidance interval outside `[0, 1]`, reversed, or not a number.
    #[error("the guidance interval must satisfy 0 <= start <= end <= 1, found [{start}, {end}]")]
    InvalidInterval {
        /// Lower end given.
        start: f64,
        /// Upper end given.
        end: f64,
    },

    /// Parameters of a logit-normal distribution that describe none.
    #[error(
        "a logit-normal distribution needs a finite mean and a positive finite standard deviation, \
         found mean {mean} and standard deviation {std}"
    )]
    InvalidLogitNormal {
        /// Mean of the logit given.
        mean: f64,
        /// Standard deviation of the logit given.
        std: f64,
    },

    /// Two tensors that have to agree in shape do not.
    #[error("{name} must have the shape {expected:?}, found {found:?}")]
    ShapeMismatch {
        /// Which tensor.
        name: &'static str,
        /// The shape it had to have.
        expected: Vec<usize>,
        /// The shape it has.
        found: Vec<usize>,
    },

    /// Not one sigma for each sample of a batch.
    #[error("a batch of {batch} needs {batch} sigmas, found {found}")]
    SigmaCount {
        /// Samples in the batch.
        batch: usize,
        /// Sigmas given.
        found: usize,
    },

    /// A noise level of a sample that is not in `[0, 1]`.
    #[error("the sigma of sample {index} must be in [0, 1], found {found}")]
    SigmaOutOfRange {
        /// Sample of the batch.
        index: usize,
        /// The sigma given.
        found: f64,
    },
}
