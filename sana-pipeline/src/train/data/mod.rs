//! What is trained on: images with captions, from whatever has them.
//!
//! [`DataSource`] is the trait; [`FlatShapes`], [`SpriteScenes`] and [`ImageFolder`] are the sources of this
//! crate.

mod bucket;
mod flat_shapes;
mod image_folder;
mod order;
mod source;
mod sprite_scenes;

pub use bucket::Bucket;
pub use flat_shapes::FlatShapes;
pub use image_folder::ImageFolder;
pub use source::{DataSource, Sample};
pub use sprite_scenes::SpriteScenes;

pub(super) use bucket::{Place, bucket_of, shares, weights};
pub(super) use source::{check_source, checked_image, checked_sample};
