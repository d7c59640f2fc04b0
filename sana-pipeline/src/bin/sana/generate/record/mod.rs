//! How an image was made, as the image itself says it: for this command, and for other programs.

mod for_others;
pub mod from_image;
pub mod metadata;
pub mod parameters;

pub use self::metadata::Record;
