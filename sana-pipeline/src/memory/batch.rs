//! How many images are worked on at a time.

/// Pixels that are decoded at a time, so that a batch of large images needs no more memory than
/// one of them: one image of 1024 x 1024.
const DECODED_PIXELS: usize = 1 << 20;

/// How many images of so many pixels are decoded at a time.
pub(crate) fn images_decoded_at_once(pixels: usize) -> usize {
    (DECODED_PIXELS / pixels.max(1)).max(1)
}
