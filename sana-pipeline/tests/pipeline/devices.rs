//! The same request gives the same image on the CPU and on a GPU, with the built-in checkpoint.

use burn::tensor::Device;
use sana_pipeline::StepAction;
use sana_pipeline::image::{RgbImage, psnr};

use super::*;

/// Least PSNR in dB of an image and the same one from another device. Noise and schedule come from
/// the host and are equal to the bit, so what is left is the order of sums and the precision of exp,
/// tanh and division in f32. An error of half a level in every value of an image of eight bits
/// would be 54 dB, one of two levels 42 dB.
const LEAST: f64 = 40.0;

fn image(device: &Device, seed: u64) -> RgbImage {
    let options = LoadOptions {
        dtype: Some(burn::tensor::DType::F32),
        ..LoadOptions::default()
    };
    let mut pipeline =
        SanaPipeline::from_checkpoint(Checkpoint::built_in(), options, device).unwrap();
    let request = Request::new("a red circle left of a blue square")
        .steps(4)
        .seed(seed);
    let generation = pipeline.generate(&request, &mut |_| StepAction::Continue);
    generation.unwrap().images.remove(0)
}

/// Run by `.ci/wgpu`, or by
/// `SANA_TEST_DEVICE=wgpu cargo test -p sana-pipeline --features wgpu --test pipeline devices:: -- --include-ignored`.
#[test]
#[ignore = "compares with the device that SANA_TEST_DEVICE names"]
fn an_image_is_the_same_on_the_cpu_and_on_another_device() {
    let other = device();
    assert_ne!(
        other,
        Device::flex(),
        "SANA_TEST_DEVICE must name another device than the CPU"
    );
    for seed in [0, 3] {
        let (here, there) = (image(&Device::flex(), seed), image(&other, seed));
        let decibels = psnr(&here, &there).unwrap();
        println!("seed {seed}: {decibels:.1} dB");
        assert!(decibels >= LEAST, "seed {seed}: {decibels:.1} dB");
    }
}

/// Two images of one prompt are far below the bound, and one made twice is far above it.
#[test]
fn the_bound_separates_images() {
    let cpu = Device::flex();
    let first = image(&cpu, 0);
    assert_eq!(psnr(&first, &image(&cpu, 0)).unwrap(), f64::INFINITY);
    let decibels = psnr(&first, &image(&cpu, 1)).unwrap();
    assert!(decibels < LEAST - 10.0, "{decibels:.1} dB");
}
