//! `tokenizer.json`.

use std::fs;

use proptest::prelude::*;
use serde_json::Value;

use super::allocations::peak_of;
use super::mutations::{edited, edits, json_edited, json_edits};
use super::{cases, entry, fixture};

/// Memory that a tokenizer may need for each byte of its file: the library keeps tokens and merges
/// several times over while it reads, and builds automata of the added tokens.
const PER_BYTE: usize = 64;
const CONSTANT: usize = 4 << 20;

fn bounded(bytes: &[u8]) -> bool {
    let (accepted, peak) = peak_of(|| entry::tokenizer(bytes));
    let bound = PER_BYTE * bytes.len() + CONSTANT;
    assert!(
        peak <= bound,
        "{peak} bytes for a tokenizer of {}",
        bytes.len()
    );
    accepted
}

/// The tokenizer of the crate's own checkpoint.
fn original() -> Value {
    serde_json::from_slice(&fs::read(fixture("tokenizer/tokenizer.json")).unwrap()).unwrap()
}

/// What is not vocabulary: there a change is more likely to matter.
fn skeleton() -> Value {
    let mut file = original();
    file["model"]["merges"] =
        Value::Array(file["model"]["merges"].as_array().unwrap()[..3].to_vec());
    file
}

#[test]
fn the_files_that_are_changed_are_right() {
    assert!(bounded(original().to_string().as_bytes()));
    assert!(bounded(skeleton().to_string().as_bytes()));
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bounded(&bytes);
    }

    #[test]
    fn changed_bytes(edits in edits()) {
        bounded(&edited(original().to_string().as_bytes(), &edits));
    }

    #[test]
    fn changed_values(edits in json_edits()) {
        bounded(json_edited(&skeleton(), &edits).as_bytes());
    }

    /// Everything but the model and the added tokens.
    #[test]
    fn changed_steps(edits in json_edits()) {
        let mut file = skeleton();
        let steps = ["normalizer", "pre_tokenizer", "post_processor", "decoder"];
        let steps: serde_json::Map<String, Value> = steps
            .iter()
            .map(|key| ((*key).to_owned(), file[*key].take()))
            .collect();
        let changed = json_edited(&Value::Object(steps), &edits);
        // The rest of the file before the changed steps; an object is closed by theirs.
        let rest = serde_json::to_string(&serde_json::json!({
            "version": file["version"], "added_tokens": file["added_tokens"],
            "model": file["model"],
        })).unwrap();
        let text = match changed.strip_prefix('{') {
            Some(changed) => format!("{},{changed}", &rest[..rest.len() - 1]),
            None => changed,
        };
        bounded(text.as_bytes());
    }
}

/// Numbers and texts in places where the library counts on others.
#[test]
fn known_troubles() {
    let with = |pointer: &str, value: Value| {
        let mut file = skeleton();
        *file.pointer_mut(pointer).expect(pointer) = value;
        bounded(file.to_string().as_bytes())
    };
    assert!(!with(
        "/model/continuing_subword_prefix",
        "much longer".into()
    ));
    assert!(!with("/model/dropout", 0.5.into()));
    assert!(!with("/model/vocab", Value::Null));
    with("/model/vocab/<pad>", u32::MAX.into());
    with("/added_tokens/0/id", u32::MAX.into());
    with("/added_tokens/0/content", "".into());
    with("/added_tokens/1/content", "<pad>".into());
    with(
        "/post_processor/special_tokens/<bos>/ids",
        Value::Array(vec![]),
    );
    with(
        "/post_processor/special_tokens/<bos>/tokens",
        Value::Array(vec![]),
    );
    with("/decoder/decoders/0/pattern/String", "".into());
}

/// A vocabulary of Gemma's kind: what it needs for each byte of its file.
#[test]
fn large_vocabularies_need_memory_in_proportion() {
    let mut file = skeleton();
    let mut merges = Vec::new();
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    let mut id = vocab.len();
    let letters: Vec<char> = ('a'..='z').collect();
    let mut tokens: Vec<String> = letters.iter().map(char::to_string).collect();
    for length in 0..2 {
        let longer: Vec<_> = tokens
            .iter()
            .filter(|token| token.chars().count() == length + 1)
            .flat_map(|token| letters.iter().map(move |letter| (token.clone(), *letter)))
            .collect();
        for (token, letter) in longer {
            let both = format!("{token}{letter}");
            merges.push(serde_json::json!([token, letter.to_string()]));
            tokens.push(both);
        }
    }
    for token in tokens {
        vocab.entry(token).or_insert_with(|| {
            id += 1;
            id.into()
        });
    }
    file["model"]["merges"] = Value::Array(merges);
    let text = file.to_string();
    assert!(text.len() > 400_000);
    assert!(bounded(text.as_bytes()));
    // Only added tokens, each in the automaton that finds them.
    let token = |index: usize| {
        serde_json::json!({"id": 100_000 + index, "content": format!("<unused{index}>"),
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": index < 1500,
            "special": false})
    };
    let added = file["added_tokens"].as_array_mut().unwrap();
    added.extend((0..3000).map(token));
    assert!(bounded(file.to_string().as_bytes()));
}
