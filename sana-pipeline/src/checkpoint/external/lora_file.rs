//! LoRA files that are applied when the transformer is loaded.

use std::path::PathBuf;

use sana_linear_attn::transformer::{Lora, LoraError, ScaledLora};

pub use sana_linear_attn::transformer::LoraMode;

/// A LoRA file of diffusers, PEFT, kohya or LyCORIS, and how it is applied.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFile {
    /// The safetensors file, or the folder of PEFT or diffusers that holds it.
    pub path: PathBuf,
    /// What its change of the weights is multiplied with: 1 is as it was trained, 0 is nothing.
    pub scale: f64,
    /// Whether it is added to the weights or kept next to them.
    pub mode: LoraMode,
}

impl LoraFile {
    /// A file at scale 1, merged.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            scale: 1.0,
            mode: LoraMode::default(),
        }
    }

    /// With another scale.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// In another mode.
    pub fn mode(mut self, mode: LoraMode) -> Self {
        self.mode = mode;
        self
    }

    /// Opens the file; nothing but its header is read.
    pub(crate) fn open(&self) -> Result<ScaledLora, LoraError> {
        ScaledLora::new(Lora::open(&self.path)?, self.scale, self.mode)
    }
}
