//! Whether every step's prediction has finite values only, without a wait in every step.

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests;

use burn::tensor::{DType, Device, Tensor};
use sana_linear_attn::precision::is_cpu;

use crate::error::PipelineError;

/// When predictions are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Each at once, so that a run ends at the first that is not finite.
    EachStep,
    /// All together after the last step. Reading a value waits for all the work that is queued on a
    /// device, and a device that the host waits for in every step is idle while the next one
    /// is being queued.
    AfterTheRun,
}

impl When {
    /// What suits a device: the CPU computes as it is called, and has nothing to wait for. In a
    /// browser a step that is not waited for delays the page's own use of the GPU, and nothing is
    /// seen of the run before its end.
    pub fn on(device: &Device) -> Self {
        if is_cpu(device) || cfg!(target_family = "wasm") {
            Self::EachStep
        } else {
            Self::AfterTheRun
        }
    }
}

/// What the network was called with at one step. Small next to the network's own tensors (128 kB for
/// a megapixel), so that those of all steps can be kept until the run has been looked at.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// From 1.
    pub step: usize,
    pub latents: Tensor<4>,
    pub time: f64,
    pub sigma: f64,
}

/// Looks at the predictions of a run.
pub(super) struct FiniteCheck {
    when: When,
    /// Calls with the sum of their prediction's magnitudes, which lies on the device still.
    pending: Vec<(Call, Tensor<1>)>,
    /// How often values were read from the device.
    reads: usize,
}

impl FiniteCheck {
    pub fn new(when: When) -> Self {
        Self {
            when,
            pending: Vec::new(),
            reads: 0,
        }
    }

    /// Takes note of a prediction. The call comes back where it is known already that the
    /// prediction is not finite.
    pub async fn look(
        &mut self,
        prediction: Tensor<4>,
        call: Call,
    ) -> Result<Option<Call>, PipelineError> {
        self.pending.push((call, magnitude(prediction)));
        match self.when {
            When::EachStep => self.first().await,
            When::AfterTheRun => Ok(None),
        }
    }

    /// The first call, of those that were not looked at yet, whose prediction is not finite.
    pub async fn first(&mut self) -> Result<Option<Call>, PipelineError> {
        let (calls, sums): (Vec<_>, Vec<_>) = self.pending.drain(..).unzip();
        if sums.is_empty() {
            return Ok(None);
        }
        self.reads += 1;
        let sums = read(Tensor::cat(sums, 0)).await?;
        let bad = sums.iter().position(|sum| !sum.is_finite());
        Ok(bad.and_then(|index| calls.into_iter().nth(index)))
    }
}

/// Whether no element is NaN or infinite.
pub(super) async fn all_finite<const D: usize>(tensor: Tensor<D>) -> Result<bool, PipelineError> {
    let sum = read(magnitude(tensor)).await?;
    Ok(sum.iter().all(|sum| sum.is_finite()))
}

/// The sum of the magnitudes, which is finite where all elements are.
fn magnitude<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.cast(DType::F32).abs().sum()
}

async fn read(values: Tensor<1>) -> Result<Vec<f32>, PipelineError> {
    let failed = |reason| PipelineError::Device {
        doing: "reading a result",
        reason,
    };
    let data = values
        .into_data_async()
        .await
        .map_err(|error| failed(format!("{error:?}")))?;
    data.try_into_vec()
        .map_err(|error| failed(format!("{error:?}")))
}
