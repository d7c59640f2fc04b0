//! Images as files and as tensors: RGB8, files with text next to the pixels, PSNR.

mod edges;
mod file;
mod grid;
mod mask;
mod resize;

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData, read_sync};

use crate::error::{ImageError, PipelineError, RequestError};
use crate::support::files;

pub use image::{GrayImage, RgbImage};

pub use edges::{Canny, edges};
#[cfg(feature = "train")]
pub(crate) use file::load_as_is;
pub use file::{
    DigitalSourceType, FileFormat, JPEG_QUALITY, LARGEST_FILE, LARGEST_PIXELS, LARGEST_SIDE,
    LARGEST_TEXT, PARAMETERS, Parameters, XMP, check_text, decode, decode_mask, decode_with_alpha,
    encode, load, load_mask, load_over, read_text, save, save_png, source_type, text_of,
};
pub(crate) use file::{dimensions, shortened};
pub use grid::{GridOptions, grid, grid_of_files};
pub(crate) use mask::{blended, fit_mask, has_white, kept_cells, pixel_weights};
pub(crate) use resize::resize_and_crop;

/// Checks before the work that a file can be written at `path`, by creating and removing the
/// unfinished file that [`save`] would write.
///
/// # Errors
/// [`PipelineError::Write`] if it cannot.
pub fn check_writable(path: &Path) -> Result<(), PipelineError> {
    files::check_writable(path).map_err(PipelineError::write(path))
}

/// Peak signal-to-noise ratio in dB of two RGB8 images, `10 log10(255^2 / mse)`; infinite when
/// they are equal.
///
/// # Errors
/// [`ImageError::Sizes`] when they differ in size.
pub fn psnr(left: &RgbImage, right: &RgbImage) -> Result<f64, ImageError> {
    if left.dimensions() != right.dimensions() {
        return Err(ImageError::Sizes {
            left: left.dimensions().into(),
            right: right.dimensions().into(),
        });
    }
    let squares: f64 = left
        .as_raw()
        .iter()
        .zip(right.as_raw())
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum();
    let mean = squares / left.as_raw().len().max(1) as f64;
    Ok(10.0 * (255.0 * 255.0 / mean).log10())
}

/// An image of another size: resized to cover it (Lanczos of three lobes), and what sticks out on
/// both sides cut off. An image of that size stays as it is.
pub fn fit(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    let image = shortened(image.clone().into(), width, height);
    let filter = image::imageops::FilterType::Lanczos3;
    image.resize_to_fill(width, height, filter).into_rgb8()
}

/// An image as the autoencoder takes it.
///
/// # Shapes
/// - output `[1, 3, height, width]` in f32, values in [-1, 1]
pub fn to_tensor(image: &RgbImage, device: &Device) -> Tensor<4> {
    let (width, height) = image.dimensions();
    let (width, height) = (width as usize, height as usize);
    let pixels = image.as_raw();
    let planes: Vec<f32> = (0..3)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(3))
        .map(|&value| f32::from(value) / 127.5 - 1.0)
        .collect();
    Tensor::from_data(
        TensorData::new(planes, [1, 3, height, width]),
        (device, DType::F32),
    )
}

/// Images of a batch as the autoencoder gives them: values in [-1, 1], clamped and rounded to
/// eight bits.
///
/// # Shapes
/// - images `[batch, 3, height, width]`
///
/// # Errors
/// [`RequestError::Shape`] for another number of channels, [`PipelineError::Device`] when the
/// values cannot be read, [`PipelineError::NotFinite`] for NaN or infinity.
pub fn from_tensor(images: Tensor<4>) -> Result<Vec<RgbImage>, PipelineError> {
    read_sync(from_tensor_async(images))
}

/// [`from_tensor`] that waits for the device without blocking the thread.
pub(crate) async fn from_tensor_async(images: Tensor<4>) -> Result<Vec<RgbImage>, PipelineError> {
    let [batch, channels, height, width] = images.dims();
    let sides = u32::try_from(width).ok().zip(u32::try_from(height).ok());
    let (Some((columns, rows)), 3) = (sides, channels) else {
        return Err(PipelineError::Request(RequestError::Shape {
            what: "images",
            expected: vec![batch, 3, height, width],
            found: vec![batch, channels, height, width],
        }));
    };
    let planes = host_values_async(images, "reading the images").await?;
    if !planes.iter().all(|value| value.is_finite()) {
        return Err(PipelineError::NotFinite {
            stage: "decode",
            place: None,
            dtype: "f32".to_owned(),
        });
    }
    let pixels = height * width;
    Ok(planes
        .chunks_exact((3 * pixels).max(1))
        .map(|planes| {
            RgbImage::from_fn(columns, rows, |x, y| {
                let pixel = y as usize * width + x as usize;
                let byte = |channel: usize| {
                    let unit = (planes[channel * pixels + pixel] * 0.5 + 0.5).clamp(0.0, 1.0);
                    (unit * 255.0).round_ties_even() as u8
                };
                image::Rgb([byte(0), byte(1), byte(2)])
            })
        })
        .collect())
}

/// The values of a tensor in row-major order, in f32.
pub(crate) fn host_values<const D: usize>(
    tensor: Tensor<D>,
    doing: &'static str,
) -> Result<Vec<f32>, PipelineError> {
    read_sync(host_values_async(tensor, doing))
}

/// [`host_values`] that waits for the device without blocking the thread.
pub(crate) async fn host_values_async<const D: usize>(
    tensor: Tensor<D>,
    doing: &'static str,
) -> Result<Vec<f32>, PipelineError> {
    let failed = |reason: String| PipelineError::Device { doing, reason };
    tensor
        .into_data_async()
        .await
        .map_err(|error| failed(format!("{error:?}")))?
        .convert::<f32>()
        .try_into_vec()
        .map_err(|error| failed(format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(5, 3, |x, y| image::Rgb([40 * x as u8, 80 * y as u8, 255]))
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn fitting_covers_and_crops_the_middle() {
        assert_eq!(fit(&image(), 5, 3), image());
        let halves = RgbImage::from_fn(60, 20, |x, _| match x / 15 {
            1 | 2 => image::Rgb([255, 0, 0]),
            _ => image::Rgb([0, 0, 255]),
        });
        // Twice as high, so 120 wide, of which the middle 60 are the red ones.
        let fitted = fit(&halves, 60, 40);
        assert_eq!(fitted.dimensions(), (60, 40));
        let inner = |x: u32| (5..55).contains(&x);
        for (x, y, pixel) in fitted.enumerate_pixels().filter(|(x, ..)| inner(*x)) {
            assert_eq!(pixel.0, [255, 0, 0], "at {x}, {y}");
        }
    }

    #[test]
    fn a_png_keeps_its_pixels_and_text() {
        let folder = folder();
        let path = folder.path().join("image.png");
        let long = "word ".repeat(5000);
        let text = [
            ("prompt", "ein grüner Kreis, 红色方块"),
            ("seed", "7"),
            ("long", &long),
        ];
        save_png(&path, &image(), &text).unwrap();
        assert_eq!(load(&path).unwrap(), image());
        let read = read_text(&path).unwrap();
        let expected: Vec<(String, String)> = text
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(read, expected);
        // Nothing unfinished next to it.
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn other_kinds_of_text_chunks_are_read() {
        let folder = folder();
        let path = folder.path().join("image.png");
        let file = File::create(&path).unwrap();
        let mut encoder = png::Encoder::new(file, 1, 1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.add_text_chunk("a".into(), "plain".into()).unwrap();
        encoder.add_ztxt_chunk("b".into(), "packed".into()).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[1, 2, 3]).unwrap();
        writer.finish().unwrap();
        let expected = [("a", "plain"), ("b", "packed")];
        let read = read_text(&path).unwrap();
        assert_eq!(read.len(), 2);
        for ((key, value), expected) in read.iter().zip(expected) {
            assert_eq!((key.as_str(), value.as_str()), expected);
        }
    }

    #[test]
    fn keywords_that_png_does_not_allow() {
        let path = folder().path().join("image.png");
        for keyword in ["", "红", "a\nb", &"k".repeat(80)] {
            let error = save_png(&path, &image(), &[(keyword, "")]).unwrap_err();
            assert!(
                matches!(error, PipelineError::Image(ImageError::TextKeyword { .. })),
                "{error}"
            );
        }
    }

    #[test]
    fn places_that_cannot_be_written() {
        let folder = folder();
        let nowhere = folder.path().join("none/image.png");
        for path in [nowhere.as_path(), folder.path()] {
            let error = check_writable(path).unwrap_err();
            assert!(matches!(error, PipelineError::Write { .. }));
            assert!(
                error.to_string().contains(&path.display().to_string()),
                "{error}"
            );
        }
        assert!(matches!(
            save_png(&nowhere, &image(), &[]),
            Err(PipelineError::Write { .. })
        ));
        let path = folder.path().join("image.png");
        check_writable(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn files_that_are_no_images() {
        let folder = folder();
        let path = folder.path().join("image.png");
        assert!(matches!(load(&path), Err(PipelineError::Read { .. })));
        assert!(matches!(read_text(&path), Err(PipelineError::Read { .. })));
        save_png(&path, &image(), &[]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() / 2], b"no image", &[]] {
            std::fs::write(&path, bytes).unwrap();
            let error = load(&path).unwrap_err();
            assert!(
                matches!(error, PipelineError::Image(ImageError::Unreadable { .. })),
                "{error}"
            );
            assert!(error.to_string().contains("image.png"), "{error}");
            assert!(matches!(
                read_text(&path),
                Err(PipelineError::Image(ImageError::Unreadable { .. }))
            ));
        }
    }

    #[test]
    fn psnr_of_known_differences() {
        let mut other = image();
        assert_eq!(psnr(&image(), &other).unwrap(), f64::INFINITY);
        for value in other.as_mut() {
            *value = value.wrapping_sub(if *value == 0 { 255 } else { 1 });
        }
        let decibels = psnr(&image(), &other).unwrap();
        assert!(
            (decibels - 20.0 * 255f64.log10()).abs() < 1e-9,
            "{decibels}"
        );
        let error = psnr(&other, &RgbImage::new(3, 5)).unwrap_err();
        assert!(matches!(error, ImageError::Sizes { .. }));
        assert!(error.to_string().contains("5x3"), "{error}");
    }

    #[test]
    #[cfg(feature = "flex")]
    fn images_survive_being_tensors() {
        let device = Device::flex();
        let tensor = to_tensor(&image(), &device);
        assert_eq!(tensor.dims(), [1, 3, 3, 5]);
        let images = from_tensor(Tensor::cat(vec![tensor.clone(), -tensor], 0)).unwrap();
        assert_eq!(images[0], image());
        assert_eq!(images[1].get_pixel(1, 0).0, [215, 255, 0]);
        let extremes = Tensor::<4>::from_floats([[[[-3.0]], [[0.0]], [[3.0]]]], &device);
        assert_eq!(
            from_tensor(extremes).unwrap()[0].get_pixel(0, 0).0,
            [0, 128, 255]
        );
    }

    #[test]
    #[cfg(feature = "flex")]
    fn tensors_that_are_no_images() {
        let device = Device::flex();
        let error = from_tensor(Tensor::zeros([1, 4, 2, 2], &device)).unwrap_err();
        assert!(matches!(
            error,
            PipelineError::Request(RequestError::Shape { .. })
        ));
        let error = from_tensor(Tensor::full([1, 3, 2, 2], f32::NAN, &device)).unwrap_err();
        assert!(matches!(
            error,
            PipelineError::NotFinite {
                stage: "decode",
                ..
            }
        ));
    }
}
