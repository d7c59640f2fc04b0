//! Images without a record: grids and previews.

use std::path::Path;

use sana_pipeline::PipelineError;
use sana_pipeline::image::{self, DigitalSourceType, RgbImage, XMP};

/// Writes an image with the mark that a model made it.
pub fn save(path: &Path, image: &RgbImage, no_mark: bool) -> Result<(), PipelineError> {
    let xmp = DigitalSourceType::TrainedAlgorithmicMedia.xmp();
    let texts: &[(&str, &str)] = match no_mark {
        true => &[],
        false => &[(XMP, &xmp)],
    };
    image::save(path, image, texts)
}
