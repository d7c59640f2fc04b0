//! What this project's own checkpoints add to `model_index.json`.

use sana_text::{Instruction, PromptOptions};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

const MOST_TOKENS: usize = 8192;

/// Which instruction goes before the prompts of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointInstruction {
    /// None.
    None,
    /// The template of the reference library, [`Instruction::reference`].
    #[default]
    Reference,
    /// The template of the paper's repository, [`Instruction::paper_repository`].
    Repository,
}

/// The key `_sana` of a `model_index.json`, which this project's own checkpoints have. Without it,
/// the values of published checkpoints hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SanaKeys {
    /// The instruction it was trained with.
    pub instruction: CheckpointInstruction,
    /// Tokens kept of a prompt: 1 to 8192, the longest text that Gemma-2 was trained for.
    #[serde(deserialize_with = "token_count")]
    pub max_tokens: usize,
    /// Whether self-attention outputs are limited to the range of f16 whatever the weights are stored
    /// in: so for what was trained on from a model of f16.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub f16_clamp: bool,
    /// Name of the variant, where it is not a released one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Prompts are padded to this length, so it is limited when it is read.
fn token_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = usize::deserialize(deserializer)?;
    if (1..=MOST_TOKENS).contains(&count) {
        return Ok(count);
    }
    let reason = format!("max_tokens must lie in 1..={MOST_TOKENS}, got {count}");
    Err(D::Error::custom(reason))
}

impl Default for SanaKeys {
    fn default() -> Self {
        Self {
            instruction: CheckpointInstruction::default(),
            max_tokens: PromptOptions::default().max_tokens,
            f16_clamp: false,
            variant: None,
        }
    }
}

impl SanaKeys {
    /// How prompts are encoded for it.
    pub fn prompt_options(&self) -> PromptOptions {
        PromptOptions {
            instruction: match self.instruction {
                CheckpointInstruction::None => None,
                CheckpointInstruction::Reference => Some(Instruction::reference()),
                CheckpointInstruction::Repository => Some(Instruction::paper_repository()),
            },
            max_tokens: self.max_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(json: &str) -> SanaKeys {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_template_has_its_word() {
        let expected = [
            ("none", CheckpointInstruction::None, None),
            (
                "reference",
                CheckpointInstruction::Reference,
                Some(Instruction::reference()),
            ),
            (
                "repository",
                CheckpointInstruction::Repository,
                Some(Instruction::paper_repository()),
            ),
        ];
        for (word, template, instruction) in expected {
            let keys = keys(&format!(r#"{{"instruction": "{word}", "max_tokens": 48}}"#));
            assert_eq!(keys.instruction, template, "{word}");
            let options = PromptOptions {
                instruction,
                max_tokens: 48,
            };
            assert_eq!(keys.prompt_options(), options, "{word}");
            assert_eq!(serde_json::to_value(template).unwrap(), word);
        }
    }

    #[test]
    fn absent_keys_are_those_of_published_checkpoints() {
        assert_eq!(keys("{}"), SanaKeys::default());
        assert_eq!(keys("{}").prompt_options(), PromptOptions::default());
        let other = keys(r#"{"instruction": "repository", "unknown": 1}"#);
        assert_eq!(other.max_tokens, PromptOptions::default().max_tokens);
    }

    #[test]
    fn lengths_out_of_range() {
        for (count, accepted) in [(0, false), (1, true), (8192, true), (8193, false)] {
            let read = serde_json::from_str::<SanaKeys>(&format!(r#"{{"max_tokens": {count}}}"#));
            match read {
                Ok(keys) => assert!(accepted && keys.max_tokens == count, "{count}"),
                Err(error) => {
                    assert!(!accepted, "{error}");
                    assert!(error.to_string().contains("1..=8192"), "{error}");
                }
            }
        }
    }

    #[test]
    fn unknown_words_list_the_known_ones() {
        let error = serde_json::from_str::<SanaKeys>(r#"{"instruction": "paper"}"#).unwrap_err();
        let message = error.to_string();
        for word in ["paper", "none", "reference", "repository"] {
            assert!(message.contains(word), "{message}");
        }
    }
}
