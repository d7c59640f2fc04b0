//! Tokenizers of other forms.

use std::fs;
use std::path::Path;

use sana_pipeline::PipelineError;
use serde_json::Value;

use super::*;

/// The embeddings of a prompt, and what was noted.
fn encoded(folder: &Path, prompt: &str) -> Result<(Vec<f32>, Vec<String>), PipelineError> {
    let mut pipeline = SanaPipeline::load(folder, &device())?;
    let request = Request::new(prompt).size(64, 32).guidance(1.0);
    let conditioning = pipeline.encode_prompt(&request)?;
    let embeds = sana_linear_attn::parity::values(conditioning.prompt.embeds);
    Ok((embeds, pipeline.notes().to_vec()))
}

/// A tokenizer whose post-processor adds no `<bos>`: the config next to it decides.
#[test]
fn tokenizers_without_bos() {
    let folder = copy_of(&sana_folder());
    let path = |name: &str| folder.path().join("tokenizer").join(name);
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut json = serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap();
        change(&mut json);
        fs::write(path(name), json.to_string()).unwrap();
    };
    let (expected, notes) = encoded(folder.path(), "a red circle").unwrap();
    assert!(notes.is_empty());
    edit("tokenizer.json", &|json| {
        json["post_processor"] = Value::Null
    });
    edit("tokenizer_config.json", &|json| {
        json["add_bos_token"] = true.into()
    });
    let (found, notes) = encoded(folder.path(), "a red circle").unwrap();
    assert_eq!(found, expected);
    assert!(notes.is_empty(), "{notes:?}");
    SanaPipeline::load(folder.path(), &device())
        .unwrap()
        .generate(&small(), &mut |_| sana_pipeline::StepAction::Continue)
        .unwrap();

    edit("tokenizer_config.json", &|json| {
        json["add_bos_token"] = false.into()
    });
    let (found, notes) = encoded(folder.path(), "a red circle").unwrap();
    assert_ne!(found, expected);
    assert!(notes[0].contains("adds no <bos>"), "{notes:?}");
    // The empty negative prompt has no token then.
    let mut pipeline = SanaPipeline::load(folder.path(), &device()).unwrap();
    let request = Request::new("a red circle").size(64, 32).guidance(4.0);
    let error = pipeline.encode_prompt(&request).unwrap_err().to_string();
    assert!(error.contains("add_bos_token"), "{error}");
}

#[test]
fn a_tokenizer_of_another_form() {
    let folder = copy_of(&sana_folder());
    let tokenizer = folder.path().join("tokenizer");
    fs::remove_file(tokenizer.join("tokenizer.json")).unwrap();
    fs::write(tokenizer.join("tokenizer.model"), "sentencepiece").unwrap();
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("tokenizer.model there is not read"),
        "{error}"
    );
    assert!(error.contains("save_pretrained"), "{error}");
}
