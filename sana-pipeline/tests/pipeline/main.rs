//! The pipeline on the reference's tiny checkpoints.

mod checkpoints;
mod evaluation;
mod parity;
mod requests;
mod running;

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use sana_linear_attn::parity::{Fixture, assert_parity, device, fixture_path};
use sana_pipeline::{Checkpoint, LoadOptions, Request, SanaPipeline};
use tempfile::TempDir;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

fn sana_folder() -> PathBuf {
    fixture_path(CRATE, "pipeline/sana")
}

fn sprint_folder() -> PathBuf {
    fixture_path(CRATE, "pipeline/sprint")
}

fn sana_io() -> Fixture {
    Fixture::open(CRATE, "pipeline/sana/io.safetensors")
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
    let mut bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    assert_eq!(json[tensor]["dtype"], "F32", "{tensor}");
    let offset = |end: usize| json[tensor]["data_offsets"][end].as_u64().unwrap() as usize;
    for element in bytes[8 + header..][offset(0)..offset(1)].chunks_exact_mut(4) {
        element.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

/// The list of strings in a fixture's metadata, as Python prints it.
fn prompts(io: &Fixture) -> Vec<String> {
    let text = io.metadata("prompts");
    let inner = text.trim_start_matches("['").trim_end_matches("']");
    inner.split("', '").map(str::to_owned).collect()
}

/// The request that the fixture's outputs were made with, but for its number of steps.
fn request_of(io: &Fixture) -> Request {
    let number = |key: &str| io.metadata(key).parse::<f64>().unwrap();
    Request::batch(prompts(io))
        .size(number("width") as usize, number("height") as usize)
        .guidance(number("guidance_scale"))
        .latents(io.tensor("latents", &device()))
}

fn sana_request() -> Request {
    let io = sana_io();
    request_of(&io).negative(io.metadata("negative"))
}

/// A quick request that needs no fixture.
fn small() -> Request {
    Request::new("a red circle").size(64, 32).steps(2)
}

/// `[batch, 3, height, width]` in [-1, 1] as `[batch, height, width, 3]` in [0, 1].
fn as_reference_images(decoded: Tensor<4>) -> Tensor<4> {
    (decoded * 0.5 + 0.5).clamp(0.0, 1.0).permute([0, 2, 3, 1])
}
