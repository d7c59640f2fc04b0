//! `text_encoder/config.json`.

use std::path::Path;

use sana_linear_attn::weights::{LARGEST_CONFIG, read_bounded};
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use crate::error::TextError;

/// Shape and options of a Gemma-2 stack, with the keys of the checkpoint's `config.json`.
///
/// Both generations of the file are read: the rotary base stands in `rope_theta` or in
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
    /// Channels between the two products of the feed-forward part.
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

/// What a layer's attention sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerType {
    /// The last `sliding_window` tokens.
    #[serde(rename = "sliding_attention")]
    Sliding,
    /// All tokens before, and itself.
    #[serde(rename = "full_attention")]
    Full,
}

/// Activation functions that are implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HiddenActivation {
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    #[serde(rename = "gelu_pytorch_tanh", alias = "gelu_new")]
    GeluTanh,
}

/// Rotary position parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// Base of the frequencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Kind of scaling.
    #[serde(default, alias = "type")]
    pub rope_type: RopeType,
    /// Share of a head's channels that are rotated. Only `1` (or absent) is implemented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_rotary_factor: Option<f64>,
}

/// Kinds of rotary frequencies that are implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RopeType {
    /// Unscaled.
    #[default]
    #[serde(rename = "default")]
    Default,
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

    /// Checks that the values fit together and are implemented.
    ///
    /// # Errors
    /// [`TextError::Config`] with the first offending key and its value.
    pub fn validate(&self) -> Result<(), TextError> {
        self.check_sizes()?;
        self.check_layers()?;
        self.check_rope()?;
        if self.model_type != MODEL_TYPE {
            return refuse(format!(
                "model_type is {:?}, expected {MODEL_TYPE:?}",
                self.model_type
            ));
        }
        if self.attention_bias {
            return refuse("attention_bias is true, only false is implemented".to_owned());
        }
        if self.attention_dropout != 0.0 {
            let dropout = self.attention_dropout;
            return refuse(format!(
                "attention_dropout is {dropout}, only 0 is implemented"
            ));
        }
        if self.use_bidirectional_attention == Some(true) {
            return refuse(
                "use_bidirectional_attention is true, only causal attention is implemented"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), TextError> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("query_pre_attn_scalar", self.query_pre_attn_scalar),
        ];
        if let Some((key, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return refuse(format!("{key} is 0"));
        }
        // No real model comes near. The number of elements of every weight and of all of them
        // together stays below 2^62.
        const LARGEST: usize = 1 << 21;
        const MOST_LAYERS: usize = 1 << 10;
        if let Some((key, size)) = sizes.iter().find(|(_, size)| *size > LARGEST) {
            return refuse(format!("{key} is {size}, more than {LARGEST}"));
        }
        if self.num_hidden_layers > MOST_LAYERS {
            let layers = self.num_hidden_layers;
            return refuse(format!(
                "num_hidden_layers is {layers}, more than {MOST_LAYERS}"
            ));
        }
        for (key, heads) in [
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
        ] {
            if heads * self.head_dim > LARGEST {
                return refuse(format!(
                    "{key} {heads} x head_dim {} is more than {LARGEST}",
                    self.head_dim
                ));
            }
        }
        let (heads, key_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(key_heads) {
            return refuse(format!(
                "num_attention_heads {heads} is not a multiple of num_key_value_heads {key_heads}"
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return refuse(format!("head_dim {} is odd", self.head_dim));
        }
        let positive = [
            ("rms_norm_eps", Some(self.rms_norm_eps)),
            ("attn_logit_softcapping", self.attn_logit_softcapping),
        ];
        for (key, value) in positive {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return refuse(format!("{key} is {value}, expected a positive number"));
            }
        }
        if !(self.initializer_range.is_finite() && self.initializer_range >= 0.0) {
            return refuse(format!("initializer_range is {}", self.initializer_range));
        }
        Ok(())
    }

    fn check_layers(&self) -> Result<(), TextError> {
        let layers = self.num_hidden_layers;
        if let Some(types) = self
            .layer_types
            .as_ref()
            .filter(|types| types.len() != layers)
        {
            return refuse(format!(
                "layer_types has {} entries for num_hidden_layers {layers}",
                types.len()
            ));
        }
        let slides = (0..layers).any(|layer| self.layer_type(layer) == LayerType::Sliding);
        if slides && self.sliding_window.unwrap_or(0) == 0 {
            let window = self.sliding_window;
            return refuse(format!(
                "sliding_window is {window:?} although layers slide"
            ));
        }
        Ok(())
    }

    fn check_rope(&self) -> Result<(), TextError> {
        let theta = self.rope_theta();
        if !(theta.is_finite() && theta > 0.0) {
            return refuse(format!("rope_theta is {theta}, expected a positive number"));
        }
        for rope in [self.rope_parameters, self.rope_scaling]
            .into_iter()
            .flatten()
        {
            if let Some(share) = rope.partial_rotary_factor.filter(|share| *share != 1.0) {
                return refuse(format!(
                    "partial_rotary_factor is {share}, only 1 is implemented"
                ));
            }
        }
        Ok(())
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

fn refuse(reason: String) -> Result<(), TextError> {
    Err(TextError::Config { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Gemma2Config, TextError> {
        Gemma2Config::from_json("config.json", json.as_bytes())
    }

    fn message(json: &str) -> String {
        parse(json).expect_err(json).to_string()
    }

    #[test]
    fn preset_has_the_published_parameter_count() {
        let config = Gemma2Config::gemma_2_2b();
        config.validate().unwrap();
        assert_eq!(config.parameter_count(), 2_614_341_888);
        assert_eq!(config.embedding_parameter_count(), 589_824_000);
    }

    #[test]
    fn first_generation_of_the_file() {
        let config = parse(
            r#"{"architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
                "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2,
                "cache_implementation": "hybrid", "eos_token_id": [1, 107],
                "final_logit_softcapping": 30.0, "head_dim": 256,
                "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
                "hidden_size": 2304, "initializer_range": 0.02, "intermediate_size": 9216,
                "max_position_embeddings": 8192, "model_type": "gemma2",
                "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
                "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
                "rope_theta": 10000.0, "rope_scaling": null, "sliding_window": 4096,
                "torch_dtype": "bfloat16", "transformers_version": "4.42.4", "use_cache": true,
                "vocab_size": 256000}"#,
        )
        .unwrap();
        let preset = Gemma2Config {
            architectures: vec!["Gemma2ForCausalLM".to_owned()],
            ..Gemma2Config::gemma_2_2b()
        };
        assert_eq!(config, preset);
        assert_eq!(config.layer_type(0), LayerType::Sliding);
        assert_eq!(config.layer_type(1), LayerType::Full);
    }

    #[test]
    fn second_generation_of_the_file() {
        let config = parse(
            r#"{"num_hidden_layers": 3,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                "rope_theta": 7.0,
                "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}"#,
        )
        .unwrap();
        assert_eq!(config.rope_theta(), 500.0);
        assert_eq!(config.layer_type(0), LayerType::Full);
        assert_eq!(config.layer_type(1), LayerType::Sliding);
    }

    #[test]
    fn written_config_reads_back() {
        let config = Gemma2Config {
            num_hidden_layers: 4,
            ..Gemma2Config::gemma_2_2b()
        };
        assert_eq!(parse(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn refusals_name_the_value() {
        let cases = [
            (r#"{"hidden_activation": "silu"}"#, "silu"),
            (r#"{"hidden_activation": "gelu"}"#, "gelu"),
            (
                r#"{"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}"#,
                "yarn",
            ),
            (
                r#"{"rope_scaling": {"type": "linear", "factor": 2.0}}"#,
                "linear",
            ),
            (
                r#"{"rope_parameters": {"partial_rotary_factor": 0.5}}"#,
                "0.5",
            ),
            (r#"{"rope_theta": -3.0}"#, "-3"),
            (r#"{"attention_bias": true}"#, "attention_bias is true"),
            (r#"{"attention_dropout": 0.1}"#, "0.1"),
            (r#"{"use_bidirectional_attention": true}"#, "bidirectional"),
            (r#"{"model_type": "t5"}"#, "t5"),
            (
                r#"{"num_key_value_heads": 3}"#,
                "8 is not a multiple of num_key_value_heads 3",
            ),
            (r#"{"head_dim": 255}"#, "255"),
            (r#"{"hidden_size": 0}"#, "hidden_size is 0"),
            (
                r#"{"vocab_size": 9000000000000000000}"#,
                "9000000000000000000",
            ),
            (r#"{"rms_norm_eps": 0}"#, "rms_norm_eps is 0"),
            (r#"{"initializer_range": -1.0}"#, "-1"),
            (r#"{"attn_logit_softcapping": -50.0}"#, "-50"),
            (r#"{"sliding_window": null}"#, "sliding_window is None"),
            (r#"{"layer_types": ["full_attention"]}"#, "1 entries"),
            (
                r#"{"layer_types": ["chunked_attention"]}"#,
                "chunked_attention",
            ),
            (r#"{"hidden_size": "many"}"#, "many"),
            ("{", "config.json"),
            ("[]", "a list"),
            (r#"{"num_hidden_layers": 1025}"#, "more than 1024"),
            (r#"{"num_attention_heads": 65536}"#, "65536 x head_dim 256"),
        ];
        for (json, expected) in cases {
            let message = message(json);
            assert!(message.contains(expected), "{json}: {message}");
        }
    }

    #[test]
    fn no_window_is_needed_when_no_layer_slides() {
        let json = r#"{"num_hidden_layers": 1, "layer_types": ["full_attention"],
                       "sliding_window": null, "attn_logit_softcapping": null,
                       "hidden_activation": "gelu_new"}"#;
        assert_eq!(parse(json).unwrap().attn_logit_softcapping, None);
    }

    #[test]
    fn missing_file_is_named() {
        let error = Gemma2Config::from_file(Path::new("nowhere/config.json")).unwrap_err();
        assert!(matches!(error, TextError::Io { .. }));
        assert!(error.to_string().contains("nowhere/config.json"), "{error}");
    }
}
