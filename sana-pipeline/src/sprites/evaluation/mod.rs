//! Whether an image shows what its prompt asks for.
//!
//! An image is looked at in three steps: [`scenery`] names the backdrop by fitting what the painter paints
//! with to the image, and finds the pixels that differ from it; [`pieces`] are the connected ones among
//! these; [`matching`] finds the thing of the sheet that, in front of that backdrop, explains a group of
//! pieces best.

mod canvas;
mod color;
mod matching;
mod observe;
mod pieces;
mod pose;
mod scenery;
mod templates;
mod verdict;

pub use observe::{FoundSprite, SpriteEvaluator, SpriteObservation};
pub use verdict::{SpriteCategory, SpriteFault, SpriteReport, SpriteScore, SpriteVerdict};
