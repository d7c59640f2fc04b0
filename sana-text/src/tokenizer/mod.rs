//! Gemma's tokenizer: byte-pair encoding with byte fallback, read from `tokenizer.json`.

mod outline;
mod settings;
mod train;

use std::path::Path;

use sana_linear_attn::weights::read_bounded;
use serde_json::Value;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

use crate::error::TextError;

use settings::{BOS_TOKEN, Settings};

pub use train::train_gemma_style;

/// Bytes of a `tokenizer.json`, at most: 64 MiB. Gemma-2's has 17 MB.
pub const LARGEST_TOKENIZER: u64 = 64 << 20;

/// Name of the padding token.
const PAD_TOKEN: &str = "<pad>";

/// A tokenizer read from a `tokenizer.json`.
///
/// Special tokens are added as the file's post-processor says (Gemma: `<bos>` before the text), or,
/// where it adds none, as the `tokenizer_config.json` next to it does.
/// Truncation and padding that the file may ask for are not applied: the caller decides.
#[derive(Debug, Clone)]
pub struct GemmaTokenizer {
    inner: Tokenizer,
    pad_id: u32,
    adds_bos: bool,
}

/// The ids of a text that was cut to a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Ids, special tokens included.
    pub ids: Vec<u32>,
    /// Tokens cut off at the end of the text.
    pub dropped: usize,
}

impl GemmaTokenizer {
    /// Reads `tokenizer.json` of a folder. Where that adds no special tokens, as files that were
    /// converted from SentencePiece do not, `<bos>` and `<eos>` are added as `add_bos_token` and
    /// `add_eos_token` of `tokenizer_config.json` say. Without the first of these keys `<bos>` is
    /// added for the classes `GemmaTokenizer` and `GemmaTokenizerFast`, as in transformers.
    ///
    /// # Errors
    /// [`TextError::NoTokenizer`] when the folder has no tokenizer, or as [`from_file`](Self::from_file);
    /// [`TextError::Tokenizer`] when the config is needed and not usable.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(TextError::NoTokenizer {
                folder: folder.to_path_buf(),
                has_sentencepiece_model: folder.join("tokenizer.model").is_file(),
            });
        }
        let mut tokenizer = Self::from_file(&path)?;
        let config = folder.join("tokenizer_config.json");
        if tokenizer.special_tokens() == 0 && config.is_file() {
            let json =
                read_bounded(&config, LARGEST_TOKENIZER).map_err(|source| TextError::Io {
                    path: config.clone(),
                    source,
                })?;
            let settings = serde_json::from_slice::<Settings>(&json);
            let applied = settings.map_err(|error| error.to_string());
            applied
                .and_then(|settings| settings.apply(&mut tokenizer.inner))
                .map_err(|reason| TextError::Tokenizer {
                    origin: config.display().to_string(),
                    reason,
                })?;
            return Ok(Self::new(tokenizer.inner, tokenizer.pad_id));
        }
        Ok(tokenizer)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read, or as [`from_bytes`](Self::from_bytes).
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        let json = read_bounded(path, LARGEST_TOKENIZER).map_err(|source| TextError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::from_bytes(&path.display().to_string(), &json)
    }

    /// Reads the bytes of a `tokenizer.json`. `origin` names them in errors.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`] when they are not a tokenizer, it has no `<pad>`, it is of another
    /// kind than Gemma's (byte-pair encoding without dropout and without prefixes or suffixes of
    /// its own), its normalizer could make a text more than 64 times longer, or its post-processor
    /// refers to tokens or texts that do not exist.
    pub fn from_bytes(origin: &str, json: &[u8]) -> Result<Self, TextError> {
        let unusable = |reason: String| TextError::Tokenizer {
            origin: origin.to_owned(),
            reason,
        };
        outline::check(json).map_err(unusable)?;
        let mut inner = Tokenizer::from_bytes(json).map_err(|error| unusable(error.to_string()))?;
        inner
            .with_truncation(None)
            .map_err(|error| unusable(error.to_string()))?;
        inner.with_padding(None);
        let pad_id = inner
            .token_to_id(PAD_TOKEN)
            .ok_or_else(|| unusable(format!("it has no token {PAD_TOKEN:?}")))?;
        if let Some(post_processor) = inner.get_post_processor() {
            let value = serde_json::to_value(post_processor)
                .map_err(|error| unusable(error.to_string()))?;
            check_templates(&value).map_err(unusable)?;
        }
        Ok(Self::new(inner, pad_id))
    }

    fn new(inner: Tokenizer, pad_id: u32) -> Self {
        let bos = inner.token_to_id(BOS_TOKEN);
        let empty = inner.encode_fast("", true);
        let adds_bos = empty.is_ok_and(|ids| ids.get_ids().iter().any(|id| Some(*id) == bos));
        Self {
            inner,
            pad_id,
            adds_bos,
        }
    }

    /// Ids of a text with its special tokens. Special tokens written out in the text are
    /// recognised.
    ///
    /// # Errors
    /// [`TextError::Tokenize`] when the tokenizer fails, such as on a character outside a
    /// vocabulary without byte fallback.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(self.encode_limited(text, usize::MAX)?.ids)
    }

    /// Ids of a text, cut at its end so that, special tokens included, at most `limit` remain.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or [`TextError::TokenLimit`].
    pub fn encode_limited(&self, text: &str, limit: usize) -> Result<Encoded, TextError> {
        let special = self.special_tokens();
        let room = limit
            .checked_sub(special)
            .filter(|_| limit > 0)
            .ok_or(TextError::TokenLimit { limit, special })?;
        let mut encoding = self.inner.encode_fast(text, false).map_err(failed)?;
        let dropped = encoding.len().saturating_sub(room);
        encoding.truncate(room, 0, TruncationDirection::Right);
        encoding.take_overflowing();
        let encoding = self
            .inner
            .post_process(encoding, None, true)
            .map_err(failed)?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            dropped,
        })
    }

    /// The text of ids, special tokens left out.
    ///
    /// # Errors
    /// [`TextError::Tokenize`] when the decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        self.inner.decode(ids, true).map_err(failed)
    }

    /// Number of tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether every text gets a `<bos>`, with which Gemma was trained.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Id of `<pad>`.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Id of a token by its text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Special tokens that every text gets.
    pub fn special_tokens(&self) -> usize {
        self.inner
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(false))
    }
}

fn failed(error: tokenizers::Error) -> TextError {
    TextError::Tokenize {
        reason: error.to_string(),
    }
}

/// Checks every template of a post-processor: the library indexes what they refer to unchecked.
fn check_templates(processor: &Value) -> Result<(), String> {
    if let Some(processors) = processor.get("processors").and_then(Value::as_array) {
        return processors.iter().try_for_each(check_templates);
    }
    let Some(pieces) = processor.get("single").and_then(Value::as_array) else {
        return Ok(());
    };
    for piece in pieces {
        if let Some(token) = piece.pointer("/SpecialToken/id").and_then(Value::as_str) {
            let known = processor
                .get("special_tokens")
                .and_then(|tokens| tokens.get(token));
            if known.is_none() {
                return Err(format!(
                    "its post-processor uses the undefined token {token:?}"
                ));
            }
        }
        if piece.pointer("/Sequence/id").and_then(Value::as_str) == Some("B") {
            return Err("its post-processor puts a second text into single texts".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn small() -> Value {
        let json = train_gemma_style(["a red circle", "a blue square"], 300).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    fn read(value: &Value) -> Result<GemmaTokenizer, TextError> {
        GemmaTokenizer::from_bytes("test", value.to_string().as_bytes())
    }

    fn refusal(value: &Value) -> String {
        let error = read(value).unwrap_err();
        assert!(matches!(error, TextError::Tokenizer { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn limit_counts_special_tokens() {
        let tokenizer = read(&small()).unwrap();
        let all = tokenizer.encode("a red circle").unwrap();
        for limit in 1..all.len() + 2 {
            let cut = tokenizer.encode_limited("a red circle", limit).unwrap();
            assert_eq!(cut.ids, all[..limit.min(all.len())]);
            assert_eq!(cut.dropped, all.len().saturating_sub(limit));
        }
        let error = tokenizer.encode_limited("a", 0).unwrap_err();
        assert!(
            matches!(
                error,
                TextError::TokenLimit {
                    limit: 0,
                    special: 1
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn special_token_after_the_text_survives_the_cut() {
        let mut value = small();
        value["post_processor"]["single"] = json!([{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<bos>", "type_id": 0}}]);
        let tokenizer = read(&value).unwrap();
        let bos = tokenizer.token_to_id("<bos>").unwrap();
        let cut = tokenizer.encode_limited("a red circle", 2).unwrap();
        assert_eq!((cut.ids.len(), cut.ids[1]), (2, bos));
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_not_applied() {
        let mut value = small();
        value["truncation"] = json!({"direction": "Right", "max_length": 2,
            "strategy": "LongestFirst", "stride": 0});
        value["padding"] = json!({"strategy": {"Fixed": 50}, "direction": "Left",
            "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"});
        let text = "a red square";
        assert_eq!(
            read(&value).unwrap().encode(text).unwrap(),
            read(&small()).unwrap().encode(text).unwrap()
        );
    }

    #[test]
    fn without_a_post_processor_nothing_is_added() {
        let mut value = small();
        value["post_processor"] = Value::Null;
        let tokenizer = read(&value).unwrap();
        assert_eq!(tokenizer.special_tokens(), 0);
        assert!(tokenizer.encode("").unwrap().is_empty());
    }

    #[test]
    fn hostile_files() {
        for bytes in [
            &b""[..],
            b"{",
            b"[]",
            b"{}",
            b"\xff\xfe",
            b"{\"version\": \"9.0\"}",
        ] {
            let error = GemmaTokenizer::from_bytes("bad.json", bytes).unwrap_err();
            assert!(error.to_string().contains("bad.json"), "{error}");
        }
        let nested = "[".repeat(200_000);
        assert!(GemmaTokenizer::from_bytes("deep", nested.as_bytes()).is_err());

        let mut no_pad = small();
        no_pad["added_tokens"].as_array_mut().unwrap().remove(0);
        no_pad["model"]["vocab"]
            .as_object_mut()
            .unwrap()
            .remove("<pad>");
        assert!(refusal(&no_pad).contains("<pad>"));

        let mut undefined = small();
        undefined["post_processor"]["special_tokens"] = json!({});
        assert!(refusal(&undefined).contains("<bos>"));

        let mut second_text = small();
        second_text["post_processor"]["single"] = json!([{"Sequence": {"id": "B", "type_id": 0}}]);
        assert!(refusal(&second_text).contains("second text"));

        let mut nested_processor = small();
        nested_processor["post_processor"] =
            json!({"type": "Sequence", "processors": [second_text["post_processor"]]});
        assert!(refusal(&nested_processor).contains("second text"));

        let mut merges = small();
        merges["model"]["merges"]
            .as_array_mut()
            .unwrap()
            .push(json!(["neither", "nor"]));
        refusal(&merges);
    }

    #[test]
    fn truncated_file() {
        let text = small().to_string();
        for cut in [1, text.len() / 3, text.len() / 2, text.len() - 1] {
            assert!(GemmaTokenizer::from_bytes("cut", &text.as_bytes()[..cut]).is_err());
        }
    }

    #[test]
    fn character_outside_a_vocabulary_without_bytes() {
        let mut value = small();
        value["model"]["byte_fallback"] = json!(false);
        value["model"]["unk_token"] = json!("<gone>");
        let result = read(&value).and_then(|tokenizer| tokenizer.encode("é"));
        assert!(
            matches!(result, Err(TextError::Tokenize { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = GemmaTokenizer::from_folder(folder.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&folder.path().display().to_string()),
            "{error}"
        );
        assert!(!error.to_string().contains("SentencePiece"), "{error}");

        std::fs::write(folder.path().join("tokenizer.model"), b"").unwrap();
        let error = GemmaTokenizer::from_folder(folder.path()).unwrap_err();
        assert!(error.to_string().contains("SentencePiece"), "{error}");

        let error = GemmaTokenizer::from_file(&folder.path().join("absent.json")).unwrap_err();
        assert!(matches!(error, TextError::Io { .. }), "{error}");
    }
}
