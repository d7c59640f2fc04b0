//! What a request may take of a device's memory.

use sana_linear_attn::gpu::DeviceMemory;

use super::estimate::{MemoryEstimate, Way};
use crate::error::Shortage;

/// What a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes altogether.
    pub free: u64,
    /// Bytes of one tensor.
    pub allocation: u64,
}

impl Limits {
    /// Of a budget and, on a GPU, its memory.
    pub fn new(budget: Option<u64>, device: Option<DeviceMemory>) -> Self {
        Self {
            free: budget.unwrap_or(u64::MAX),
            allocation: device.map_or(u64::MAX, |device| device.largest_allocation),
        }
    }

    pub fn allow(self, estimate: &MemoryEstimate, way: Way) -> bool {
        estimate.need(way) <= self.free && estimate.largest_tensor(way.in_tiles) <= self.allocation
    }

    /// What keeps a way that is not allowed from fitting.
    pub fn shortage(self, estimate: &MemoryEstimate, way: Way) -> Shortage {
        let needs = estimate.need(way);
        if needs > self.free {
            return Shortage {
                needs,
                free: self.free,
                single_tensor: false,
            };
        }
        Shortage {
            needs: estimate.largest_tensor(way.in_tiles),
            free: self.allocation,
            single_tensor: true,
        }
    }
}

/// The budget of a GPU: its memory, a tenth of which is kept free for what is not counted, such as what the
/// pools of freed memory lose between tensors of different sizes.
pub(crate) fn device_budget(device: DeviceMemory) -> Option<u64> {
    Some(device.total? / 10 * 9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::shortage;
    use crate::memory::StageEstimate;

    const GB: u64 = 1_000_000_000;

    /// Weights of 3 GB and an image whose decoding takes 6 GB whole, with a tensor of 2 GB, and 1 GB in
    /// tiles.
    fn estimate() -> MemoryEstimate {
        let decode = |activations, largest_tensor| StageEstimate {
            name: "decode",
            weights: 3 * GB,
            activations,
            largest_tensor,
        };
        MemoryEstimate {
            stages: vec![decode(6 * GB, 2 * GB)],
            decode_in_tiles: decode(GB, GB / 4),
        }
    }

    fn way(in_tiles: bool) -> Way {
        Way {
            one_stage: false,
            in_tiles,
        }
    }

    fn limits(total: u64) -> Limits {
        let device = DeviceMemory {
            total: Some(total),
            largest_allocation: total / 4,
        };
        Limits::new(device_budget(device), Some(device))
    }

    #[test]
    fn a_gpu_of_12_gb_has_the_image_whole() {
        assert!(limits(12 * GB).allow(&estimate(), way(false)));
    }

    #[test]
    fn a_gpu_of_8_gb_has_it_in_tiles() {
        let limits = limits(8 * GB);
        assert!(!limits.allow(&estimate(), way(false)));
        assert!(limits.allow(&estimate(), way(true)));
        let short = limits.shortage(&estimate(), way(false));
        assert!(
            !short.single_tensor && short.free == 8 * GB / 10 * 9,
            "{short:?}"
        );
    }

    /// All of it fits, and one tensor does not.
    #[test]
    fn one_tensor_is_at_most_what_the_device_gives_at_once() {
        let device = DeviceMemory {
            total: None,
            largest_allocation: GB,
        };
        let limits = Limits::new(device_budget(device), Some(device));
        assert!(!limits.allow(&estimate(), way(false)));
        assert!(limits.allow(&estimate(), way(true)));
        let words = shortage(limits.shortage(&estimate(), way(false)));
        assert!(words.starts_with("a single tensor needs 2"), "{words}");
        assert!(words.contains("at once"), "{words}");
    }

    #[test]
    fn nothing_known_is_no_limit() {
        assert!(Limits::new(None, None).allow(&estimate(), way(false)));
    }
}
