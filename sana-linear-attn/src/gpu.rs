//! What burn's GPU backends tell of a device, and what they keep on disk.

use std::path::PathBuf;

use burn::tensor::Device;

/// The memory of a GPU, as its driver states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// All of it, in bytes, other programs' included; `None` where the backend has no figure.
    pub total: Option<u64>,
    /// Most bytes of one allocation: a quarter of it on CUDA and ROCm, the largest buffer
    /// elsewhere.
    pub largest_allocation: u64,
}

impl DeviceMemory {
    /// That of a device; `None` for the CPU.
    pub fn of(device: &Device) -> Option<Self> {
        #[cfg(feature = "cubecl-backend")]
        if let burn::backend::DispatchDevice::Cube(device) =
            device.clone().without_autodiff().as_dispatch()
        {
            let client = device.client();
            let memory = &client.properties().memory;
            return Some(Self {
                total: memory.max_memory(),
                largest_allocation: memory.max_page_size,
            });
        }
        let _ = device;
        None
    }
}

/// Where a process keeps what it made for its GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelCache {
    /// The database of tuning results, and of compiled kernels where these are kept.
    pub path: PathBuf,
    /// Whether compiled kernels are kept.
    pub compiled: bool,
}

/// Has compiled kernels kept on disk, next to the tuning results, so that the next process does not
/// compile them again. A `cubecl.toml`, or a `burn.toml`, in the folder that the process runs in or in one
/// above decides by itself: nothing is changed then.
///
/// For programs, before their first use of a device: later calls change nothing. `None` in a build
/// without GPU backends.
pub fn keep_compiled_kernels() -> Option<KernelCache> {
    #[cfg(all(feature = "cubecl-backend", not(target_family = "wasm")))]
    {
        use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        if !is_configured() {
            config.compilation.cache = true;
        }
        // False where something has read the configuration before; what that says holds.
        let _ = CubeClRuntimeConfig::try_set(config);
        Some(KernelCache {
            path: burn_cubecl::cubecl::environment::path(),
            compiled: CubeClRuntimeConfig::get().compilation.cache,
        })
    }
    #[cfg(not(all(feature = "cubecl-backend", not(target_family = "wasm"))))]
    None
}

/// Whether a file of the user's configures CubeCL.
#[cfg(all(feature = "cubecl-backend", not(target_family = "wasm")))]
fn is_configured() -> bool {
    use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    let own = CubeClRuntimeConfig::file_names().iter();
    let sections = CubeClRuntimeConfig::section_file_names().iter();
    let names: Vec<&str> = own
        .copied()
        .chain(sections.map(|(name, _)| *name))
        .collect();
    let Ok(folder) = std::env::current_dir() else {
        return false;
    };
    let holds = |folder: &std::path::Path| names.iter().any(|name| folder.join(name).is_file());
    folder.ancestors().any(holds)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;
    use crate::parity::device;

    /// A GPU reports its memory; the CPU has none to report.
    #[test]
    fn gpus_tell_their_memory() {
        assert_eq!(DeviceMemory::of(&Device::flex()), None);
        let device = device();
        if device != Device::flex() {
            let memory = DeviceMemory::of(&device).unwrap();
            assert!(memory.largest_allocation >= 1 << 20, "{memory:?}");
            assert!(
                memory
                    .total
                    .is_none_or(|total| total >= memory.largest_allocation)
            );
        }
    }

    /// Without a configuration of CubeCL, in whose folders the tests are not run.
    #[test]
    fn asked_twice_the_place_of_kernels_is_the_same() {
        #[cfg(feature = "cubecl-backend")]
        assert!(!is_configured());
        let cache = keep_compiled_kernels();
        assert_eq!(cache.is_some(), cfg!(feature = "cubecl-backend"));
        assert_eq!(keep_compiled_kernels(), cache, "asked again");
        if let Some(cache) = cache {
            assert!(cache.path.is_absolute(), "{cache:?}");
        }
    }
}
