//! Weights of layers that a checkpoint has in 8 or 4 bits, and those that become so while they are
//! loaded or written.

mod load;
mod sdnq;
mod settings;
mod write;

use serde_json::Value;

use super::error::WeightError;
use super::tensors::Weights;

pub use load::load_quantized;
pub use write::{LayerNoise, QuantizePlan, TakeLowRank};

impl Weights {
    /// The weights of layers that are described by the `quantization_config` of a `config.json`, each
    /// as one tensor in place of those that it is made of.
    ///
    /// # Errors
    /// [`WeightError::Quantized`] for a method or a setting that is not supported, by name.
    pub fn with_quantization(self, config: &Value) -> Result<Self, WeightError> {
        let method = config.get("quant_method").and_then(Value::as_str);
        let reason = match method {
            Some("sdnq") => return sdnq::packed(self, config),
            // Its tensors say themselves what they are.
            Some("bitsandbytes") => return Ok(self),
            Some(other) => format!("quant_method {other:?}, expected sdnq or bitsandbytes"),
            None => "its quantization_config has no quant_method".to_owned(),
        };
        Err(self.unsupported(reason))
    }

    pub(super) fn unsupported(&self, reason: String) -> WeightError {
        WeightError::Quantized {
            origin: self.origin().to_owned(),
            reason,
        }
    }
}
