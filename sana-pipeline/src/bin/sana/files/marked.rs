//! Images without a record: grids and previews. They have the mark that a model made them.

use std::path::Path;

use sana_pipeline::PipelineError;
use sana_pipeline::image::{self, DigitalSourceType, RgbImage, XMP};

/// Writes an image with its mark.
pub fn save(path: &Path, image: &RgbImage, no_mark: bool) -> Result<(), PipelineError> {
    let mark = mark(no_mark);
    let texts: Vec<_> = mark
        .iter()
        .map(|(key, text)| (*key, text.as_str()))
        .collect();
    image::save(path, image, &texts)
}

/// The mark as a text next to the pixels.
pub fn mark(no_mark: bool) -> Option<(&'static str, String)> {
    (!no_mark).then(|| (XMP, DigitalSourceType::TrainedAlgorithmicMedia.xmp()))
}
