use std::fmt;

use serde_json::{Map, Value};

use crate::weights::Weights;

/// What a LoRA's settings say about alpha.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    alpha: Option<f64>,
    /// Alphas of layers whose names end in a word.
    alpha_pattern: Vec<(String, f64)>,
    /// PEFT's rank of a LoKr, which divides alpha also where both factors are whole.
    lokr_rank: Option<usize>,
    /// alpha / sqrt(rank) in place of alpha / rank.
    rank_stabilised: bool,
}

impl Settings {
    /// diffusers keeps PEFT's settings as JSON in the metadata, PEFT in a file next to it; others write
    /// alpha alone into the metadata.
    pub(super) fn read(weights: &Weights, file: Option<&str>) -> Result<Self, String> {
        if let Some(text) = weights.metadata("lora_adapter_metadata").or(file) {
            return Self::from_json(text);
        }
        let alpha = match weights.metadata("lora_alpha") {
            Some(text) => Some(text.trim().parse::<f64>().map_err(|_| not_a_number(text))?),
            None => None,
        };
        Ok(Self {
            alpha: finite(alpha)?,
            ..Self::default()
        })
    }

    fn from_json(text: &str) -> Result<Self, String> {
        let keys: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let key = |name: &str| {
            let prefixed = keys.get(&format!("transformer.{name}"));
            prefixed.or(keys.get(name)).filter(|value| !value.is_null())
        };
        let number = |value: &Value| value.as_f64().ok_or_else(|| not_a_number(value));
        let mut alpha_pattern = Vec::new();
        if let Some(pattern) = key("alpha_pattern") {
            let pattern = pattern
                .as_object()
                .ok_or_else(|| format!("alpha_pattern is {pattern}, expected an object"))?;
            for (layer, value) in pattern {
                alpha_pattern.push((plain_name(layer)?, number(value)?));
            }
        }
        let lokr = key("peft_type").and_then(Value::as_str) == Some("LOKR");
        let rank = key("r").and_then(Value::as_u64).filter(|_| lokr);
        // PEFT's LoHa and LoKr call it `alpha`.
        let alpha = key("lora_alpha").or_else(|| key("alpha"));
        Ok(Self {
            alpha: alpha.map(number).transpose()?,
            lokr_rank: rank.and_then(|rank| usize::try_from(rank).ok()),
            alpha_pattern,
            rank_stabilised: key("use_rslora").and_then(Value::as_bool) == Some(true),
        })
    }

    /// A pattern without effect is a name that was misunderstood.
    pub(super) fn check<'a>(
        &self,
        targets: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), String> {
        for (pattern, _) in &self.alpha_pattern {
            if !targets.clone().any(|layer| ends_in(layer, pattern)) {
                return Err(format!(
                    "alpha_pattern {pattern:?} fits no layer of the file"
                ));
            }
        }
        Ok(())
    }

    /// What `B A` is multiplied with in addition to the user's scale; `own` is the layer's own alpha.
    /// Without a rank, as a LoKr of whole factors is, it is 1.
    pub(super) fn factor(&self, own: Option<f64>, layer: &str, rank: Option<usize>) -> f64 {
        let Some(rank) = rank.or(self.lokr_rank).filter(|rank| *rank > 0) else {
            return 1.0;
        };
        let mut patterns = self.alpha_pattern.iter();
        let pattern = patterns.find(|(pattern, _)| ends_in(layer, pattern));
        let pattern = pattern.map(|(_, alpha)| *alpha);
        let rank = rank as f64;
        match own.or(pattern).or(self.alpha) {
            Some(alpha) if self.rank_stabilised => alpha / rank.sqrt(),
            Some(alpha) => alpha / rank,
            None => 1.0,
        }
    }
}

fn not_a_number(found: impl fmt::Display) -> String {
    format!("an alpha is {found}, expected a number")
}

fn finite(alpha: Option<f64>) -> Result<Option<f64>, String> {
    match alpha {
        Some(alpha) if !alpha.is_finite() => Err(not_a_number(alpha)),
        alpha => Ok(alpha),
    }
}

/// The layer's name that a key of `alpha_pattern` stands for. The keys are regular expressions;
/// those in use are names, some of them anchored and with escaped dots.
fn plain_name(pattern: &str) -> Result<String, String> {
    let name = pattern.strip_prefix('^').unwrap_or(pattern);
    let name = name.strip_suffix('$').unwrap_or(name);
    let name = name.replace("\\.", ".");
    let name = name.strip_prefix("transformer.").unwrap_or(&name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!(
            "alpha_pattern {pattern:?} is not the name of a layer"
        ));
    }
    Ok(name.to_owned())
}

/// Whether the last dotted parts of a layer's name are `words`.
fn ends_in(layer: &str, words: &str) -> bool {
    let before = layer.strip_suffix(words);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphas() {
        let settings = Settings::from_json(
            r#"{"transformer.lora_alpha": 8, "text_encoder.lora_alpha": 3, "lora_alpha": 5,
                "alpha_pattern": {"^transformer\\.a\\.to_q$": 2, "to_k": 6.0}}"#,
        )
        .unwrap();
        assert_eq!(settings.factor(None, "a.to_v", Some(4)), 2.0);
        assert_eq!(settings.factor(None, "a.to_q", Some(4)), 0.5);
        assert_eq!(settings.factor(None, "b.to_k", Some(4)), 1.5);
        assert_eq!(settings.factor(None, "b.into_k", Some(4)), 2.0);
        assert_eq!(settings.factor(Some(1.0), "a.to_q", Some(4)), 0.25);
        assert_eq!(Settings::default().factor(None, "a.to_q", Some(4)), 1.0);
        let stabilised = r#"{"lora_alpha": 8, "use_rslora": true, "alpha_pattern": null}"#;
        let stabilised = Settings::from_json(stabilised).unwrap();
        assert_eq!(stabilised.factor(None, "a.to_q", Some(4)), 4.0);
        for wrong in [
            "",
            "[]",
            r#"{"lora_alpha": "8"}"#,
            r#"{"alpha_pattern": 3}"#,
            r#"{"alpha_pattern": {"a": null}}"#,
            r#"{"alpha_pattern": {".*q": 3}}"#,
        ] {
            assert!(Settings::from_json(wrong).is_err(), "{wrong}");
        }
    }
}
