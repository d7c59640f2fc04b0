//! The error type of this crate.

use std::path::PathBuf;

use burn::tensor::DType;
use sana_linear_attn::WeightError;

/// What can go wrong between a prompt and its embeddings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder without a `tokenizer.json`.
    #[error("no tokenizer.json in {folder}{}", sentencepiece_hint(*.has_sentencepiece_model))]
    NoTokenizer {
        /// The folder.
        folder: PathBuf,
        /// Whether a `tokenizer.model` is there, the form that this crate does not read.
        has_sentencepiece_model: bool,
    },
    /// A `tokenizer.json` that cannot be used.
    #[error("{origin} is not a usable tokenizer: {reason}")]
    Tokenizer {
        /// Where it comes from: a path or the name given.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer failed on a text, or on a list of ids to decode.
    #[error("the tokenizer failed: {reason}")]
    Tokenize {
        /// The tokenizer's reason.
        reason: String,
    },
    /// A token limit too small to hold the special tokens that the tokenizer adds.
    #[error("a limit of {limit} tokens leaves no room for the {special} special tokens")]
    TokenLimit {
        /// The limit asked for.
        limit: usize,
        /// Special tokens that the post-processor adds to every text.
        special: usize,
    },
    /// A `config.json` that is not valid JSON, or has a key of the wrong type or of a value this
    /// crate does not implement.
    #[error("{origin} is not a usable Gemma-2 config: {source}")]
    ConfigSyntax {
        /// Where it comes from: a path or the name given.
        origin: String,
        /// The parser's reason, with the value, line and column.
        source: serde_json::Error,
    },
    /// A Gemma-2 config with values that contradict each other or are not implemented.
    #[error("unusable Gemma-2 config: {reason}")]
    Config {
        /// The key, its value and what is wrong with it.
        reason: String,
    },
    /// The weights could not be read or do not fit the config.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A GGUF file of another model than the config's.
    #[error("{origin} is not the text encoder as GGUF: {reason}")]
    Gguf {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The embedding table of a checkpoint has the wrong shape.
    #[error("embedding table {name:?} in {origin} has shape {found:?}, expected {expected:?}")]
    EmbeddingShape {
        /// The tensor's name.
        name: String,
        /// Where it was found.
        origin: String,
        /// `[vocab_size, hidden_size]` of the config.
        expected: [usize; 2],
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A model without an embedding table was given token ids.
    #[error("the model has no embedding table; load it from a checkpoint or start it with one")]
    NoEmbedding,
    /// A dtype in which the encoder cannot run.
    #[error("text encoder dtype {found:?} is not supported, expected F32, BF16 or F16")]
    Dtype {
        /// The dtype asked for.
        found: DType,
    },
    /// The tokenizer knows more tokens than the model has embedding rows.
    #[error("the tokenizer has {tokenizer} tokens but the text encoder only {model} embeddings")]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding table.
        model: usize,
    },
    /// A token id without an embedding row.
    #[error("token id {id} is outside the embedding table of {vocab_size} rows")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Rows of the table.
        vocab_size: usize,
    },
    /// Token rows of different lengths in one batch.
    #[error("row {row} of the batch has {found} tokens, expected {expected} as in row 0")]
    RaggedBatch {
        /// The row that differs.
        row: usize,
        /// Length of row 0.
        expected: usize,
        /// Length of this row.
        found: usize,
    },
    /// A batch without prompts or without tokens.
    #[error("nothing to encode: the batch is empty")]
    EmptyBatch,
    /// Only prompts without any token: empty ones, to which the tokenizer adds nothing.
    #[error(
        "an empty prompt has no tokens, because the tokenizer adds no <bos>: set add_bos_token in \
         tokenizer_config.json, or give a prompt, also where a negative prompt is needed"
    )]
    NoTokens,
    /// `max_tokens` of the prompt options is zero.
    #[error("max_tokens is 0; at least 1 token has to be kept")]
    NoTokensKept,
    /// Prompt embeddings and their mask, or embeddings to be put together, differ in shape.
    #[error("prompt embeddings {what}: expected {expected}, found {found}")]
    EmbedsShape {
        /// Which size differs.
        what: &'static str,
        /// Size expected.
        expected: usize,
        /// Size found.
        found: usize,
    },
    /// A vocabulary too small for the tokens that every Gemma-style tokenizer has.
    #[error("a vocabulary of {requested} tokens is too small: {minimum} are needed at least")]
    VocabularyTooSmall {
        /// Size asked for.
        requested: usize,
        /// Four special tokens, 256 bytes and one character.
        minimum: usize,
    },
    /// A tokenizer was to be trained on no text at all.
    #[error("no captions to train the tokenizer on")]
    NoCaptions,
}

fn sentencepiece_hint(has_sentencepiece_model: bool) -> &'static str {
    if has_sentencepiece_model {
        "; the SentencePiece file tokenizer.model there is not read: convert it to tokenizer.json, \
         which transformers does with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    } else {
        ""
    }
}
