//! `text_encoder/config.json`.

mod options;
#[cfg(test)]
mod tests;
mod validate;

use std::path::Path;

use sana_linear_attn::weights::{LARGEST_CONFIG, read_bounded};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

pub use options::{HiddenActivation, LayerType, RopeParameters, RopeType};

use crate::error::TextError;

/// Shape and options of a Gemma-2 stack, with the keys of the checkpoint's `config.json`.
///
/// Both generations of the file are read: the rotary base is in `rope_theta` or in
/// `rope_parameters`, and `layer_types` may be absent. Keys that do not concern the encoder are
/// accepted and dropped; values that it does not implement are refused by
/// [`validate`](Self::validate) or by the parser, with the value in the message.
///
/// Defaults are those of the reference, which are [`gemma_2_2b`](Self::gemma_2_2b).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gemma2Config {
    /// Class names that the checkpoint was saved from, such as `Gemma2Model`.
    pub architectures: Vec<String>,
    /// Always `gemma2`.
    pub model_type: String,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Channels between the two matmuls of the feed-forward part.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; each serves `num_attention_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// Activation of the gate in the feed-forward part.
    pub hidden_activation: HiddenActivation,
    /// Longest sequence that the model was trained for. Longer ones run, without promise.
    pub max_position_embeddings: usize,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Whether the projections of attention have biases. Only `false` is implemented.
    pub attention_bias: bool,
    /// Dropout of attention weights in training. Only `0` is implemented.
    pub attention_dropout: f64,
    /// Scores are divided by the square root of this.
    pub query_pre_attn_scalar: usize,
    /// Tokens that a sliding layer sees, itself included.
    pub sliding_window: Option<usize>,
    /// Kind of each layer. Without it, layers 0, 2, 4, ... slide and the others do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<LayerType>>,
    /// Soft cap of the language head's logits, which the encoder does not have. Kept for writing.
    pub final_logit_softcapping: Option<f64>,
    /// Soft cap `c` of attention scores: `c tanh(s / c)`. No cap when `null`.
    pub attn_logit_softcapping: Option<f64>,
    /// Attention to later tokens. Only `false` (or `null`) is implemented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_bidirectional_attention: Option<bool>,
    /// Base of the rotary frequencies, first generation of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Scaling of the rotary frequencies, first generation of the file. Only the kind `default`
    /// (or `null`) is implemented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeParameters>,
    /// Rotary parameters, second generation of the file; they take precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeParameters>,
}

const MODEL_TYPE: &str = "gemma2";
const DEFAULT_ROPE_THETA: f64 = 10000.0;

impl Default for Gemma2Config {
    fn default() -> Self {
        Self {
            architectures: vec!["Gemma2Model".to_owned()],
            model_type: MODEL_TYPE.to_owned(),
            vocab_size: 256_000,
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            hidden_activation: HiddenActivation::GeluTanh,
            max_position_embeddings: 8192,
            initializer_range: 0.02,
            rms_norm_eps: 1e-6,
            attention_bias: false,
            attention_dropout: 0.0,
            query_pre_attn_scalar: 256,
            sliding_window: Some(4096),
            layer_types: None,
            final_logit_softcapping: Some(30.0),
            attn_logit_softcapping: Some(50.0),
            use_bidirectional_attention: None,
            rope_theta: None,
            rope_scaling: None,
            rope_parameters: None,
        }
    }
}

impl Gemma2Config {
    /// Gemma-2 2B, the text encoder of every released Sana: 2,614,341,888 parameters, 589,824,000
    /// of them in the embedding table.
    pub fn gemma_2_2b() -> Self {
        Self {
            rope_theta: Some(DEFAULT_ROPE_THETA),
            ..Self::default()
        }
    }

    /// Reads and validates a `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read, or as [`from_json`](Self::from_json).
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        let json = read_bounded(path, LARGEST_CONFIG).map_err(|source| TextError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::from_json(&path.display().to_string(), &json)
    }

    /// Parses and validates the text of a `config.json`. `origin` names it in errors.
    ///
    /// # Errors
    /// When it is not JSON, a key has the wrong type, or [`validate`](Self::validate) refuses it.
    pub fn from_json(origin: &str, json: &[u8]) -> Result<Self, TextError> {
        let syntax = |source| TextError::ConfigSyntax {
            origin: origin.to_owned(),
            source,
        };
        // serde would take a list for the fields in order, and an empty one for the defaults.
        if json.trim_ascii_start().first() == Some(&b'[') {
            let reason = "it is a list, expected an object";
            return Err(syntax(serde_json::Error::custom(reason)));
        }
        let config: Self = serde_json::from_slice(json).map_err(syntax)?;
        config.validate().map_err(|error| match error {
            TextError::Config { reason } => TextError::Config {
                reason: format!("{reason} (in {origin})"),
            },
            other => other,
        })?;
        Ok(config)
    }

    /// The text of a `config.json` that the reference reads as well.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a config of plain values always serialises")
    }

    /// Base of the rotary frequencies, from whichever key has it.
    pub fn rope_theta(&self) -> f64 {
        self.rope_parameters
            .and_then(|rope| rope.rope_theta)
            .or(self.rope_theta)
            .unwrap_or(DEFAULT_ROPE_THETA)
    }

    /// What layer `layer` (from 0) sees.
    pub fn layer_type(&self, layer: usize) -> LayerType {
        match self.layer_types.as_ref().and_then(|types| types.get(layer)) {
            Some(&kind) => kind,
            None if layer.is_multiple_of(2) => LayerType::Sliding,
            None => LayerType::Full,
        }
    }

    /// Parameters of the embedding table.
    pub fn embedding_parameter_count(&self) -> usize {
        self.vocab_size * self.hidden_size
    }

    /// Parameters of the whole checkpoint, the embedding table included and the language head,
    /// which shares it, not.
    pub fn parameter_count(&self) -> usize {
        let heads = self.num_attention_heads * self.head_dim;
        let key_heads = self.num_key_value_heads * self.head_dim;
        let attention = 2 * self.hidden_size * (heads + key_heads);
        let mlp = 3 * self.hidden_size * self.intermediate_size;
        let norms = 4 * self.hidden_size;
        self.embedding_parameter_count()
            + self.num_hidden_layers * (attention + mlp + norms)
            + self.hidden_size
    }
}
