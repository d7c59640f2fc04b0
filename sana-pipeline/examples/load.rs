//! How long the networks of a checkpoint take to load, and how long reading their files alone takes.
//!
//! `cargo run --release -p sana-pipeline --example load -- DIR [f32|bf16|f16]`
//!
//! Files are read once beforehand, so that the system has them in memory where it can.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{DType, Device};
use sana_pipeline::checkpoint::Component;
use sana_pipeline::memory::MemoryPolicy;
use sana_pipeline::memory::{peak_resident_bytes, reset_peak};
use sana_pipeline::{Checkpoint, LoadOptions, SanaPipeline};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which checkpoint folder?")?;
    let dtype = match arguments.next().as_deref() {
        None => None,
        Some("f32") => Some(DType::F32),
        Some("bf16") => Some(DType::BF16),
        Some("f16") => Some(DType::F16),
        Some(other) => return Err(format!("no dtype {other}: f32, bf16 or f16").into()),
    };
    let options = LoadOptions {
        dtype,
        memory: MemoryPolicy::OneStageAtATime,
        ..LoadOptions::default()
    };
    for component in [
        Component::TextEncoder,
        Component::Transformer,
        Component::Vae,
    ] {
        let files = Path::new(&folder).join(component.folder());
        let bytes = read(&files)?;
        let started = Instant::now();
        read(&files)?;
        let reading = started.elapsed().as_secs_f64();

        let checkpoint = Checkpoint::open(Path::new(&folder))?;
        let mut pipeline =
            SanaPipeline::from_checkpoint(checkpoint, options.clone(), &Device::flex())?;
        reset_peak();
        let started = Instant::now();
        match component {
            Component::TextEncoder => pipeline.text_encoder().map(drop)?,
            Component::Transformer => pipeline.transformer().map(drop)?,
            _ => pipeline.autoencoder().map(drop)?,
        }
        let loading = started.elapsed().as_secs_f64();
        let peak = peak_resident_bytes().unwrap_or_default();
        println!(
            "{:<13} {:>5.2} GB in files, read in {reading:.3} s, loaded in {loading:.3} s, peak {:.2} GB",
            component.folder(),
            bytes as f64 / 1e9,
            peak as f64 / 1e9,
        );
    }
    Ok(())
}

/// Reads every file of weights in a folder to its end and forgets it; returns their size.
fn read(folder: &Path) -> std::io::Result<u64> {
    let mut buffer = vec![0; 1 << 17];
    let mut total = 0;
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_none_or(|kind| kind != "safetensors") {
            continue;
        }
        let mut file = File::open(path)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                bytes => total += bytes as u64,
            }
        }
    }
    Ok(total)
}
