//! What to generate: what a [`Request`] is made of, and the [`Settings`] that it becomes once it is
//! checked against a model.

pub(crate) mod builder;
mod control;
mod hires;
mod image_to_image;
mod images;
mod larger;
mod notes;
mod settings;
mod tensors;

pub use builder::InstructionChoice;
pub(crate) use builder::Request;
pub use control::{ControlImage, ControlSettings};
pub use hires::HiresSettings;
pub use image_to_image::ImageToImageSettings;
pub(crate) use settings::EXTREME_SCALE;
pub use settings::Settings;
