//! Devices by name, opened and probed, and `sana devices`.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{anyhow, bail};
use burn::tensor::{DType, Device};
use clap::Args;

use crate::backends::{Backend, Listed, built};
use crate::output::output;
use crate::probe::catch;

const EXAMPLES: &str = "\
Examples:
  sana devices
  sana generate \"a red circle\" --device cuda:0

Each backend is a cargo feature: `cargo build --release --features vulkan` adds Vulkan.";

/// List the devices that this build can use, and which of them work
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevicesArgs {}

/// A device as the user names it: `cuda`, `cuda:1`, `flex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    backend: Backend,
    index: usize,
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
        match name {
            Some(name) => Self::named(name),
            None => Self::first_that_works(),
        }
    }

    fn named(name: DeviceName) -> anyhow::Result<Self> {
        let DeviceName { backend, index } = name;
        let feature = backend.name();
        if !backend.is_built() {
            bail!(
                "device {name} is not in this build, which has {}: build with the cargo feature \
                 {feature} to use {}",
                built(),
                backend.hardware()
            );
        }
        let unusable = |reason: String| {
            anyhow!(
                "device {name} cannot be used: {reason}\n{}\n  this build has: {} (`sana devices` \
                 tells which work)",
                remedy(backend),
                built()
            )
        };
        let mut devices = catch(|| backend.list()).map_err(unusable)?;
        match devices.len() {
            0 => Err(unusable(format!("{feature} finds no device"))),
            count if index >= count => {
                bail!("there is no device {name}: {feature} has {count}, counted from 0")
            }
            _ => {
                let listed = devices.swap_remove(index);
                listed.probe().map_err(unusable)?;
                Ok(Self {
                    name,
                    device: listed.device,
                })
            }
        }
    }

    /// Tells on stderr of those that were tried before and do not work.
    fn first_that_works() -> anyhow::Result<Self> {
        for backend in Backend::ALL {
            let devices = catch(|| backend.list()).unwrap_or_else(|reason| {
                eprintln!("warning: {} does not work: {reason}", backend.name());
                Vec::new()
            });
            let hardware = |(_, listed): &(usize, Listed)| !listed.software;
            for (index, listed) in devices.into_iter().enumerate().filter(hardware) {
                let name = DeviceName { backend, index };
                match listed.probe() {
                    Err(reason) => eprintln!("warning: {name} does not work: {reason}"),
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

/// What was looked for and what to install, a line each.
fn remedy(backend: Backend) -> String {
    format!(
        "  looked for: {}\n  to install: {}",
        backend.looked_for(),
        backend.to_install()
    )
}

/// Runs `sana devices`.
pub fn run(DevicesArgs {}: DevicesArgs) -> anyhow::Result<()> {
    let mut out = output();
    let mut works = false;
    for backend in Backend::ALL {
        works |= report(backend, &mut out)?;
    }
    if !works {
        bail!("no device of this build works: build with the cargo feature flex to use the CPU");
    }
    Ok(())
}

/// Tells about each device of a backend; returns whether any works.
fn report(backend: Backend, out: &mut impl Write) -> io::Result<bool> {
    let feature = backend.name();
    if !backend.is_built() {
        let hardware = backend.hardware();
        writeln!(
            out,
            "{feature:<9} not in this build (cargo feature {feature}): {hardware}"
        )?;
        return Ok(false);
    }
    let devices = match catch(|| backend.list()) {
        Ok(devices) => devices,
        Err(reason) => {
            writeln!(
                out,
                "{feature:<9} does not work: {reason}\n{}",
                remedy(backend)
            )?;
            return Ok(false);
        }
    };
    if devices.is_empty() {
        writeln!(out, "{feature:<9} finds no device\n{}", remedy(backend))?;
    }
    let mut works = false;
    for (index, listed) in devices.into_iter().enumerate() {
        let name = DeviceName { backend, index }.to_string();
        if let Err(reason) = listed.probe() {
            let remedy = remedy(backend);
            writeln!(out, "{name:<9} does not work: {reason}\n{remedy}")?;
            continue;
        }
        works = true;
        let hardware = identity(&listed.device);
        let hardware = hardware.as_deref().unwrap_or(backend.hardware());
        let slow = if listed.software {
            " (the CPU in the place of a GPU: slow)"
        } else {
            ""
        };
        let dtypes = dtypes(&listed.device);
        writeln!(out, "{name:<9} works in {dtypes}: {hardware}{slow}")?;
    }
    Ok(works)
}

/// What the driver calls the device.
#[cfg(any(
    feature = "cuda",
    feature = "rocm",
    feature = "metal",
    feature = "vulkan",
    feature = "wgpu"
))]
fn identity(device: &Device) -> Option<String> {
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
fn identity(_: &Device) -> Option<String> {
    None
}

/// The types that the device computes in.
fn dtypes(device: &Device) -> String {
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

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_one_device() {
        let name: DeviceName = "flex:1".parse().unwrap();
        let error = OpenDevice::open(Some(name)).err().unwrap().to_string();
        assert!(error.contains("flex has 1, counted from 0"), "{error}");
    }
}
