//! The scene language: captions of flat shapes, the images they mean, and a
//! program that checks whether an image shows what its caption says.
//!
//! The built-in checkpoint speaks this language. It has three backgrounds, six
//! colours in addition to black and white, three shapes, three sizes and four relations,
//! arranged in six categories ([`Category`]) that follow the ones text-to-image
//! models are usually evaluated by: one object, its colours, two objects, counting,
//! position, and binding attributes to the right object.
//!
//! ```text
//! ScenePrompt --caption--> "Large purple square, on a black background"
//!      |      <--parse---
//!      +------scene------> Scene --render--> SceneImage --evaluate--> Verdict
//! ```
//!
//! A [`ScenePrompt`] is what a caption means. One in ten, chosen by a hash of
//! that meaning, never occurs in training ([`ScenePrompt::is_held_out`]).
//! Lengths are in pixels of a 256 x 256 canvas ([`REFERENCE_CANVAS`]) and scale
//! with the canvas that is rendered or evaluated.
//!
//! ```
//! use rand::SeedableRng;
//! use rand_chacha::ChaCha8Rng;
//! use sana_pipeline::scenes::{ScenePrompt, evaluate};
//!
//! let mut rng = ChaCha8Rng::seed_from_u64(7);
//! let prompt: ScenePrompt = "a red circle left of a blue square".parse()?;
//! let image = prompt.scene(&mut rng).render(128);
//! assert!(evaluate(&image, &prompt).is_right());
//! # Ok::<(), sana_pipeline::scenes::SceneError>(())
//! ```

mod error;
mod evaluate;
mod place;
mod prompt;
mod render;
mod report;
mod scene;
#[cfg(test)]
mod tests;

pub use error::SceneError;
pub use evaluate::{Fault, Observation, Region, Verdict, evaluate, observe};
pub use prompt::{Content, ScenePrompt};
pub use render::SceneImage;
pub use report::{CategoryScore, Report};
pub use scene::{
    Background, Category, Color, Object, ObjectKind, REFERENCE_CANVAS, Relation, Scene, Shape, Size,
};
