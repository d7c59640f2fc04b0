//! Images from files that may be anything: what is read is limited before it is unpacked.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, RgbImage};
use sana_linear_attn::weights::read_bounded;

use super::{color, formats};
use crate::error::{ImageError, PipelineError};

/// Bytes of an image file, at most: 256 MiB.
pub const LARGEST_FILE: u64 = 256 << 20;
/// Width and height of an image that is read, at most; also of one that is made.
pub const LARGEST_SIDE: usize = 16384;
/// Pixels of an image that is read, at most: 8192 x 8192.
pub const LARGEST_PIXELS: u64 = 1 << 26;
/// Memory that a decoder may take: [`LARGEST_PIXELS`] of four channels of 16 bits.
const LARGEST_MEMORY: u64 = 8 * LARGEST_PIXELS;

/// How a file becomes an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// What transparent pixels are put on.
    pub background: [u8; 3],
    /// Whether colours are converted from the file's ICC profile to sRGB.
    pub srgb: bool,
}

impl Reading {
    /// An image to look at.
    pub const IMAGE: Self = Self {
        background: [255; 3],
        srgb: true,
    };
    /// A mask: values and no colours, and nothing where it is transparent.
    pub const MASK: Self = Self {
        background: [0; 3],
        srgb: false,
    };
}

/// An image without transparency, of the channels and the depth of its file.
pub(super) struct Decoded {
    image: DynamicImage,
    /// As EXIF gives it.
    orientation: Orientation,
}

impl Decoded {
    pub fn into_rgb8(self) -> RgbImage {
        // Eight bits first: turning takes another copy.
        let mut image = DynamicImage::from(self.image.into_rgb8());
        image.apply_orientation(self.orientation);
        image.into_rgb8()
    }

    #[cfg(feature = "train")]
    fn upright(mut self) -> DynamicImage {
        self.image.apply_orientation(self.orientation);
        self.image
    }
}

/// Reads a PNG, JPEG or WebP as RGB with eight bits a channel: turned as its EXIF says, in sRGB by
/// its ICC profile, and transparent pixels on white.
///
/// Files beyond [`LARGEST_FILE`], and images beyond [`LARGEST_SIDE`] or [`LARGEST_PIXELS`], are
/// refused before anything is unpacked. Of an animation the first frame is read.
///
/// # Errors
/// [`PipelineError::Read`] when there is no such file, it is not a regular one or too large,
/// [`ImageError::Unreadable`] when it is no image, one of another format, or too large a one.
pub fn load(path: &Path) -> Result<RgbImage, PipelineError> {
    Ok(decode(path, &read(path)?)?)
}

/// [`load`] with transparent pixels on a `background` of another colour.
///
/// # Errors
/// As [`load`].
pub fn load_over(path: &Path, background: [u8; 3]) -> Result<RgbImage, PipelineError> {
    let reading = Reading {
        background,
        ..Reading::IMAGE
    };
    Ok(decode_as_is(path, &read(path)?, reading)?.into_rgb8())
}

/// Reads a PNG, JPEG or WebP as a mask: its luma with eight bits, 0 black and 255 white, times its
/// opacity, so that white of no opacity is black. It is turned as [`load`] does.
///
/// # Errors
/// As [`load`].
pub fn load_mask(path: &Path) -> Result<GrayImage, PipelineError> {
    Ok(decode_mask(path, &read(path)?)?)
}

/// [`load_mask`] of bytes; `origin` names them in errors.
///
/// # Errors
/// [`ImageError::Unreadable`].
pub fn decode_mask(origin: &Path, bytes: &[u8]) -> Result<GrayImage, ImageError> {
    let mask = decode_as_is(origin, bytes, Reading::MASK)?;
    Ok(DynamicImage::from(mask.into_rgb8()).into_luma8())
}

/// [`decode`], and the opacity of each pixel, 0 transparent and 255 opaque.
///
/// # Errors
/// [`ImageError::Unreadable`].
pub fn decode_with_alpha(origin: &Path, bytes: &[u8]) -> Result<(RgbImage, GrayImage), ImageError> {
    let unpacked = unpacked(origin, bytes, Reading::IMAGE.srgb)?;
    let (width, height) = (unpacked.pixels.width(), unpacked.pixels.height());
    let alpha = match unpacked.pixels.color().has_alpha() {
        true => {
            let pixels = unpacked.pixels.to_luma_alpha8();
            GrayImage::from_fn(width, height, |x, y| {
                image::Luma([pixels.get_pixel(x, y).0[1]])
            })
        }
        false => GrayImage::from_pixel(width, height, image::Luma([255])),
    };
    let mut alpha = DynamicImage::from(alpha);
    alpha.apply_orientation(unpacked.orientation);
    let image = flattened(unpacked, Reading::IMAGE).into_rgb8();
    Ok((image, alpha.into_luma8()))
}

/// [`load`] of bytes; `origin` names them in errors.
///
/// # Errors
/// [`ImageError::Unreadable`].
pub fn decode(origin: &Path, bytes: &[u8]) -> Result<RgbImage, ImageError> {
    Ok(decode_as_is(origin, bytes, Reading::IMAGE)?.into_rgb8())
}

/// [`load_over`] with the depth of the file, and perhaps grey or an alpha that is full everywhere.
#[cfg(feature = "train")]
pub(crate) fn load_as_is(path: &Path, background: [u8; 3]) -> Result<DynamicImage, PipelineError> {
    let reading = Reading {
        background,
        ..Reading::IMAGE
    };
    Ok(decode_as_is(path, &read(path)?, reading)?.upright())
}

/// Width and height of an image as it is loaded, from its header alone, within the limits of
/// [`load`].
pub(crate) fn dimensions(path: &Path) -> Result<[u32; 2], PipelineError> {
    let read_error = |source| PipelineError::Read {
        path: path.to_path_buf(),
        source,
    };
    let found = std::fs::metadata(path).map_err(read_error)?;
    if !found.is_file() || found.len() > LARGEST_FILE {
        // Which reports why it is not read.
        read(path)?;
    }
    let file = File::open(path).map_err(read_error)?;
    let mut decoder = decoder(path, BufReader::new(file))?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder
        .orientation()
        .map_err(|error| unreadable(path, error))?;
    Ok(match is_sideways(orientation) {
        true => [height, width],
        false => [width, height],
    })
}

fn is_sideways(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(
        orientation,
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH
    )
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, PipelineError> {
    read_bounded(path, LARGEST_FILE).map_err(|source| PipelineError::Read {
        path: path.to_path_buf(),
        source,
    })
}

/// An image as it is in its file.
struct Unpacked {
    pixels: DynamicImage,
    orientation: Orientation,
    profile: Option<Vec<u8>>,
}

fn unpacked(origin: &Path, bytes: &[u8], with_profile: bool) -> Result<Unpacked, ImageError> {
    let mut decoder = decoder(origin, Cursor::new(bytes))?;
    if bytes.starts_with(b"\xff\xd8") && !formats::jpeg_is_whole(bytes) {
        let reason = "the file ends before the JPEG does: it was cut off, perhaps in a download";
        return Err(unreadable(origin, reason));
    }
    // Metadata that cannot be read is ignored; the pixels are read all the same.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = match with_profile {
        true => decoder.icc_profile().ok().flatten(),
        false => None,
    };
    let pixels = DynamicImage::from_decoder(decoder).map_err(|error| unreadable(origin, error))?;
    Ok(Unpacked {
        pixels,
        orientation,
        profile,
    })
}

fn decode_as_is(origin: &Path, bytes: &[u8], reading: Reading) -> Result<Decoded, ImageError> {
    Ok(flattened(unpacked(origin, bytes, reading.srgb)?, reading))
}

fn flattened(unpacked: Unpacked, reading: Reading) -> Decoded {
    let Unpacked {
        pixels: mut image,
        orientation,
        profile,
    } = unpacked;
    if let Some(profile) = profile {
        color::to_srgb(&mut image, &profile);
    }
    color::flatten(&mut image, reading.background);
    Decoded { image, orientation }
}

/// A decoder that has read the header, of an image that is not too large.
pub(super) fn decoder<'a, R: BufRead + Seek + 'a>(
    origin: &Path,
    mut file: R,
) -> Result<impl ImageDecoder + use<'a, R>, ImageError> {
    let head = file.fill_buf().map_err(|error| unreadable(origin, error))?;
    if let Some(reason) = formats::refusal(head) {
        return Err(unreadable(origin, reason));
    }
    let mut reader = ImageReader::new(file)
        .with_guessed_format()
        .map_err(|error| unreadable(origin, error))?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(LARGEST_MEMORY);
    reader.limits(limits.clone());
    let mut decoder = reader
        .into_decoder()
        .map_err(|error| unreadable(origin, error))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) as usize > LARGEST_SIDE || pixels > LARGEST_PIXELS {
        return Err(unreadable(
            origin,
            format!(
                "it has {width}x{height} pixels; at most {LARGEST_SIDE} a side and \
                 {LARGEST_PIXELS} in all are read"
            ),
        ));
    }
    // Decoders that hold several rows or the coefficients of a whole image count them too.
    limits.max_image_width = Some(LARGEST_SIDE as u32);
    limits.max_image_height = Some(LARGEST_SIDE as u32);
    decoder
        .set_limits(limits)
        .map_err(|error| unreadable(origin, error))?;
    Ok(decoder)
}

pub(super) fn unreadable(origin: &Path, reason: impl ToString) -> ImageError {
    ImageError::Unreadable {
        path: origin.to_path_buf(),
        reason: reason.to_string(),
    }
}

/// Cuts what would stick out anyway off both ends of an image that is far longer than `width` x
/// `height` is: resizing it whole would make an image of any length on the way.
pub(crate) fn shortened(image: DynamicImage, width: u32, height: u32) -> DynamicImage {
    let [found_width, found_height, width, height] =
        [image.width(), image.height(), width, height].map(|side| u64::from(side.max(1)));
    // Four times as long as needed leaves the pixels near the cut as they were.
    let longest_width = (4 * found_height * width).div_ceil(height);
    let longest_height = (4 * found_width * height).div_ceil(width);
    let [cut_width, cut_height] = [
        found_width.min(longest_width),
        found_height.min(longest_height),
    ];
    if (cut_width, cut_height) == (found_width, found_height) {
        return image;
    }
    let [x, y] = [
        (found_width - cut_width) / 2,
        (found_height - cut_height) / 2,
    ];
    let [x, y, cut_width, cut_height] = [x, y, cut_width, cut_height].map(|value| value as u32);
    image.crop_imm(x, y, cut_width, cut_height)
}
