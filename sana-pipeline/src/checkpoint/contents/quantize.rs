//! Networks in 8 or 4 bits: which become so while they are loaded, and those that are stored so.

use sana_linear_attn::quantization::{Quantization, Quantize};
use sana_linear_attn::{WeightError, Weights};
use serde_json::Value;

/// Which networks are quantized while they are loaded, and to what. The autoencoder and a ControlNet
/// stay as they are, and so does what is quantized in its files already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuantizeComponents {
    /// The form of the layers in the transformer's blocks, but for the keys and values of the text.
    pub transformer: Option<Quantization>,
    /// The form of the text encoder's linear layers.
    pub text_encoder: Option<Quantization>,
    /// Keeps the last layers of the transformer's feed-forwards as they are. They suffer most.
    pub dense_down: bool,
}

impl QuantizeComponents {
    /// Both networks, with a text encoder of at least 8 bits: at 4 it follows prompts less well.
    pub fn usual(form: Quantization) -> Self {
        Self {
            transformer: Some(form),
            text_encoder: Some(Quantization::Int8),
            dense_down: false,
        }
    }

    /// Both networks in a form.
    pub fn both(form: Quantization) -> Self {
        Self {
            text_encoder: Some(form),
            ..Self::usual(form)
        }
    }

    /// How the transformer is quantized.
    pub fn of_transformer(self) -> Option<Quantize> {
        Some(Quantize {
            to: self.transformer?,
            dense_down: self.dense_down,
        })
    }
}

/// The weights as the config next to them describes them.
///
/// # Errors
/// [`WeightError::Quantized`] when that is not supported.
pub(in crate::checkpoint) fn as_configured(
    weights: Weights,
    config: &[u8],
) -> Result<Weights, WeightError> {
    // What is wrong with the JSON is said where the config is read.
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    match config.get(CONFIG_KEY) {
        None | Some(Value::Null) => Ok(weights),
        Some(quantization) => weights.with_quantization(quantization),
    }
}

/// The key of a `config.json` that describes quantized weights.
pub(in crate::checkpoint) const CONFIG_KEY: &str = "quantization_config";
