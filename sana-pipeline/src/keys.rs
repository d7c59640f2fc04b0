//! What this project's own checkpoints add to `model_index.json`.

use sana_text::{Instruction, PromptOptions};
use serde::{Deserialize, Serialize};

/// Which instruction goes before the prompts of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointInstruction {
    /// None.
    None,
    /// The wording of the reference library, [`Instruction::reference`].
    #[default]
    Reference,
    /// The wording of the paper's repository, [`Instruction::paper_repository`].
    Repository,
}

/// The key `_sana` of a `model_index.json`, which this project's own checkpoints have. Without it,
/// the values of published checkpoints hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SanaKeys {
    /// The instruction it was trained with.
    pub instruction: CheckpointInstruction,
    /// Tokens kept of a prompt.
    pub max_tokens: usize,
    /// Name of the variant, where it is none of the released ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Default for SanaKeys {
    fn default() -> Self {
        Self {
            instruction: CheckpointInstruction::default(),
            max_tokens: PromptOptions::default().max_tokens,
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
