//! Weights in 8 or 4 bits.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use sana_pipeline::checkpoint::{Component, QuantizeComponents};
use sana_pipeline::transformer::Quantization;
use serde::{Serialize, Serializer};

/// Which networks are quantized while they are loaded.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize)]
#[command(next_help_heading = "Model and device")]
#[serde(rename_all = "kebab-case")]
pub struct QuantizeArgs {
    /// Quantize linear layers while loading: int8 or uint4 for the transformer and the text encoder,
    /// or for the one that is named. uint4 without a name leaves the text encoder at int8, since it
    /// suffers most; add uint4:text_encoder for the least memory
    #[arg(long, value_name = "FORM[:COMPONENT]")]
    pub quantize: Vec<FormOf>,
    /// With --quantize, keep the last layers of the transformer's feed-forwards as they are: closer
    /// to the original, and larger
    #[arg(long, requires = "quantize")]
    pub dense_down: bool,
}

impl QuantizeArgs {
    /// The forms of the networks; a later option overrides an earlier one.
    pub fn components(&self) -> QuantizeComponents {
        let mut components = QuantizeComponents::default();
        for FormOf { form, component } in &self.quantize {
            match component {
                None => components = QuantizeComponents::usual(*form),
                Some(Component::TextEncoder) => components.text_encoder = Some(*form),
                Some(_) => components.transformer = Some(*form),
            }
        }
        components.dense_down = self.dense_down;
        components
    }

    /// These, and those of `below` for what is not given here.
    pub fn or(self, below: Self) -> Self {
        Self {
            dense_down: self.dense_down || below.dense_down,
            quantize: match self.quantize.is_empty() {
                true => below.quantize,
                false => self.quantize,
            },
        }
    }
}

/// A form, and the network that gets it if it is one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormOf {
    pub form: Quantization,
    pub component: Option<Component>,
}

impl FromStr for FormOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (form, component) = match text.split_once(':') {
            Some((form, component)) => (form, Some(component)),
            None => (text, None),
        };
        let form = match form {
            "int8" => Some(Quantization::Int8),
            "uint4" => Some(Quantization::Uint4),
            _ => None,
        };
        let component = match component {
            None => Some(None),
            Some("transformer") => Some(Some(Component::Transformer)),
            Some("text_encoder") => Some(Some(Component::TextEncoder)),
            Some(_) => None,
        };
        let (Some(form), Some(component)) = (form, component) else {
            let expected = "expected int8 or uint4, alone or with a component: int8:transformer, \
                            uint4:text_encoder";
            return Err(expected.to_owned());
        };
        Ok(Self { form, component })
    }
}

impl fmt::Display for FormOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.component {
            Some(component) => write!(f, "{}:{component}", self.form),
            None => write!(f, "{}", self.form),
        }
    }
}

impl Serialize for FormOf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_components() {
        use Quantization::{Int8, Uint4};
        let of = |texts: &[&str]| {
            let quantize = texts.iter().map(|text| text.parse().unwrap()).collect();
            let args = QuantizeArgs {
                quantize,
                dense_down: false,
            };
            for (form, text) in args.quantize.iter().zip(texts) {
                assert_eq!(form.to_string(), *text);
            }
            let components = args.components();
            [components.transformer, components.text_encoder]
        };
        assert_eq!(of(&[]), [None, None]);
        assert_eq!(of(&["int8"]), [Some(Int8), Some(Int8)]);
        assert_eq!(of(&["uint4"]), [Some(Uint4), Some(Int8)]);
        let all = of(&["uint4", "uint4:text_encoder"]);
        assert_eq!(all, [Some(Uint4), Some(Uint4)]);
        assert_eq!(of(&["uint4:transformer"]), [Some(Uint4), None]);
        assert_eq!(of(&["int8:text_encoder"]), [None, Some(Int8)]);
        for wrong in ["", "int4", "int8:", "int8:vae", "uint4:transformer:x"] {
            let error = wrong.parse::<FormOf>().unwrap_err();
            assert!(error.contains("expected int8 or uint4"), "{error}");
        }
    }
}
