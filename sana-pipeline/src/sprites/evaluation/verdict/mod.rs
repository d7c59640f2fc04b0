//! What is right and wrong about images, one by one and by category.

mod category;
mod image;
mod report;

pub use category::SpriteCategory;
pub use image::{SpriteFault, SpriteVerdict};
pub use report::{SpriteReport, SpriteScore};
