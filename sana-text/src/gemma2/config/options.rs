//! The choices that a config makes by name, and the rotary parameters.

use serde::{Deserialize, Serialize};

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
