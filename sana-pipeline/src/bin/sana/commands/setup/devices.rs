//! `sana devices`: which devices this build can use, and which of them work.

use std::io::{self, Write};

use anyhow::bail;
use clap::Args;
use sana_linear_attn::gpu::keep_compiled_kernels;

use crate::device::{Backend, DeviceName, catch, dtypes, identity, remedy};
use crate::terminal::output;

const EXAMPLES: &str = "\
Examples:
  sana devices
  sana generate \"a red circle\" --device cuda:0

Each backend is a cargo feature: `cargo build --release --features vulkan` adds Vulkan.";

/// List the devices that this build can use, and which of them work
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevicesArgs {}

/// Runs `sana devices`.
pub fn run(DevicesArgs {}: DevicesArgs) -> anyhow::Result<()> {
    let cache = keep_compiled_kernels();
    let mut out = output();
    let mut works = false;
    for backend in Backend::ALL {
        works |= report(backend, &mut out)?;
    }
    if let Some(cache) = cache {
        let kept = match cache.compiled {
            true => "tuning results and compiled kernels are",
            // A file of the user's says so.
            false => "tuning results are",
        };
        writeln!(out, "{kept} kept in {}", cache.path.display())?;
    }
    if !works {
        bail!("no device of this build works: build with the cargo feature flex to use the CPU");
    }
    Ok(())
}

/// Reports each device of a backend; returns whether any works.
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
            " (the CPU in place of a GPU: slow)"
        } else {
            ""
        };
        let dtypes = dtypes(&listed.device);
        writeln!(out, "{name:<9} works in {dtypes}: {hardware}{slow}")?;
    }
    Ok(works)
}
