//! How close a checkpoint with quantized weights comes to itself: the denoised latents of one prompt and seed with
//! the weights in bf16, in int8 and in uint4.
//!
//! `cargo run --release -p sana-pipeline --example quantization -- [MODEL [PROMPT [STEPS]]]`

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::{DType, Device};
use sana_pipeline::checkpoint::QuantizeComponents;
use sana_pipeline::transformer::Quantization;
use sana_pipeline::{Checkpoint, LoadOptions, Request, SanaPipeline, StepAction};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let prompt = arguments.next();
    let prompt = prompt.unwrap_or_else(|| "a red circle left of a blue square".to_owned());
    let steps: usize = arguments.next().map_or(Ok(20), |steps| steps.parse())?;

    let (int8, uint4) = (Quantization::Int8, Quantization::Uint4);
    let mut reference: Option<Vec<f32>> = None;
    println!("{:<32} seconds  noise in dB below the latents", "weights");
    for (name, quantize) in [
        ("bf16", QuantizeComponents::default()),
        ("int8", QuantizeComponents::both(int8)),
        (
            "uint4, text encoder in int8",
            QuantizeComponents::usual(uint4),
        ),
        ("uint4", QuantizeComponents::both(uint4)),
    ] {
        let checkpoint = match &folder {
            Some(folder) => Checkpoint::open(folder)?,
            None => Checkpoint::built_in(),
        };
        let options = LoadOptions {
            dtype: Some(DType::BF16),
            quantize,
            ..LoadOptions::default()
        };
        let begin = Instant::now();
        let mut pipeline = SanaPipeline::from_checkpoint(checkpoint, options, &Device::flex())?;
        let request = Request::new(&prompt).seed(7).steps(steps);
        let text = pipeline.encode_prompt(&request)?;
        let latents = pipeline.sample(&request, &text, &mut |_| StepAction::Continue)?;
        let latents: Vec<f32> = latents.into_data().convert::<f32>().try_to_vec()?;
        let seconds = begin.elapsed().as_secs_f64();
        let noise = reference
            .as_ref()
            .map(|reference| decibels(&latents, reference));
        let noise = noise.map(|noise| format!("{noise:.1}")).unwrap_or_default();
        println!("{name:<32} {seconds:>7.1}  {noise}");
        reference.get_or_insert(latents);
    }
    Ok(())
}

/// The mean square of the reference over that of the difference.
fn decibels(latents: &[f32], reference: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let difference = &mut latents.iter().zip(reference).map(|(a, b)| a - b);
    10.0 * (squares(&mut reference.iter().copied()) / squares(difference)).log10()
}
