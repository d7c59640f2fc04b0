use burn::tensor::{Device, TensorData};
use sana_dcae::DcAe;

use super::*;

fn device() -> Device {
    Device::flex()
}

/// A tiny autoencoder of fixed weights.
fn tiny() -> DcAe {
    let config = DcAeConfig {
        latent_channels: 4,
        attention_head_dim: 4,
        encoder_block_out_channels: vec![4, 8],
        decoder_block_out_channels: vec![4, 8],
        encoder_layers_per_block: vec![1, 1],
        decoder_layers_per_block: vec![1, 1],
        encoder_qkv_multiscales: vec![vec![]; 2],
        decoder_qkv_multiscales: vec![vec![]; 2],
        ..DcAeConfig::f32c32_sana_1_0()
    };
    let config = DcAeConfig {
        encoder_block_types: sana_dcae::PerStage::All(sana_dcae::BlockType::Res),
        decoder_block_types: sana_dcae::PerStage::All(sana_dcae::BlockType::Res),
        ..config
    };
    config.init_seeded(3, &device())
}

#[test]
fn a_color_is_the_sum_of_the_channels() {
    let factors = vec![[0.5, 0.0, 0.25], [-0.25, 1.0, 0.0]];
    let map = LatentRgb::new("a test", factors, [0.25, 0.0, 0.5]).unwrap();
    // Two images of one row and three columns.
    let latents = [
        [[1.0f32, 0.0, 9.0], [0.0, 0.5, 0.0]],
        [[-1.0, 0.0, f32::NAN], [0.2, 0.2, 0.2]],
    ];
    let latents = latents.as_flattened().as_flattened().to_vec();
    let latents = Tensor::<4>::from_data(TensorData::new(latents, [2, 2, 1, 3]), &device());
    let images = map.images(latents).unwrap();
    let pixels = |image: &RgbImage| -> Vec<[u8; 3]> { image.pixels().map(|p| p.0).collect() };
    assert_eq!(
        pixels(&images[0]),
        [[191, 0, 191], [32, 128, 128], [255, 0, 255]]
    );
    assert_eq!(pixels(&images[1]), [[0, 51, 64], [51, 51, 128], [0, 0, 0]]);
    let error = map
        .images(Tensor::zeros([1, 3, 1, 1], &device()))
        .unwrap_err();
    assert!(
        matches!(error, PipelineError::Request(RequestError::Shape { .. })),
        "{error}"
    );
}

#[test]
fn the_published_map_is_for_published_autoencoders() {
    let config = DcAeConfig::f32c32_sana_1_1();
    let map = LatentRgb::published(&config).unwrap();
    assert_eq!(map.channels(), config.latent_channels);
    assert!(map.what().contains("TAESANA"), "{}", map.what());
    // Zero latents are about the mean of images.
    let gray = map.images(Tensor::zeros([1, 32, 1, 1], &device())).unwrap();
    assert_eq!(gray[0].get_pixel(0, 0).0, [128, 118, 109]);
    assert!(LatentRgb::published(&DcAeConfig::f32c32_sana_1_1_lite()).is_some());
    assert_eq!(LatentRgb::published(&DcAeConfig::f32c32_mix()), None);
}

#[test]
fn files_are_read_again_or_refused() {
    let map = LatentRgb::new("a \"test\"", vec![[0.1, -2e-5, 3.0]; 2], [0.5; 3]).unwrap();
    let json = map.to_json();
    let read = |json: &str, channels| LatentRgb::from_json("a.json", json.as_bytes(), channels);
    assert_eq!(read(&json, 2).unwrap(), map);
    let refused = |json: &str, reason: &str| {
        let error = read(json, 2).unwrap_err().to_string();
        assert!(
            error.starts_with("a.json is not usable") && error.contains(reason),
            "{error}"
        );
    };
    refused("{", "EOF");
    refused("{\"factors\": [[1, 2]], \"bias\": [0, 0, 0]}", "length");
    refused(
        "{\"factors\": [[1, 2, 3]], \"bias\": [0, 0, 0]}",
        "it has 1 channels, not 2",
    );
    refused(
        "{\"factors\": [[1, 2, 3], [1, 2, 1e39]], \"bias\": [0, 0, 0]}",
        "not finite",
    );
    assert!(LatentRgb::new("", vec![[f32::NAN; 3]], [0.0; 3]).is_err());
}

#[test]
fn small_images_are_enlarged_as_far_as_it_helps() {
    let size = |width, height| enlarged(&RgbImage::new(width, height)).dimensions();
    assert_eq!(size(4, 4), (64, 64));
    assert_eq!(size(32, 32), (512, 512));
    assert_eq!(size(40, 24), (480, 288));
    assert_eq!(size(128, 64), (512, 256));
    assert_eq!(size(600, 1), (600, 1));
    let flat = RgbImage::from_pixel(3, 2, image::Rgb([9, 90, 200]));
    assert!(
        enlarged(&flat)
            .pixels()
            .all(|pixel| pixel.0 == [9, 90, 200])
    );
}

/// A fit predicts what the autoencoder decodes better than any one colour does, and is the same each
/// time.
#[test]
fn a_map_is_fitted_to_its_autoencoder() {
    let autoencoder = tiny();
    let fit = || LatentRgb::fit("shapes", &autoencoder, sample_images(16), 8, &device()).unwrap();
    let fitted = fit();
    assert_eq!(fitted.latent_rgb, fit().latent_rgb);
    assert_eq!(fitted.latent_rgb.channels(), 4);
    // (channels + 1) numbers of 48 latents each, 64 in an image; every fourth is held out.
    assert_eq!(fitted.images, 5);
    // Random weights are far from linear; the colours of other pixels would have about 6 dB.
    assert!(fitted.psnr > 15.0, "{}", fitted.psnr);
    let few = LatentRgb::fit(
        "a few",
        &autoencoder,
        sample_images(16).take(3),
        8,
        &device(),
    );
    assert!(
        few.unwrap_err()
            .to_string()
            .contains("fewer than four images")
    );
}
