//! Encodes and decodes an image with a small autoencoder of random weights, and prints shapes.
//!
//! `cargo run -p sana-dcae --features flex --example round_trip`

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use sana_dcae::{DcAeConfig, DcAeError, MemoryOptions, Tiling};

fn main() -> Result<(), DcAeError> {
    let device = Device::flex();
    let published = DcAeConfig::f32c32_sana_1_1();
    println!(
        "sana-1.1: {} parameters, none allocated",
        published.init(&device).num_params()
    );

    let config = DcAeConfig {
        encoder_block_out_channels: vec![8, 8, 16, 32, 64, 64],
        decoder_block_out_channels: vec![8, 8, 16, 32, 64, 64],
        encoder_layers_per_block: vec![1; 6],
        decoder_layers_per_block: vec![1; 6],
        ..published
    };
    let autoencoder = config.init(&device);
    println!("this one: {} parameters", autoencoder.num_params());

    let [height, width] = [128, 192];
    let waves = (0..3 * height * width)
        .map(|i| (i as f32 * 0.01).sin())
        .collect();
    let image = Tensor::<4>::from_data(TensorData::new(waves, [1, 3, height, width]), &device);
    println!("image    {:?}", image.dims());
    let latents = autoencoder.encode(image)?;
    println!(
        "latents  {:?}, {} times smaller along each axis",
        latents.dims(),
        autoencoder.compression()
    );

    let whole = autoencoder.decode(latents.clone())?;
    println!("decoded  {:?}", whole.dims());
    let tiles = MemoryOptions::default().with_tiling(Tiling::square(96, 64));
    let tiled = autoencoder.decode_with(latents, &tiles)?;
    let difference = (whole - tiled).abs().max().into_scalar::<f32>();
    println!("decoded in tiles of 96 pixels: differs by at most {difference:.3}");
    Ok(())
}
