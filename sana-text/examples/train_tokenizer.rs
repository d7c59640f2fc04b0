//! Trains a Gemma-style tokenizer on the lines of a file, or on a few captions of its own, and
//! shows how it splits the first of them: `cargo run -p sana-text --example train_tokenizer -- [FILE]`.

use sana_text::normalize_prompt;
use sana_text::{GemmaTokenizer, train_gemma_style};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => "A red circle left of a blue square\nA blue circle above a red square\n\
                 Two green triangles\nA green square below two red triangles"
            .to_owned(),
    };
    let captions: Vec<String> = text.lines().map(normalize_prompt).collect();
    let json = train_gemma_style(&captions, 320)?;
    let tokenizer = GemmaTokenizer::from_bytes("trained", json.as_bytes())?;
    println!(
        "{} tokens, {} bytes of tokenizer.json",
        tokenizer.vocab_size(),
        json.len()
    );
    if let Some(first) = captions.first() {
        let ids = tokenizer.encode(first)?;
        let parts: Result<Vec<String>, _> = ids.iter().map(|id| tokenizer.decode(&[*id])).collect();
        println!("{first:?} -> {ids:?} -> {:?}", parts?);
    }
    Ok(())
}
