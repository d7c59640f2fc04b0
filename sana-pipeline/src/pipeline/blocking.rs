//! Where a thread may wait.

use burn::tensor::Device;
use sana_linear_attn::precision::is_cpu;

use crate::error::PipelineError;

/// Whether a thread may wait for a device. A browser lets none wait for its GPU.
pub(super) fn may_block(device: &Device) -> bool {
    cfg!(not(target_family = "wasm")) || is_cpu(device)
}

/// Waits for a device, where the thread may.
pub(super) fn sync(device: &Device, doing: &'static str) -> Result<(), PipelineError> {
    if !may_block(device) {
        return Ok(());
    }
    device.sync().map_err(|error| PipelineError::Device {
        doing,
        reason: format!("{error:?}"),
    })
}
