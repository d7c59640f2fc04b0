//! What a checkpoint is, whether its tensors are those of its configs, and which are not finite.

pub mod check;
pub mod describe;
mod fit;
pub mod weight_file;

pub(crate) use fit::{check_caption, check_latents, fitting_scheduler};
