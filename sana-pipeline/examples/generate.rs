//! An image from the built-in checkpoint, stage by stage.
//!
//! `cargo run -p sana-pipeline --example generate -- [PROMPT] [PNG]`

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use sana_pipeline::image::save_png;
use sana_pipeline::scenes::{SceneImage, ScenePrompt, evaluate};
use sana_pipeline::{Checkpoint, LoadOptions, Request, SanaPipeline, StepAction};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let default = || "a red circle left of a blue square".to_owned();
    let prompt = arguments.next().unwrap_or_else(default);
    let path = arguments.next().unwrap_or_else(|| "generate.png".into());

    let checkpoint = Checkpoint::built_in();
    println!("{}\n", checkpoint.describe(None)?);
    let options = LoadOptions::default();
    let mut pipeline = SanaPipeline::from_checkpoint(checkpoint, options, &Device::flex())?;
    let request = Request::new(&prompt).seed(7);

    let text = pipeline.encode_prompt(&request)?;
    let [_, tokens, channels] = text.prompt.embeds.dims();
    println!("text      {tokens} tokens of {channels} channels");

    let latents = pipeline.sample(&request, &text, &mut |step| {
        println!("step {:>2}   timestep {:.0}", step.index + 1, step.timestep);
        StepAction::Continue
    })?;
    println!("latents   {:?}", latents.dims());

    let image = pipeline.decode(latents)?.remove(0);
    save_png(Path::new(&path), &image, &[("prompt", &prompt)])?;
    println!("image     {path}, {}x{} px", image.width(), image.height());

    if let Ok(meaning) = prompt.parse::<ScenePrompt>() {
        let seen = SceneImage::new(image.width() as usize, image.into_raw())?;
        println!("verdict   {}", evaluate(&seen, &meaning));
    }
    Ok(())
}
