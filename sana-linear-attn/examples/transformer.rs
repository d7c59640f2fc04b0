//! Runs a small diffusion transformer with random weights, saves it, loads it again, and shows what
//! the loader says to a checkpoint of another shape.
//!
//! `cargo run -p sana-linear-attn --example transformer`

use std::error::Error;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use sana_linear_attn::transformer::{F16Clamp, TransformerInput};
use sana_linear_attn::{SanaTransformer, SanaTransformerConfig, SaveOptions, Weights, save_module};

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let published = SanaTransformerConfig::sana_1600m_1024px();
    let parameters = published.init(&device).num_params();
    println!("Sana 1.6B: {parameters} parameters, none allocated");

    let config = SanaTransformerConfig {
        num_layers: 2,
        num_attention_heads: 3,
        num_cross_attention_heads: 2,
        cross_attention_head_dim: 48,
        cross_attention_dim: 96,
        caption_channels: 40,
        ..published
    };
    let model = config.init(&device);
    println!("this one:  {} parameters", model.num_params());

    let latents = Tensor::<4>::random([1, 32, 4, 6], Distribution::Default, &device);
    let caption = Tensor::<3>::random([1, 7, 40], Distribution::Default, &device);
    let velocity = |model: &SanaTransformer| {
        let text = model.text_context(caption.clone(), None);
        let timestep = Tensor::from_data([900.0], &device);
        let input = TransformerInput::new(latents.clone(), timestep, &text);
        model.forward(input).velocity
    };
    let before = velocity(&model);
    println!("velocity   {:?}", before.dims());

    let path = std::env::temp_dir().join(format!("sana-{}.safetensors", std::process::id()));
    save_module(&model, &path, &SaveOptions::default())?;
    let weights = Weights::open_file(&path)?;
    let loaded = config.load(&weights, None, F16Clamp::Auto, &device)?;
    let difference = (before - velocity(&loaded))
        .abs()
        .max()
        .into_scalar::<f32>();
    println!("saved and loaded: differs by {difference}");

    let wider = SanaTransformerConfig {
        caption_channels: 48,
        ..config
    };
    if let Err(error) = wider.load(&weights, None, F16Clamp::Auto, &device) {
        println!("as another network: {error}");
    }
    std::fs::remove_file(&path)?;
    Ok(())
}
