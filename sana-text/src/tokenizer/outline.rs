//! What a `tokenizer.json` asks for, looked at before the library builds it: it takes files for
//! good that make it panic, answer at random or need memory without end.

use serde::Deserialize;
use serde_json::Value;

/// How many times longer a normalizer or a decoder may make a text.
const LARGEST_GROWTH: usize = 64;

/// The small parts of the file. The vocabulary and its merges are passed over.
#[derive(Deserialize)]
struct Outline {
    model: Model,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Checks a file; the reason if it is refused.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    if json.trim_ascii_start().first() == Some(&b'[') {
        return Err("it is a list, expected an object".to_owned());
    }
    let outline: Outline = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let model = &outline.model;
    if let Some(kind) = model.kind.as_deref().filter(|kind| *kind != "BPE") {
        return Err(format!("its model is {kind:?}, expected BPE"));
    }
    if let Some(dropout) = model.dropout.filter(|dropout| *dropout != 0.0) {
        return Err(format!("its dropout is {dropout}, expected none"));
    }
    for (key, value) in [
        (
            "continuing_subword_prefix",
            &model.continuing_subword_prefix,
        ),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(text) = value.as_deref().filter(|text| !text.is_empty()) {
            return Err(format!("its {key} is {text:?}, expected none"));
        }
    }
    for (what, list, step) in [
        ("normalizer", "normalizers", &outline.normalizer),
        ("decoder", "decoders", &outline.decoder),
    ] {
        let growth = growth(step, what, list)?;
        if growth > LARGEST_GROWTH {
            return Err(format!(
                "its {what} can make a text {growth} times longer, at most {LARGEST_GROWTH} times \
                 is accepted"
            ));
        }
    }
    let steps = ["Split", "Metaspace", "Whitespace", "WhitespaceSplit"];
    only(
        &outline.pre_tokenizer,
        "pre_tokenizer",
        "pretokenizers",
        &steps,
    )?;
    let processors = ["TemplateProcessing"];
    only(
        &outline.post_processor,
        "post_processor",
        "processors",
        &processors,
    )
}

/// Refuses steps of another kind; a sequence holds such steps under `list`.
fn only(step: &Value, what: &str, list: &str, known: &[&str]) -> Result<(), String> {
    if step.is_null() {
        return Ok(());
    }
    match kind(step) {
        "Sequence" => steps(step, list)?
            .iter()
            .try_for_each(|step| only(step, what, list, known)),
        kind if known.contains(&kind) => Ok(()),
        kind => Err(format!(
            "its {what} is {kind:?}, expected {} or a Sequence of them",
            known.join(", ")
        )),
    }
}

/// How many times longer a step can make a text, in bytes; a sequence holds such steps under
/// `list`.
fn growth(step: &Value, what: &str, list: &str) -> Result<usize, String> {
    if step.is_null() {
        return Ok(1);
    }
    let text = |pointer| step.pointer(pointer).and_then(Value::as_str);
    match (what, kind(step)) {
        (_, "Sequence") => steps(step, list)?.iter().try_fold(1usize, |all, step| {
            Ok(all.saturating_mul(growth(step, what, list)?))
        }),
        (_, "Replace") => {
            let content = text("/content").unwrap_or_default().len();
            match text("/pattern/String") {
                Some("") => Err(format!("its {what} replaces the empty text")),
                Some(pattern) => Ok(content.div_ceil(pattern.len()).max(1)),
                // A regular expression may match nothing, between any two characters.
                None => Ok(content.saturating_add(1)),
            }
        }
        ("normalizer", "Prepend") => Ok(text("/prepend").unwrap_or_default().len() + 1),
        // The longest decompositions of Unicode: a character of three bytes to 18 of two.
        ("normalizer", "NFKC" | "NFKD") => Ok(12),
        ("normalizer", "NFC" | "NFD" | "Lowercase") => Ok(3),
        ("normalizer", "Strip" | "StripAccents" | "Nmt") => Ok(1),
        // A byte that is no text becomes a character of three.
        ("decoder", "ByteFallback") => Ok(3),
        ("decoder", "Fuse") => Ok(1),
        (what, kind) => Err(format!("its {what} is {kind:?}, which no Gemma has")),
    }
}

fn kind(step: &Value) -> &str {
    let kind = step.get("type").and_then(Value::as_str);
    kind.unwrap_or_default()
}

fn steps<'a>(sequence: &'a Value, list: &str) -> Result<&'a [Value], String> {
    let steps = sequence.get(list).and_then(Value::as_array);
    let steps = steps.ok_or_else(|| format!("its Sequence has no list {list:?}"))?;
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(file: Value) -> String {
        check(file.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn normalizers_grow_texts_only_so_far() {
        let replace = |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"String": pattern}, "content": content});
        let sequence = |steps: Vec<Value>| json!({"type": "Sequence", "normalizers": steps});
        let gemma = replace(" ", "\u{2581}");
        let growth = |step: &Value| growth(step, "normalizer", "normalizers");
        assert_eq!(growth(&gemma), Ok(3));
        assert_eq!(growth(&replace("aaaa", "a")), Ok(1));
        let llama = json!({"type": "Prepend", "prepend": "\u{2581}"});
        assert_eq!(growth(&sequence(vec![llama, gemma])), Ok(12));
        // Two to the power of 70.
        let doubled = sequence(vec![replace("a", "aa"); 70]);
        assert_eq!(growth(&doubled), Ok(usize::MAX));
        assert!(refusal(json!({"model": {}, "normalizer": doubled})).contains("times longer"));
        let long = json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "a".repeat(64)});
        assert!(refusal(json!({"model": {}, "normalizer": long})).contains("65 times longer"));
        let empty = refusal(json!({"model": {}, "normalizer": replace("", "a")}));
        assert!(empty.contains("the empty text"), "{empty}");
    }

    #[test]
    fn other_kinds_are_named() {
        for (file, expected) in [
            (json!([]), "a list"),
            (json!({}), "model"),
            (json!({"model": {"type": "Unigram"}}), "Unigram"),
            (json!({"model": {"dropout": 0.5}}), "dropout is 0.5"),
            (
                json!({"model": {"continuing_subword_prefix": "##"}}),
                "continuing_subword_prefix is \"##\"",
            ),
            (
                json!({"model": {"end_of_word_suffix": "</w>"}}),
                "end_of_word_suffix is \"</w>\"",
            ),
            (
                json!({"model": {}, "normalizer": {"type": "Precompiled"}}),
                "Precompiled",
            ),
            (
                json!({"model": {}, "decoder": {"type": "Strip"}}),
                "decoder is \"Strip\"",
            ),
            (
                json!({"model": {}, "normalizer": {"type": "Sequence"}}),
                "normalizers",
            ),
            (
                json!({"model": {}, "pre_tokenizer": {"type": "ByteLevel"}}),
                "ByteLevel",
            ),
            (
                json!({"model": {}, "post_processor": {"type": "RobertaProcessing"}}),
                "RobertaProcessing",
            ),
        ] {
            let reason = refusal(file);
            assert!(reason.contains(expected), "{expected:?} in {reason}");
        }
        let none = json!({"model": {"type": "BPE", "dropout": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": null}});
        assert_eq!(check(none.to_string().as_bytes()), Ok(()));
    }
}
