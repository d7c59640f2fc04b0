//! The text encoder and its tokenizer against the reference and against themselves.

mod gemma2;
mod prompt_encoder;
mod real_tokenizer;
mod tokenizer;
mod tokenizer_config;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
