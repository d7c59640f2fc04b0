//! Networks from files outside a checkpoint, which are loaded with it.

mod controlnet_folder;
mod lora_file;
mod text_encoder_file;
mod transformer_file;

pub use controlnet_folder::ControlNetFolder;
pub use lora_file::{LoraFile, LoraMode};
pub(super) use text_encoder_file::{CLASS as TEXT_ENCODER_CLASS, TextEncoderFile};
pub(super) use transformer_file::{CLASS as TRANSFORMER_CLASS, TransformerFile};
