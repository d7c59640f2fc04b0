use crate::image::RgbImage;

/// The image that the scripts of the reference outputs make.
pub(super) fn formula_image(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let value = |channel: u32| ((x * 7 + y * 13 + channel * 50 + x * y % 31 * 5) % 256) as u8;
        image::Rgb([value(0), value(1), value(2)])
    })
}
