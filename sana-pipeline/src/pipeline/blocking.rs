//! Where a thread may wait.

use burn::tensor::Device;
use sana_linear_attn::precision::is_cpu;

/// Whether a thread may wait for a device. A browser lets none wait for its GPU.
pub(super) fn may_block(device: &Device) -> bool {
    cfg!(not(target_family = "wasm")) || is_cpu(device)
}
