//! Encodes prompts with the tiny checkpoint of the tests, or with a checkpoint folder of yours:
//! `cargo run -p sana-text --example encode_prompt -- [FOLDER]`.

use std::path::PathBuf;

use burn::tensor::Device;
use sana_text::{Gemma2LoadOptions, PromptEncoder, PromptOptions, TextError};

fn main() -> Result<(), TextError> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pipeline/sana");
    let folder = std::env::args()
        .nth(1)
        .map_or(PathBuf::from(tiny), PathBuf::from);
    let encoder = PromptEncoder::load(
        &folder.join("tokenizer"),
        &folder.join("text_encoder"),
        &Gemma2LoadOptions::default(),
        PromptOptions::default(),
        &Device::flex(),
    )?;
    println!("{} parameters", encoder.model().config().parameter_count());
    println!(
        "{} tokens of instruction",
        encoder.prompts().instruction_tokens()
    );

    let prompts = ["A red circle left of a blue square", "two green triangles"];
    for prompt in prompts {
        let ids = encoder.prompts().tokenizer().encode(prompt)?;
        println!("{prompt:?} has {} tokens: {ids:?}", ids.len());
    }
    let embeds = encoder.encode(&prompts)?;
    println!(
        "embeddings {:?}, dropped {:?}",
        embeds.embeds.dims(),
        embeds.dropped_tokens
    );
    let trimmed = embeds.trim();
    println!("without common padding {:?}", trimmed.embeds.dims());
    for (row, prompt) in prompts.iter().enumerate() {
        let first = trimmed
            .embeds
            .clone()
            .narrow(0, row, 1)
            .narrow(1, 1, 1)
            .narrow(2, 0, 4);
        println!("{prompt:?} begins {}", first.into_data());
    }
    Ok(())
}
