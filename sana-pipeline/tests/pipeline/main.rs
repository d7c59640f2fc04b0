//! The pipeline on the reference's tiny checkpoints.

mod checkpoints;
mod controlnet;
#[cfg(all(feature = "flex", feature = "scenes-model"))]
mod devices;
mod editing;
#[cfg(feature = "scenes")]
mod evaluation;
#[cfg(all(feature = "flex", feature = "train"))]
mod examples;
mod hostile;
#[cfg(feature = "hub")]
mod hub;
mod lora;
mod memory;
mod not_finite;
mod original;
mod parity;
mod real_size;
mod requests;
mod running;
mod seeds;
mod sizes;

use std::path::{Path, PathBuf};

use sana_linear_attn::parity::{assert_parity, built_in_fixture_path, device};
use sana_pipeline::{Checkpoint, LoadOptions, Request, SanaPipeline};
use tempfile::TempDir;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// The transformer's weights in a checkpoint's folder.
const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

/// The crate's own checkpoint, whatever `SANA_FIXTURES` names: its sizes stand in these tests.
fn sana_folder() -> PathBuf {
    built_in_fixture_path(CRATE, "pipeline/sana")
}

fn sprint_folder() -> PathBuf {
    built_in_fixture_path(CRATE, "pipeline/sprint")
}

fn sana() -> SanaPipeline {
    SanaPipeline::load(&sana_folder(), &device()).unwrap()
}

fn sprint() -> SanaPipeline {
    SanaPipeline::load(&sprint_folder(), &device()).unwrap()
}

/// A copy of the checkpoint that a test may change.
fn copy_of(folder: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in from.read_dir().unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
    let copied = tempfile::tempdir().unwrap();
    copy(folder, copied.path());
    copied
}

fn load_with(folder: &Path, options: LoadOptions) -> SanaPipeline {
    let checkpoint = Checkpoint::open(folder).unwrap();
    SanaPipeline::from_checkpoint(checkpoint, options, &device()).unwrap()
}

/// Replaces text in a file of a checkpoint.
fn edit(folder: &TempDir, file: &str, from: &str, to: &str) {
    let path = folder.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} in {file}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Fills a tensor of a safetensors file with NaN.
fn poison(path: &Path, tensor: &str) {
    rewrite(path, tensor, |_| f32::NAN);
}

/// Changes every element of a tensor of a safetensors file.
fn rewrite(path: &Path, tensor: &str, change: impl Fn(f32) -> f32) {
    let mut bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    assert_eq!(json[tensor]["dtype"], "F32", "{tensor}");
    let offset = |end: usize| json[tensor]["data_offsets"][end].as_u64().unwrap() as usize;
    for element in bytes[8 + header..][offset(0)..offset(1)].chunks_exact_mut(4) {
        let value = f32::from_le_bytes((&*element).try_into().unwrap());
        element.copy_from_slice(&change(value).to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

/// A quick request that needs no fixture.
fn small() -> Request {
    Request::new("a red circle").size(64, 32).steps(2)
}
