//! What can be wrong with images.

use std::path::PathBuf;

/// An image cannot be read, written, compared or put on a grid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// An image file that cannot be read.
    #[error("cannot read the image {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        reason: String,
    },
    /// Two images that are compared differ in size.
    #[error("images of {}x{} and {}x{} pixels cannot be compared", left[0], left[1], right[0], right[1])]
    Sizes {
        /// `[width, height]` of the one.
        left: [u32; 2],
        /// `[width, height]` of the other.
        right: [u32; 2],
    },
    /// A grid of no images.
    #[error("no images to put on a grid")]
    EmptyGrid,
    /// More images than a grid can show.
    #[error(
        "{images} images in {columns} columns, with gaps, do not fit on a grid of {largest} \
         pixels: put fewer on one, in more or fewer columns"
    )]
    GridSize {
        /// Images.
        images: usize,
        /// Images in a row.
        columns: usize,
        /// The most pixels of a grid.
        largest: u64,
    },
    /// A keyword of a PNG text chunk that the format does not allow.
    #[error(
        "{keyword:?} cannot be the keyword of a PNG text chunk: 1 to 79 Latin-1 characters are"
    )]
    TextKeyword {
        /// The keyword.
        keyword: String,
    },
    /// A name whose ending is not that of a format that is written.
    #[error(
        "images are written as PNG, JPEG or WebP, so the name must end in .png, .jpg, .jpeg or \
         .webp: {}",
        path.display()
    )]
    Ending {
        /// The name.
        path: PathBuf,
    },
    /// An image that its format cannot hold.
    #[error("the image cannot be encoded: {reason}")]
    Encode {
        /// What the encoder says.
        reason: String,
    },
    /// More text than a file may hold next to its pixels.
    #[error(
        "{bytes} bytes of text do not fit into the image file, which holds {largest} at most: a JPEG \
         64 KiB in all, PNG and WebP a megabyte in each text"
    )]
    TextLength {
        /// Bytes of the text.
        bytes: usize,
        /// The most that fit.
        largest: usize,
    },
}
