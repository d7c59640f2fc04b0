//! Checkpoints in the published layout: a folder, or the one built into the program.
//!
//! ```text
//! model_index.json                       class of the pipeline and of every part
//! scheduler/scheduler_config.json
//! text_encoder/config.json               text_encoder/model.safetensors
//! tokenizer/tokenizer.json
//! transformer/config.json                transformer/diffusion_pytorch_model.safetensors
//! vae/config.json                        vae/diffusion_pytorch_model.safetensors
//! vae/latent_rgb.json                    optional: colours of latents, for previews
//! controlnet/config.json                 controlnet/diffusion_pytorch_model.safetensors, optional
//! ```

mod component;
mod contents;
pub mod create;
mod external;
mod inspect;
mod keys;
pub(crate) mod opened;
pub(crate) mod scheduler;
pub mod variants;

pub use component::Component;
pub(crate) use component::{CONFIG, INDEX};
pub(crate) use contents::dtype;
pub use contents::quantize::QuantizeComponents;
pub use external::{ControlNetFolder, LoraFile, LoraMode};
pub use inspect::{check, describe, weight_file};
pub(crate) use inspect::{check_caption, check_latents, fitting_scheduler};
pub use keys::{CheckpointInstruction, SanaKeys};
pub(crate) use opened::Checkpoint;
pub(crate) use scheduler::{Schedule, Scheduler, Solver};
