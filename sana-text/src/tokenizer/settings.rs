//! What `tokenizer_config.json` adds to a `tokenizer.json`.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::processors::template::TemplateProcessing;

/// Name of the token before every text.
pub(super) const BOS_TOKEN: &str = "<bos>";

/// The keys about special tokens.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    bos_token: Value,
    eos_token: Value,
    tokenizer_class: Option<String>,
}

impl Settings {
    /// Has a tokenizer that adds no special tokens add those that these settings ask for.
    pub fn apply(&self, inner: &mut Tokenizer) -> Result<(), String> {
        let gemma = matches!(
            self.tokenizer_class.as_deref(),
            Some("GemmaTokenizer" | "GemmaTokenizerFast")
        );
        let mut special = Vec::new();
        let mut add = |wanted: bool, name: String| match inner.token_to_id(&name) {
            _ if !wanted => Ok(None),
            Some(id) => {
                special.push((name.clone(), id));
                Ok(Some(name))
            }
            None => Err(format!("it adds {name:?}, which is no token")),
        };
        let bos = add(
            self.add_bos_token.unwrap_or(gemma),
            token(&self.bos_token, BOS_TOKEN),
        )?;
        let eos = add(
            self.add_eos_token.unwrap_or(false),
            token(&self.eos_token, "<eos>"),
        )?;
        if !special.is_empty() {
            let before = bos.as_deref().into_iter();
            let template: Vec<&str> = before.chain(["$A"]).chain(eos.as_deref()).collect();
            let processor = TemplateProcessing::builder()
                .try_single(template)
                .map_err(|error| format!("its special tokens: {error}"))?
                .special_tokens(special)
                .build()
                .map_err(|error| format!("its special tokens: {error}"))?;
            inner.with_post_processor(Some(processor));
        }
        Ok(())
    }
}

/// The text of a token, which is a string or an object with its `content`.
fn token(value: &Value, default: &str) -> String {
    let content = value.get("content").unwrap_or(value);
    content.as_str().unwrap_or(default).to_owned()
}
