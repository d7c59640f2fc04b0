//! The backends that a build may have, what they need, and the devices they list.

use burn::tensor::{Device, DeviceKind, DeviceType, Devices};

use super::probe::probe;

/// A backend of burn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Cuda,
    Rocm,
    Metal,
    Vulkan,
    Wgpu,
    Flex,
}

/// A device that a backend offers.
pub struct Listed {
    pub device: Device,
    /// Whether it is a graphics API on the CPU, such as Mesa's llvmpipe.
    pub software: bool,
}

impl Backend {
    /// All of them, in the order in which one is chosen when the user names none.
    pub const ALL: [Self; 6] = [
        Self::Cuda,
        Self::Rocm,
        Self::Metal,
        Self::Vulkan,
        Self::Wgpu,
        Self::Flex,
    ];

    /// Its name, which is also that of the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Metal => "metal",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Flex => "flex",
        }
    }

    /// Whether its cargo feature is on.
    pub fn is_built(self) -> bool {
        match self {
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Rocm => cfg!(feature = "rocm"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Flex => cfg!(feature = "flex"),
        }
    }

    /// What its devices are.
    pub fn hardware(self) -> &'static str {
        match self {
            Self::Cuda => "NVIDIA GPUs",
            Self::Rocm => "AMD GPUs",
            Self::Metal => "GPUs of Macs",
            Self::Vulkan => "GPUs with a Vulkan driver",
            Self::Wgpu => "GPUs with Vulkan, Metal or DirectX 12, without SPIR-V shaders",
            Self::Flex => "the CPU, all cores",
        }
    }

    /// What burn looks for when it opens a device.
    pub fn looked_for(self) -> &'static str {
        match self {
            Self::Cuda => {
                "the NVIDIA driver, R570 or newer (libcuda.so.1, nvcuda.dll), a GPU that it lists, \
                 and libdevice.10.bc in nvvm/libdevice under $CUDA_PATH, /usr/local/cuda, /opt/cuda, \
                 /usr/lib/cuda or /usr"
            }
            Self::Rocm => "the HIP runtime (libamdhip64.so) and a GPU that it lists",
            Self::Metal => "macOS and a GPU with Metal",
            Self::Vulkan => {
                "the Vulkan loader (libvulkan.so.1, vulkan-1.dll) and a driver with a GPU"
            }
            Self::Wgpu => "a GPU with Vulkan, Metal, DirectX 12 or OpenGL",
            Self::Flex => "a CPU",
        }
    }

    /// What brings what was looked for.
    pub fn to_install(self) -> &'static str {
        match self {
            Self::Cuda => {
                "the NVIDIA driver (`nvidia-smi` must list the GPU); for libdevice the CUDA \
                 toolkit, or its package nvidia-cuda-nvcc with CUDA_PATH set to the folder that \
                 has nvvm"
            }
            Self::Rocm => "ROCm (`rocminfo` must list the GPU)",
            Self::Metal => "nothing: Metal comes with macOS",
            Self::Vulkan | Self::Wgpu => {
                "the driver of the GPU's maker, or on Debian and Ubuntu the packages libvulkan1 \
                 and mesa-vulkan-drivers (`vulkaninfo --summary` must list the GPU)"
            }
            Self::Flex => "nothing",
        }
    }

    /// The devices that the backend lists on this machine, GPUs first.
    pub fn list(self) -> Vec<Listed> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => compute(Device::enumerate(DeviceType::Cuda)),
            #[cfg(feature = "rocm")]
            Self::Rocm => compute(Device::enumerate(DeviceType::Rocm)),
            #[cfg(feature = "metal")]
            Self::Metal => graphics(Device::enumerate(DeviceType::Metal), Device::metal),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => graphics(Device::enumerate(DeviceType::Vulkan), Device::vulkan),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => graphics(Device::enumerate(DeviceType::Wgpu), Device::wgpu),
            #[cfg(feature = "flex")]
            Self::Flex => compute(Device::enumerate(DeviceType::Flex)),
            #[allow(
                unreachable_patterns,
                reason = "all are there when all features are on"
            )]
            _ => Vec::new(),
        }
    }
}

impl Listed {
    /// Whether it works, found out by using it.
    ///
    /// # Errors
    /// What the device or its driver said.
    pub fn probe(&self) -> Result<(), String> {
        if self.software && cfg!(feature = "vulkan") {
            // Mesa's llvmpipe dies on them, and with it the process.
            return Err(
                "it is the CPU in place of a GPU, which cannot run the SPIR-V shaders of \
                 this build: use flex, or wgpu in a build without the cargo feature vulkan"
                    .to_owned(),
            );
        }
        probe(&self.device)
    }
}

/// Devices of a backend that has nothing but hardware.
#[allow(dead_code, reason = "not every set of features has one")]
fn compute(devices: Devices) -> Vec<Listed> {
    let listed = |device| Listed {
        device,
        software: false,
    };
    devices.into_iter().map(listed).collect()
}

/// Devices of a graphics API, those on a GPU first and those in software last.
#[allow(dead_code, reason = "not every set of features has one")]
fn graphics(devices: Devices, of_kind: impl Fn(DeviceKind) -> Device) -> Vec<Listed> {
    let software = of_kind(DeviceKind::Cpu);
    let rank = |device: &Device| {
        let is = |kind: fn(usize) -> DeviceKind| {
            (0..devices.len()).any(|index| of_kind(kind(index)) == *device)
        };
        if *device == software {
            4
        } else if is(DeviceKind::DiscreteGpu) {
            0
        } else if is(DeviceKind::IntegratedGpu) {
            1
        } else if is(DeviceKind::VirtualGpu) {
            2
        } else {
            3
        }
    };
    let mut devices = devices.to_vec();
    devices.sort_by_cached_key(rank);
    let listed = |device| Listed {
        software: device == software,
        device,
    };
    devices.into_iter().map(listed).collect()
}

/// The names of the backends in this build.
pub fn built() -> String {
    let built = Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_built());
    match built.map(Backend::name).collect::<Vec<_>>() {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    }
}
