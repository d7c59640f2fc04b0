//! What the property tests and the fuzz targets run on bytes that may be anything. Each panics only
//! where the reader is wrong.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;

use sana_dcae::DcAeConfig;
use sana_linear_attn::transformer::Lora;
use sana_linear_attn::{SanaTransformerConfig, WeightError, Weights};
use sana_pipeline::checkpoint::Component;
use sana_pipeline::checkpoint::check::check_part;
use sana_pipeline::image;
use sana_pipeline::sampler::Scheduler;
use sana_text::{Gemma2Config, GemmaTokenizer, TextError};

/// What the bytes are called; every error has to say it.
pub const NAME: &str = "hostile-file";

#[track_caller]
fn names_the_file(error: impl Display) {
    let message = error.to_string();
    assert!(message.contains(NAME), "{message:?} does not name the file");
}

/// A safetensors file, as weights and as a LoRA. Whether it was accepted.
pub fn safetensors(bytes: &[u8]) -> bool {
    let weights = match Weights::from_bytes(NAME, bytes.to_vec()) {
        Ok(weights) => weights,
        Err(error) => {
            names_the_file(error);
            return false;
        }
    };
    let sizes = weights.names().map(|name| weights.bytes(name));
    let total: usize = sizes.map(|bytes| bytes.map_or(0, <[u8]>::len)).sum();
    assert!(total <= bytes.len() && total == weights.total_bytes());
    assert!(weights.total_elements() <= 2 * bytes.len());
    let checked = check_part(Component::Transformer, &weights);
    assert_eq!(
        checked.tensors + checked.not_read.len(),
        weights.names().count()
    );
    match Lora::from_weights(weights) {
        Ok(lora) => assert!(lora.targets().count() <= bytes.len()),
        Err(error) => names_the_file(error),
    }
    true
}

/// A GGUF file, every tensor of which is read. Whether it was accepted.
pub fn gguf(bytes: &[u8]) -> bool {
    let weights = match Weights::from_bytes(NAME, bytes.to_vec()) {
        Ok(weights) => weights,
        Err(error) => {
            names_the_file(error);
            return false;
        }
    };
    assert!(weights.total_bytes() <= bytes.len());
    // The smallest blocks have three elements in a byte.
    assert!(weights.total_elements() <= 4 * bytes.len());
    let checked = check_part(Component::TextEncoder, &weights);
    assert_eq!(checked.tensors, weights.names().count());
    assert!(checked.not_read.is_empty(), "{:?}", checked.not_read);
    true
}

/// An index of shards, in a folder that may hold some. The tensors that it leads to, if it is
/// accepted.
pub fn index(folder: &Path, bytes: &[u8]) -> Option<BTreeSet<String>> {
    let file = "model.safetensors.index.json";
    std::fs::write(folder.join(file), bytes).expect("a folder to write to");
    match Weights::open_folder(folder, "model", None) {
        Ok(weights) => Some(weights.names().map(str::to_owned).collect()),
        Err(error) => {
            let folder = folder.display().to_string();
            assert!(error.to_string().contains(&folder), "{error}");
            let expected = matches!(
                error,
                WeightError::Index { .. } | WeightError::Io { .. } | WeightError::Corrupt { .. }
            );
            assert!(expected, "{error}");
            None
        }
    }
}

/// The configs of a checkpoint's four parts. How many accepted it.
pub fn config(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let mut accepted = 0;
    match SanaTransformerConfig::from_json(&text, Path::new(NAME)) {
        Ok(config) => {
            config.validate().expect("what is read is valid");
            assert!(config.width() > 0);
            accepted += 1;
        }
        Err(error) => names_the_file(error),
    }
    // The caller names the file: see the tests of whole checkpoints.
    if let Ok(config) = DcAeConfig::from_json(&text) {
        DcAeConfig::from_json(&config.to_json()).expect("its own text");
        assert!(config.compression() > 1);
        accepted += 1;
    }
    match Gemma2Config::from_json(NAME, bytes) {
        Ok(config) => {
            Gemma2Config::from_json(NAME, config.to_json().as_bytes()).expect("its own text");
            assert!(config.parameter_count() > config.embedding_parameter_count());
            accepted += 1;
        }
        Err(error) => names_the_file(error),
    }
    match Scheduler::from_json(NAME, &text) {
        Ok(scheduler) => {
            let schedule = scheduler.schedule(scheduler.solver(), 3, None);
            assert_eq!(schedule.expect("a grid").steps(), 3);
            accepted += 1;
        }
        Err(error) => names_the_file(error),
    }
    accepted
}

/// A `tokenizer.json`, and texts through it. Whether it was accepted.
pub fn tokenizer(bytes: &[u8]) -> bool {
    const LIMIT: usize = 16;
    let tokenizer = match GemmaTokenizer::from_bytes(NAME, bytes) {
        Ok(tokenizer) => tokenizer,
        Err(error) => {
            names_the_file(error);
            return false;
        }
    };
    for text in [
        "",
        "a red circle left of a blue square",
        "<bos><pad> \u{2581}é 红色\u{0}\n",
    ] {
        match tokenizer.encode_limited(text, LIMIT) {
            Ok(encoded) => {
                assert!(encoded.ids.len() <= LIMIT);
                // Ids without a token are left out.
                let _ = tokenizer.decode(&encoded.ids);
            }
            Err(TextError::Tokenize { .. } | TextError::TokenLimit { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(tokenizer.vocab_size() <= bytes.len());
    true
}

/// An image, and its texts. Whether it has pixels, and how many texts.
pub fn image(bytes: &[u8]) -> (bool, usize) {
    let pixels = match image::decode(Path::new(NAME), bytes) {
        Ok(image) => {
            let (width, height) = image.dimensions();
            assert!(width.max(height) as usize <= image::LARGEST_SIDE);
            assert!(u64::from(width) * u64::from(height) <= image::LARGEST_PIXELS);
            true
        }
        Err(error) => {
            names_the_file(error);
            false
        }
    };
    let texts = match image::text_of(Path::new(NAME), bytes) {
        Ok(texts) => texts.len(),
        Err(error) => {
            names_the_file(error);
            0
        }
    };
    (pixels, texts)
}
