//! The components of a checkpoint and where they are.

use std::fmt;

use serde::Serialize;

/// The file that makes a folder a checkpoint.
pub(crate) const INDEX: &str = "model_index.json";
/// The config of a network in its folder.
pub(crate) const CONFIG: &str = "config.json";

/// A component of a checkpoint, named as its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Which solver samples it.
    Scheduler,
    /// The Gemma-2 text encoder.
    TextEncoder,
    /// The text encoder's tokenizer.
    Tokenizer,
    /// The linear diffusion transformer.
    Transformer,
    /// The DC-AE autoencoder.
    Vae,
    /// A ControlNet; most checkpoints have none.
    // The last, since random weights of the others depend on their numbers.
    #[serde(rename = "controlnet")]
    ControlNet,
}

impl Component {
    /// All components, by name, and the ControlNet.
    pub const ALL: [Self; 6] = [
        Self::Scheduler,
        Self::TextEncoder,
        Self::Tokenizer,
        Self::Transformer,
        Self::Vae,
        Self::ControlNet,
    ];

    /// Name of its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::TextEncoder => "text_encoder",
            Self::Tokenizer => "tokenizer",
            Self::Transformer => "transformer",
            Self::Vae => "vae",
            Self::ControlNet => "controlnet",
        }
    }

    /// The one file of its folder that every form of the part has, relative to the checkpoint.
    pub fn config_file(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler/scheduler_config.json",
            Self::TextEncoder => "text_encoder/config.json",
            Self::Tokenizer => "tokenizer/tokenizer.json",
            Self::Transformer => "transformer/config.json",
            Self::Vae => "vae/config.json",
            Self::ControlNet => "controlnet/config.json",
        }
    }

    /// Name of its weight files without extension, for parts that have weights.
    pub fn weights_stem(self) -> Option<&'static str> {
        match self {
            Self::TextEncoder => Some("model"),
            Self::Transformer | Self::Vae | Self::ControlNet => Some("diffusion_pytorch_model"),
            Self::Scheduler | Self::Tokenizer => None,
        }
    }

    /// The network that has a stage of its own: a ControlNet runs next to the transformer.
    pub(crate) fn stage(self) -> Self {
        match self {
            Self::ControlNet => Self::Transformer,
            other => other,
        }
    }

    /// Classes that this crate implements; the scheduler and the tokenizer say themselves.
    pub(crate) fn classes(self) -> &'static [&'static str] {
        match self {
            Self::TextEncoder => &["Gemma2Model", "Gemma2ForCausalLM"],
            // The second one is what the reference's training of Sana-Sprint saves.
            Self::Transformer => &["SanaTransformer2DModel", "SanaTrigFlow"],
            Self::Vae => &["AutoencoderDC"],
            Self::ControlNet => &["SanaControlNetModel"],
            Self::Scheduler | Self::Tokenizer => &[],
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}
