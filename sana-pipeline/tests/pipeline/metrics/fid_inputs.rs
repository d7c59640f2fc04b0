//! Images and weights of the script of FID's reference outputs.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use sana_linear_attn::parity::Fixture;
use sana_linear_attn::weights::write_tensors;
use sana_pipeline::image::RgbImage;

pub fn reference() -> Fixture {
    Fixture::open(env!("CARGO_MANIFEST_DIR"), "metrics/fid.safetensors")
}

/// The images of the script of the reference outputs.
pub fn image([width, height]: [u32; 2], shift: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let value = |channel: u32| {
            let sum = x * (3 + shift) + y * (5 + 2 * shift) + channel * 50;
            ((sum + x * y % 31 * (4 + shift)) % 256) as u8
        };
        [value(0), value(1), value(2)].into()
    })
}

/// Its numbers in [0, 1).
fn uniform(tensor: u64, index: u64) -> f64 {
    let mut hash = (index * 2_654_435_761 + tensor * 40_503 + 12_345) & 0xffff_ffff;
    hash ^= hash >> 15;
    hash = (hash * 2_246_822_519) & 0xffff_ffff;
    hash ^= hash >> 13;
    hash as f64 / 4_294_967_296.0
}

/// Writes its weights, of the shapes that `change` leaves.
pub fn write_weights(path: &Path, change: impl Fn(&mut BTreeMap<String, Vec<usize>>)) {
    let shapes = reference().metadata("shapes");
    let mut shapes: BTreeMap<String, Vec<usize>> = serde_json::from_str(&shapes).unwrap();
    change(&mut shapes);
    let tensors = shapes
        .into_iter()
        .enumerate()
        .map(|(tensor, (name, shape))| {
            let bound = match shape.len() {
                4 => (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt(),
                _ => 0.0,
            };
            let scale = name.ends_with(".bn.weight") || name.ends_with(".running_var");
            let values: Vec<f32> = (0..shape.iter().product::<usize>())
                .map(|index| {
                    let u = uniform(tensor as u64, index as u64);
                    let value = match (shape.len(), scale) {
                        (4, _) => (2.0 * u - 1.0) * bound,
                        (_, true) => 0.5 + u,
                        _ => 0.2 * (u - 0.5),
                    };
                    value as f32
                })
                .collect();
            (name, TensorData::new(values, shape))
        });
    write_tensors(path, tensors.collect()).unwrap();
}
