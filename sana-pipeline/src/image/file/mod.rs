//! Image files: read within limits and as viewers show them, written with texts next to the pixels.

mod color;
mod exif;
mod formats;
mod parameters;
mod read;
#[cfg(test)]
mod tests;
mod text;
mod write;
mod xmp;

pub use parameters::{PARAMETERS, Parameters};
#[cfg(feature = "train")]
pub(crate) use read::load_as_is;
pub use read::{
    LARGEST_FILE, LARGEST_PIXELS, LARGEST_SIDE, decode, decode_mask, decode_with_alpha, load,
    load_mask, load_over,
};
pub(crate) use read::{dimensions, shortened};
pub use text::{LARGEST_TEXT, read_text, text_of};
pub use write::{FileFormat, JPEG_QUALITY, check_text, encode, save, save_png};
pub use xmp::{DigitalSourceType, XMP, source_type};
