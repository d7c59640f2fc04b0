//! Devices by name, opened and probed.

mod backends;
mod probe;

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, bail};
use burn::tensor::{DType, Device};
use sana_linear_attn::gpu::keep_compiled_kernels;

use self::backends::{Listed, built};
use crate::terminal::{Lines, warning};

pub use self::backends::Backend;
pub use self::probe::catch;

/// A device as the user names it: `cuda`, `cuda:1`, `flex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    pub backend: Backend,
    pub index: usize,
}

/// Why a device cannot be opened.
enum Problem {
    /// The cargo feature of its backend is off.
    NotBuilt,
    /// No such device, or it does not work: what the backend or its driver said.
    Unusable(String),
    /// The backend has only so many.
    Beyond(usize),
}

/// A device that works.
pub struct OpenDevice {
    pub name: DeviceName,
    pub device: Device,
}

impl DeviceName {
    /// Whether it computes on the processor's cores.
    pub fn is_cpu(self) -> bool {
        self.backend == Backend::Flex
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            Backend::Flex if self.index == 0 => f.write_str("flex"),
            backend => write!(f, "{}:{}", backend.name(), self.index),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, index.parse().ok()),
            None => (text, Some(0)),
        };
        let backend = Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == name);
        match (backend, index) {
            (Some(backend), Some(index)) => Ok(Self { backend, index }),
            _ => Err(format!(
                "devices are flex (the CPU), cuda, rocm, metal, vulkan and wgpu, with :N for the \
                 N-th of several from 0 on, such as cuda:1; this build has {}",
                built()
            )),
        }
    }
}

impl OpenDevice {
    /// Opens the device of that name, or without a name the first GPU that works, else the CPU.
    ///
    /// # Errors
    /// When the backend is not in this build, or the device is not there or does not work: what
    /// was looked for, what to install, and what else there is.
    pub fn open(name: Option<DeviceName>) -> anyhow::Result<Self> {
        // Before a backend reads where to keep them.
        let _ = keep_compiled_kernels();
        match name {
            Some(name) => Self::named(name),
            None => Self::first_that_works(),
        }
    }

    fn named(name: DeviceName) -> anyhow::Result<Self> {
        let DeviceName { backend, index } = name;
        let refused = |problem: Problem, count: usize| {
            Error::new(Lines::of(&refusal(name, &problem, &others(name, count))))
        };
        if !backend.is_built() {
            return Err(refused(Problem::NotBuilt, 0));
        }
        let mut devices =
            catch(|| backend.list()).map_err(|reason| refused(Problem::Unusable(reason), 0))?;
        match devices.len() {
            0 => {
                let reason = format!("{} finds no device", backend.name());
                Err(refused(Problem::Unusable(reason), 0))
            }
            count if index >= count => Err(refused(Problem::Beyond(count), count)),
            count => {
                let listed = devices.swap_remove(index);
                let unusable = |reason| refused(Problem::Unusable(reason), count);
                listed.probe().map_err(unusable)?;
                Ok(Self {
                    name,
                    device: listed.device,
                })
            }
        }
    }

    /// Warns on stderr of those that were tried before and do not work.
    fn first_that_works() -> anyhow::Result<Self> {
        for backend in Backend::ALL {
            let devices = catch(|| backend.list()).unwrap_or_else(|reason| {
                warning(format!("{} does not work: {reason}", backend.name()));
                Vec::new()
            });
            let hardware = |(_, listed): &(usize, Listed)| !listed.software;
            for (index, listed) in devices.into_iter().enumerate().filter(hardware) {
                let name = DeviceName { backend, index };
                match listed.probe() {
                    Err(reason) => warning(format!("{name} does not work: {reason}")),
                    Ok(()) => {
                        return Ok(Self {
                            name,
                            device: listed.device,
                        });
                    }
                }
            }
        }
        bail!(
            "found no GPU that works, and the CPU is not in this build, which has {}: build with \
             the cargo feature flex to use it, and see `sana devices`",
            built()
        )
    }

    /// Checks that the device computes in `dtype`.
    ///
    /// # Errors
    /// When it does not: the types that it does compute in.
    pub fn check_dtype(&self, dtype: DType) -> anyhow::Result<()> {
        if self.device.supports_dtype(dtype) {
            return Ok(());
        }
        bail!(
            "device {} does not compute in {}, but in {}: choose one of those with --dtype",
            self.name,
            dtype_name(dtype),
            dtypes(&self.device)
        )
    }
}

/// Why the device cannot be opened, what was looked for, what to do, and what else there is, a line
/// each.
fn refusal(name: DeviceName, problem: &Problem, others: &[DeviceName]) -> String {
    let backend = name.backend;
    let feature = backend.name();
    let message = match problem {
        Problem::NotBuilt => format!(
            "device {name} is not in this build\n  looked for: the cargo feature {feature}, for \
             {}\n  to do: build with it, as in `cargo build --release --features {feature}`\n  \
             to install: {}",
            backend.hardware(),
            backend.to_install()
        ),
        Problem::Unusable(reason) => {
            format!(
                "device {name} cannot be used: {reason}\n{}",
                remedy(backend)
            )
        }
        Problem::Beyond(count) => {
            format!("there is no device {name}: {feature} has {count}, counted from 0")
        }
    };
    let others = match others {
        [] => "none".to_owned(),
        others => {
            let names: Vec<String> = others.iter().map(DeviceName::to_string).collect();
            format!("{} (`sana devices` shows which work)", names.join(", "))
        }
    };
    format!("{message}\n  other devices of this build: {others}")
}

/// The devices that this build lists besides `name`, whose backend has `count`.
fn others(name: DeviceName, count: usize) -> Vec<DeviceName> {
    let of = |backend: Backend| {
        let count = if backend == name.backend {
            count
        } else {
            catch(|| backend.list().len()).unwrap_or(0)
        };
        (0..count).map(move |index| DeviceName { backend, index })
    };
    let all = Backend::ALL.into_iter().flat_map(of);
    all.filter(|other| *other != name).collect()
}

/// What was looked for and what to install, a line each.
pub fn remedy(backend: Backend) -> String {
    format!(
        "  looked for: {}\n  to install: {}",
        backend.looked_for(),
        backend.to_install()
    )
}

/// What the driver calls the device.
#[cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
pub fn identity(device: &Device) -> Option<String> {
    let identity = catch(|| device.identity()).ok().flatten();
    identity.map(|identity| identity.name)
}

/// What the driver calls the device; the CPU has none.
#[cfg(not(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
)))]
pub fn identity(_: &Device) -> Option<String> {
    None
}

/// The types that the device computes in.
pub fn dtypes(device: &Device) -> String {
    let all = [DType::F32, DType::BF16, DType::F16].into_iter();
    let supported = all.filter(|dtype| device.supports_dtype(*dtype));
    supported.map(dtype_name).collect::<Vec<_>>().join(", ")
}

fn dtype_name(dtype: DType) -> String {
    format!("{dtype:?}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |backend, index| Ok(DeviceName { backend, index });
        assert_eq!("flex".parse(), name(Backend::Flex, 0));
        assert_eq!("cuda".parse(), name(Backend::Cuda, 0));
        assert_eq!("vulkan:2".parse(), name(Backend::Vulkan, 2));
        for wrong in [
            "", "tpu", "cuda:", "cuda:x", "cuda:-1", ":0", "CUDA", "cuda:0:0",
        ] {
            let error = wrong.parse::<DeviceName>().unwrap_err();
            assert!(
                error.contains("flex (the CPU), cuda, rocm, metal, vulkan and wgpu"),
                "{wrong}"
            );
        }
    }

    /// Every line that a user needs is in the message, whatever this build and machine have.
    #[test]
    fn refusals_say_what_to_do_and_what_else_there_is() {
        let there: [DeviceName; 2] = ["flex", "cuda:3"].map(|name| name.parse().unwrap());
        let listed = "\n  other devices of this build: flex, cuda:3 (`sana devices` shows";
        for backend in Backend::ALL {
            let name = DeviceName { backend, index: 0 };
            let (feature, install) = (backend.name(), backend.to_install());

            let message = refusal(name, &Problem::NotBuilt, &there);
            let expected = [
                format!("device {name} is not in this build\n"),
                format!("looked for: the cargo feature {feature}, for "),
                backend.hardware().to_owned(),
                format!("to do: build with it, as in `cargo build --release --features {feature}`"),
                format!("to install: {install}\n"),
                listed.to_owned(),
            ];
            for part in expected {
                assert!(message.contains(&part), "no {part:?} in: {message}");
            }

            let message = refusal(name, &Problem::Unusable("no driver".to_owned()), &there);
            let expected = [
                format!("device {name} cannot be used: no driver\n"),
                format!("looked for: {}\n", backend.looked_for()),
                format!("to install: {install}\n"),
                listed.to_owned(),
            ];
            for part in expected {
                assert!(message.contains(&part), "no {part:?} in: {message}");
            }

            let message = refusal(name, &Problem::Beyond(2), &[]);
            let expected = format!(
                "there is no device {name}: {feature} has 2, counted from 0\n  other devices of \
                 this build: none"
            );
            assert_eq!(message, expected);
        }
    }

    /// In the default build, every GPU backend.
    #[cfg(feature = "flex")]
    #[test]
    fn backends_that_are_not_in_this_build() {
        let flex: DeviceName = "flex".parse().unwrap();
        let absent = |backend: &Backend| !backend.is_built();
        for backend in Backend::ALL.into_iter().filter(absent) {
            let name: DeviceName = backend.name().parse().unwrap();
            assert!(others(name, 0).contains(&flex), "{name}");
            let error = OpenDevice::open(Some(name)).err().unwrap();
            let expected = refusal(name, &Problem::NotBuilt, &others(name, 0));
            assert_eq!(error.to_string(), expected);
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_one_device() {
        let name: DeviceName = "flex:1".parse().unwrap();
        let error = OpenDevice::open(Some(name)).err().unwrap().to_string();
        assert!(error.contains("flex has 1, counted from 0"), "{error}");
        assert!(error.contains("flex (`sana devices`"), "{error}");
    }
}
