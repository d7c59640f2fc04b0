//! Small scenes of glossy little things: captions, the images they mean, and a program that checks
//! whether an image shows what its caption says.
//!
//! The things are images with transparency of a [`SpriteSheet`], a folder that
//! `docs/tools/sprites/fetch` makes of Microsoft's Fluent emoji (MIT). A scene has one to three of them
//! in front of one of twelve painted [`Backdrop`]s or a plain colour:
//!
//! ```text
//! SpritePrompt --caption--> "a fox in the snow" --parse--> SpriteCaption
//!      |
//!      +--scene--> SpriteScene --render--> image
//! ```
//!
//! A [`SpritePrompt`] is what a caption means. One combination in ten of things, backdrop, count and
//! relation, chosen by a hash, never occurs in training ([`SpritePrompt::is_held_out`]): a model knows the
//! things by heart, and what it is tested for is putting them together.
//!
//! Lengths are in units of the square root of the image's area, so that things have the same share of it in
//! every aspect ratio.

mod backdrop;
mod error;
mod evaluation;
mod prompt;
mod scene;
mod sheet;
#[cfg(test)]
pub(crate) mod tests;
mod words;

pub use backdrop::{Backdrop, PlainColor};
pub use error::SpriteError;
pub use evaluation::{
    FoundSprite, SpriteCategory, SpriteEvaluator, SpriteFault, SpriteObservation, SpriteReport,
    SpriteScore, SpriteVerdict,
};
pub use prompt::{SpriteCaption, SpriteContent, SpritePrompt};
pub use scene::{PlacedSprite, SpriteScene};
pub use sheet::{SpriteSheet, Thing};

pub use crate::scenes::Relation;
