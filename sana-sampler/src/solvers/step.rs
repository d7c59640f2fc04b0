use burn::tensor::{DType, Tensor};

/// What an observer sees after each step of a solver.
#[derive(Debug, Clone)]
pub struct Step<const D: usize> {
    /// Number of this step, from 0.
    pub index: usize,
    /// Number of steps of the whole run.
    pub steps: usize,
    /// What the network was called with at this step: in `[0, 1000]` for a flow solver, in
    /// `[0, pi / 2]` for consistency sampling (TrigFlow).
    pub timestep: f64,
    /// The sample after the step, f32.
    pub latents: Tensor<D>,
    /// The solver's estimate of the clean sample, made from this step's prediction, f32. A
    /// preview decodes this one.
    pub denoised: Tensor<D>,
}

/// What an observer answers to a [`Step`], as it is or as the `Ok` of a `Result`.
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle; one answer exists at a time"
)]
#[derive(Debug, Clone)]
pub enum StepAction<const D: usize> {
    /// Continue with the next step.
    Continue,
    /// End the run here; the result is [`Step::denoised`].
    Stop,
    /// End the run here with this sample as the result. With [`Step::latents`] of a flow solver,
    /// [`FlowSchedule::from_index`](crate::FlowSchedule::from_index) of the next step continues the
    /// run later.
    StopWith(Tensor<D>),
    /// Continue from this sample in place of [`Step::latents`] (inpainting, clamping). After the
    /// last step it is the result. Earlier predictions kept by a multistep solver stay as they are.
    ContinueFrom(Tensor<D>),
    /// As [`ContinueFrom`](Self::ContinueFrom), and a multistep solver extrapolates from this
    /// estimate in place of [`Step::denoised`]. Where the sample moves to another path, as in
    /// inpainting, the estimate that the solver keeps has to move with it: otherwise the next steps
    /// add a multiple of the difference between the two paths.
    ContinueWith {
        /// The sample to continue from.
        latents: Tensor<D>,
        /// The clean sample on whose path it lies.
        denoised: Tensor<D>,
    },
}

/// An observer that cannot fail answers with the action alone.
impl<const D: usize, E> From<StepAction<D>> for Result<StepAction<D>, E> {
    fn from(action: StepAction<D>) -> Self {
        Ok(action)
    }
}

/// `tensor` as solvers hold it: in f32, and of the shape of the sample.
pub(crate) fn state<const D: usize>(
    name: &str,
    tensor: Tensor<D>,
    expected: [usize; D],
) -> Tensor<D> {
    let found = tensor.dims();
    assert!(
        found == expected,
        "{name} must have the shape of the sample {expected:?}, found {found:?}"
    );
    tensor.cast(DType::F32)
}
