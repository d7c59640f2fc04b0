//! Tests of the autoencoder against reference outputs and against itself.

mod blocks;
mod checkpoint;
mod config;
mod config_refusals;
mod gradients;
mod inputs;
mod memory;
mod non_finite;
mod parity;
mod seeded;

use burn::tensor::{Device, Tensor, TensorData};
use sana_dcae::{DcAe, DcAeConfig, PerStage};
use sana_linear_attn::parity::built_in_fixture_path;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// Every layout with reference outputs.
const LAYOUTS: [&str; 3] = ["f32_sana", "f32_sana_head_dim_32", "f64_in"];

/// The crate's own checkpoint of a layout, whatever `SANA_FIXTURES` names: names of tensors, bounds
/// of half precision and of finite differences belong to it.
fn load(layout: &str, device: &Device) -> DcAe {
    let folder = built_in_fixture_path(CRATE, &format!("dcae/{layout}"));
    DcAe::load(folder, None, None, device).unwrap_or_else(|error| panic!("{layout}: {error}"))
}

/// Three stages (compression 4), every kind of block, widths pairwise distinct.
fn tiny_config() -> DcAeConfig {
    let sana = DcAeConfig::f32c32_sana_1_0();
    let block_types = |config: &PerStage<_>| {
        PerStage::Each(
            [2, 3, 3]
                .map(|stage| config.get(stage).expect("six stages"))
                .to_vec(),
        )
    };
    DcAeConfig {
        latent_channels: 4,
        attention_head_dim: 4,
        encoder_block_types: block_types(&sana.encoder_block_types),
        decoder_block_types: block_types(&sana.decoder_block_types),
        encoder_block_out_channels: vec![6, 12, 24],
        decoder_block_out_channels: vec![4, 8, 16],
        encoder_layers_per_block: vec![1, 1, 1],
        decoder_layers_per_block: vec![1, 2, 1],
        encoder_qkv_multiscales: vec![vec![], vec![5], vec![3]],
        decoder_qkv_multiscales: vec![vec![], vec![3], vec![]],
        ..sana
    }
}

/// Values in [-1, 1] without a pattern that tiles or batches could share.
fn waves(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let count = shape.iter().product::<usize>();
    let values = (0..count)
        .map(|i| (i as f32 * 0.731 + (i as f32 * 0.0131).cos()).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
