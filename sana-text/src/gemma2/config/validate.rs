//! What a stack needs of its config.

use super::{Gemma2Config, LayerType, MODEL_TYPE};
use crate::error::TextError;

impl Gemma2Config {
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
}

fn refuse(reason: String) -> Result<(), TextError> {
    Err(TextError::Config { reason })
}
