//! Training a small tokenizer of the same construction as Gemma's.

use std::collections::{BTreeMap, HashSet};

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Replace;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer, Trainer};

use crate::error::TextError;

/// Special tokens in the order of their ids, which Gemma fixes.
const SPECIAL_TOKENS: [&str; 4] = ["<pad>", "<eos>", "<bos>", "<unk>"];
const BOS: &str = "<bos>";
/// What stands for a space inside tokens.
const SPACE: char = '\u{2581}';
/// Ids before the first character: special tokens and one token per byte.
const FIXED_TOKENS: usize = SPECIAL_TOKENS.len() + 256;
/// A pair seen once says nothing about the language.
const MIN_PAIR_COUNT: u64 = 2;

/// Trains a tokenizer on captions and returns the text of its `tokenizer.json`.
///
/// The construction is Gemma's: spaces become `▁`, no pre-tokenizer, byte-pair merges with byte
/// fallback, ids 0 to 3 for `<pad> <eos> <bos> <unk>`, then the 256 bytes, the characters of the
/// captions in code point order, and merged tokens; the post-processor puts `<bos>` first. As in
/// Gemma's vocabulary, no token crosses from one word into the next. The same captions give the
/// same text.
///
/// The result has `vocab_size` tokens, or fewer when the captions run out of pairs that occur
/// twice. Of the room after the fixed 260 tokens at most half goes to characters; rarer ones are
/// left to the bytes. [`PromptEncoder`](crate::PromptEncoder) lower-cases prompts, so captions for
/// it should be passed through [`normalize_prompt`](crate::prompt::normalize_prompt) first.
///
/// # Errors
/// [`TextError::VocabularyTooSmall`] below 261 tokens, [`TextError::NoCaptions`] when there is no
/// text.
pub fn train_gemma_style<I>(captions: I, vocab_size: usize) -> Result<String, TextError>
where
    I: IntoIterator<Item: AsRef<str>>,
{
    let minimum = FIXED_TOKENS + 1;
    if vocab_size < minimum {
        return Err(TextError::VocabularyTooSmall {
            requested: vocab_size,
            minimum,
        });
    }
    let captions: Vec<String> = captions
        .into_iter()
        .map(|caption| caption.as_ref().replace(' ', &SPACE.to_string()))
        .filter(|caption| !caption.is_empty())
        .collect();
    if captions.is_empty() {
        return Err(TextError::NoCaptions);
    }
    let alphabet = frequent_characters(&captions, (vocab_size - FIXED_TOKENS).div_ceil(2));

    let mut model = BPE::builder()
        .unk_token("<unk>".to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(failed)?;
    let fixed = SPECIAL_TOKENS
        .iter()
        .map(|token| (*token).to_owned())
        .chain((0..=255u8).map(|byte| format!("<0x{byte:02X}>")))
        .map(|token| AddedToken::from(token, true))
        .collect();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .min_frequency(MIN_PAIR_COUNT)
        .vocab_size(vocab_size)
        .special_tokens(fixed)
        .build();
    trainer
        .feed(captions.iter(), |caption| Ok(words(caption, &alphabet)))
        .map_err(failed)?;
    trainer.train(&mut model).map_err(failed)?;
    assemble(model)
}

/// The `limit` most frequent characters; the smaller code point first among equals.
fn frequent_characters(captions: &[String], limit: usize) -> HashSet<char> {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    for character in captions.iter().flat_map(|caption| caption.chars()) {
        *counts.entry(character).or_default() += 1;
    }
    let mut characters: Vec<(char, usize)> = counts.into_iter().collect();
    characters.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    characters
        .into_iter()
        .take(limit)
        .map(|(character, _)| character)
        .collect()
}

/// Splits a caption before every space, and at characters outside the alphabet, which never merge.
fn words(caption: &str, alphabet: &HashSet<char>) -> Vec<String> {
    let mut words = vec![String::new()];
    for character in caption.chars() {
        let known = alphabet.contains(&character);
        if character == SPACE || !known {
            words.push(String::new());
        }
        if known {
            words.last_mut().expect("never empty").push(character);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Puts normaliser, post-processor and decoder around a trained model and writes it out.
fn assemble(model: BPE) -> Result<String, TextError> {
    let space = SPACE.to_string();
    let bos = model.get_vocab().get(BOS).copied().unwrap_or_default();
    let post_processor = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .and_then(|builder| builder.try_pair(format!("{BOS} $A {BOS} $B")))
        .map_err(failed)?
        .special_tokens(vec![(BOS, bos)])
        .build()
        .map_err(failed)?;
    let decoder = Sequence::new(vec![
        Replace::new(space.as_str(), " ").map_err(failed)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ]);
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(Replace::new(" ", space).map_err(failed)?))
        .with_post_processor(Some(post_processor))
        .with_decoder(Some(decoder));
    let special = SPECIAL_TOKENS.map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(&special);
    tokenizer.to_string(true).map_err(failed)
}

fn failed(error: impl ToString) -> TextError {
    TextError::Tokenize {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::GemmaTokenizer;
    use proptest::prelude::*;
    use serde_json::Value;

    fn captions() -> Vec<String> {
        let colours = ["red", "green", "blue", "yellow", "white"];
        let shapes = ["circle", "square", "triangle", "star"];
        let places = ["left of", "right of", "above", "below"];
        let mut captions = Vec::new();
        for (i, first) in colours.iter().enumerate() {
            for (j, shape) in shapes.iter().enumerate() {
                let (second, place) = (colours[(i + j + 1) % 5], places[(2 * i + j) % 4]);
                captions.push(format!(
                    "a {first} {shape} {place} a {second} {}",
                    shapes[(j + 1) % 4]
                ));
            }
        }
        captions
    }

    fn read(json: &str) -> GemmaTokenizer {
        GemmaTokenizer::from_bytes("trained", json.as_bytes()).unwrap()
    }

    #[test]
    fn construction_is_that_of_the_fixture() {
        let path = sana_linear_attn::parity::fixture_path(
            env!("CARGO_MANIFEST_DIR"),
            "text/tokenizer/tokenizer.json",
        );
        let reference: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let ours: Value =
            serde_json::from_str(&train_gemma_style(captions(), 320).unwrap()).unwrap();
        for key in [
            "version",
            "truncation",
            "padding",
            "added_tokens",
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "decoder",
        ] {
            assert_eq!(ours[key], reference[key], "{key}");
        }
        for (key, value) in reference["model"].as_object().unwrap() {
            if key != "vocab" && key != "merges" {
                assert_eq!(&ours["model"][key], value, "model.{key}");
            }
        }
        let vocab = |value: &Value, token: &str| value["model"]["vocab"][token].as_u64();
        for token in [
            "<pad>", "<eos>", "<bos>", "<unk>", "<0x00>", "<0x7F>", "<0xFF>",
        ] {
            assert_eq!(vocab(&ours, token), vocab(&reference, token), "{token}");
        }
    }

    #[test]
    fn no_token_crosses_a_word() {
        let json: Value =
            serde_json::from_str(&train_gemma_style(captions(), 1000).unwrap()).unwrap();
        let vocab = json["model"]["vocab"].as_object().unwrap();
        for token in vocab.keys() {
            assert!(!token.chars().skip(1).any(|c| c == SPACE), "{token:?}");
        }
        assert!(vocab.contains_key("\u{2581}circle"));
    }

    #[test]
    fn size_is_the_one_asked_for() {
        for size in [261, 290, 320] {
            assert_eq!(
                read(&train_gemma_style(captions(), size).unwrap()).vocab_size(),
                size
            );
        }
        let saturated = read(&train_gemma_style(captions(), 5000).unwrap()).vocab_size();
        assert!((320..1000).contains(&saturated), "{saturated}");
    }

    #[test]
    fn same_captions_same_file() {
        let first = train_gemma_style(captions(), 400).unwrap();
        for _ in 0..20 {
            assert_eq!(train_gemma_style(captions(), 400).unwrap(), first);
        }
    }

    #[test]
    fn unknown_characters_fall_to_bytes() {
        let tokenizer = read(&train_gemma_style(captions(), 320).unwrap());
        let id = |token: &str| tokenizer.token_to_id(token).unwrap();
        assert_eq!(
            tokenizer.encode("é🦀").unwrap(),
            [
                "<bos>", "<0xC3>", "<0xA9>", "<0xF0>", "<0x9F>", "<0xA6>", "<0x80>"
            ]
            .map(id)
        );
    }

    #[test]
    fn rare_characters_leave_room_for_merges() {
        let letters: Vec<String> = ('\u{4e00}'..'\u{4f00}')
            .map(|c| format!("aaaa {c}"))
            .collect();
        let tokenizer = read(&train_gemma_style(letters, 280).unwrap());
        assert!(tokenizer.token_to_id("aaaa").is_some());
        assert_eq!(
            tokenizer
                .decode(&tokenizer.encode("aa 一 仿").unwrap())
                .unwrap(),
            "aa 一 仿"
        );
    }

    #[test]
    fn refusals() {
        let error = train_gemma_style(["a"], 260).unwrap_err();
        assert!(
            error.to_string().contains("260") && error.to_string().contains("261"),
            "{error}"
        );
        for none in [&[][..], &[""]] {
            let error = train_gemma_style(none, 300).unwrap_err();
            assert!(matches!(error, TextError::NoCaptions), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_text_survives_the_round_trip(text in "[a-zA-Z ▁éß一🦀\n\t\u{0}]{0,40}") {
            // The mark of the space is the one character that does not come back.
            let text = text.replace(SPACE, "");
            let tokenizer = read(&train_gemma_style(captions(), 330).unwrap());
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(ids[0], tokenizer.token_to_id("<bos>").unwrap());
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }
}
