//! The pipeline on the reference's tiny checkpoints.

mod checkpoints;
mod controlnet;
mod convert;
#[cfg(all(feature = "flex", feature = "scenes-model"))]
mod devices;
#[cfg(feature = "scenes")]
mod evaluation;
#[cfg(all(feature = "flex", feature = "train"))]
mod examples;
mod family;
mod fit;
mod hostile;
#[cfg(feature = "hub")]
mod hub;
mod image_to_image;
mod lora;
mod memory;
#[cfg(feature = "metrics")]
mod metrics;
mod not_finite;
mod notes;
mod original;
mod parity;
#[cfg(all(feature = "flex", feature = "scenes-model"))]
mod quantized;
mod real_size;
mod requests;
mod running;
mod seeds;
mod sizes;
mod tokenizers;

use std::path::{Path, PathBuf};

use sana_linear_attn::parity::{
    assert_parity, built_in_fixture_path, copy_folder, device, edit_tensor_file,
};
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
    let copied = tempfile::tempdir().unwrap();
    copy_folder(folder, copied.path());
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
    edit_tensor_file(path, tensor, |_, _| f32::NAN);
}

/// A quick request that needs no fixture.
fn small() -> Request {
    Request::new("a red circle").size(64, 32).steps(2)
}
