//! What `tokenizer_config.json` adds to a `tokenizer.json`.

use std::fs;

use serde_json::{Value, json};

use sana_text::{GemmaTokenizer, TextError, train_gemma_style};

/// A folder with a tokenizer that adds nothing, and this config.
fn folder(config: Option<&Value>) -> tempfile::TempDir {
    let json = train_gemma_style(["a red circle"], 280).unwrap();
    let mut value: Value = serde_json::from_str(&json).unwrap();
    value["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {},
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), value.to_string()).unwrap();
    if let Some(config) = config {
        let path = folder.path().join("tokenizer_config.json");
        fs::write(path, config.to_string()).unwrap();
    }
    folder
}

fn open(config: Option<&Value>) -> Result<GemmaTokenizer, TextError> {
    GemmaTokenizer::from_folder(folder(config).path())
}

#[test]
fn bos_of_the_config() {
    let plain = open(None).unwrap();
    assert!(!plain.adds_bos());
    assert_eq!(plain.encode("").unwrap(), [0u32; 0]);
    let bos = plain.token_to_id("<bos>").unwrap();
    let eos = plain.token_to_id("<eos>").unwrap();
    let text = plain.encode("a red circle").unwrap();
    for (config, before, after) in [
        (json!({"add_bos_token": true}), Some(bos), None),
        (
            json!({"add_bos_token": true, "bos_token": {"content": "<bos>"}}),
            Some(bos),
            None,
        ),
        (
            json!({"tokenizer_class": "GemmaTokenizer"}),
            Some(bos),
            None,
        ),
        (
            json!({"tokenizer_class": "GemmaTokenizerFast", "add_eos_token": true}),
            Some(bos),
            Some(eos),
        ),
        (
            json!({"tokenizer_class": "GemmaTokenizer", "add_bos_token": false}),
            None,
            None,
        ),
        (
            json!({"add_bos_token": null, "model_max_length": 8192}),
            None,
            None,
        ),
    ] {
        let tokenizer = open(Some(&config)).unwrap();
        assert_eq!(tokenizer.adds_bos(), before.is_some(), "{config}");
        let expected: Vec<u32> = before
            .into_iter()
            .chain(text.iter().copied())
            .chain(after)
            .collect();
        assert_eq!(
            tokenizer.encode("a red circle").unwrap(),
            expected,
            "{config}"
        );
        let special = expected.len() - text.len();
        assert_eq!(tokenizer.special_tokens(), special, "{config}");
        let cut = tokenizer
            .encode_limited("a red circle", special + 1)
            .unwrap();
        assert_eq!(cut.dropped, text.len() - 1, "{config}");
    }
}

#[test]
fn configs_that_are_not_usable() {
    let error = open(Some(
        &json!({"add_bos_token": true, "bos_token": "<begin>"}),
    ));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("<begin>"), "{error}");
    let error = open(Some(&json!({"add_bos_token": "yes"}))).unwrap_err();
    assert!(
        error.to_string().contains("tokenizer_config.json"),
        "{error}"
    );
}

/// A tokenizer that adds special tokens needs no config.
#[test]
fn the_tokenizer_comes_first() {
    let folder = folder(Some(&json!([])));
    let json = train_gemma_style(["a red circle"], 280).unwrap();
    fs::write(folder.path().join("tokenizer.json"), json).unwrap();
    assert!(
        GemmaTokenizer::from_folder(folder.path())
            .unwrap()
            .adds_bos()
    );
}
