//! Images to files: the format by the name's ending, with texts next to the pixels.

use std::io::{self, Write};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use image_webp::{ColorType, EncodingError, WebPEncoder};

use super::exif::{self, LARGEST_TEXTS};
use super::parameters::PARAMETERS;
use super::text::{LARGEST_TEXT, MOST_TEXTS};
use super::xmp::{self, XMP};
use crate::error::{ImageError, PipelineError};
use crate::support::files;

/// The quality that JPEGs are written with, of 100, with colours at full resolution.
pub const JPEG_QUALITY: u8 = 95;
/// Bytes of EXIF in a JPEG, at most: its segment has a length of 16 bits.
const LARGEST_JPEG_EXIF: usize = u16::MAX as usize - 2 - b"Exif\0\0".len();

/// A format that images are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// Without loss; texts are its text chunks.
    Png,
    /// With the quality [`JPEG_QUALITY`]; texts are in its EXIF, 64 KiB at most.
    Jpeg,
    /// Without loss; texts are in its EXIF.
    WebP,
}

impl FileFormat {
    /// The format of a file by its name's ending: `.png`, `.jpg`, `.jpeg` or `.webp`.
    ///
    /// # Errors
    /// [`ImageError::Ending`] for any other.
    pub fn of(path: &Path) -> Result<Self, ImageError> {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        match ending.to_str() {
            Some("png") => Ok(Self::Png),
            Some("jpg" | "jpeg") => Ok(Self::Jpeg),
            Some("webp") => Ok(Self::WebP),
            _ => Err(ImageError::Ending {
                path: path.to_path_buf(),
            }),
        }
    }
}

/// Writes an image in the format that the name's ending says ([`FileFormat::of`]), with texts by
/// keyword that [`read_text`](super::read_text) reads again: text chunks of PNG (`iTXt`), EXIF of JPEG
/// and WebP (as JSON). Two keywords are others' and go where these look for
/// them: [`XMP`] into the format's own place for it, and [`PARAMETERS`] as AUTOMATIC1111's web UI writes
/// it, with JPEG and WebP into the comment of the user unless that makes the EXIF too long. A PNG says that its
/// colours are sRGB. The file appears whole or not at all.
///
/// # Errors
/// Those of [`check_text`], [`PipelineError::Write`], also for an image larger than the format can
/// hold.
pub fn save(path: &Path, image: &RgbImage, text: &[(&str, &str)]) -> Result<(), PipelineError> {
    let format = FileFormat::of(path)?;
    check_text_of(format, text)?;
    files::write_whole(path, |file| write(file, image, format, JPEG_QUALITY, text))
        .map_err(PipelineError::write(path))
}

/// An image as the bytes of a file, with texts as [`save`] writes them. `quality`, from 1 to 100, is that
/// of a JPEG.
///
/// # Errors
/// Those of [`check_text`], and [`ImageError::Encode`] for an image larger than the format can hold.
pub fn encode(
    image: &RgbImage,
    format: FileFormat,
    quality: u8,
    text: &[(&str, &str)],
) -> Result<Vec<u8>, ImageError> {
    check_text_of(format, text)?;
    let mut file = Vec::new();
    match write(&mut file, image, format, quality, text) {
        Ok(()) => Ok(file),
        Err(error) => Err(ImageError::Encode {
            reason: error.to_string(),
        }),
    }
}

/// [`save`] as PNG, whatever the name is.
///
/// # Errors
/// As [`save`].
pub fn save_png(path: &Path, image: &RgbImage, text: &[(&str, &str)]) -> Result<(), PipelineError> {
    check_text_of(FileFormat::Png, text)?;
    files::write_whole(path, |file| write_png(file, image, text))
        .map_err(PipelineError::write(path))
}

/// Checks before the work that [`save`] can write these texts to `path`, and that they can be read
/// again.
///
/// # Errors
/// [`ImageError::Ending`], [`ImageError::TextKeyword`] for a keyword that PNG does not allow, and
/// [`ImageError::TextLength`] for too long a text.
pub fn check_text(path: &Path, text: &[(&str, &str)]) -> Result<(), ImageError> {
    check_text_of(FileFormat::of(path)?, text)
}

fn check_text_of(format: FileFormat, text: &[(&str, &str)]) -> Result<(), ImageError> {
    let too_long = |bytes, largest| Err(ImageError::TextLength { bytes, largest });
    let bytes: usize = text
        .iter()
        .map(|(keyword, value)| keyword.len() + value.len())
        .sum();
    if bytes > LARGEST_TEXTS || text.len() > MOST_TEXTS {
        return too_long(bytes, LARGEST_TEXTS);
    }
    for (keyword, value) in text {
        if value.len() > LARGEST_TEXT {
            return too_long(value.len(), LARGEST_TEXT);
        }
        let latin1 = keyword
            .chars()
            .all(|c| matches!(c, ' '..='~' | '\u{a1}'..='\u{ff}'));
        if !latin1 || !(1..=79).contains(&keyword.chars().count()) {
            return Err(ImageError::TextKeyword {
                keyword: (*keyword).to_owned(),
            });
        }
    }
    let [largest, largest_xmp] = match format {
        FileFormat::Png => return Ok(()),
        FileFormat::Jpeg => [LARGEST_JPEG_EXIF, xmp::LARGEST_JPEG],
        FileFormat::WebP => [LARGEST_TEXTS; 2],
    };
    let (xmp, exif) = separated(text, largest);
    if let Some(xmp) = xmp.filter(|xmp| xmp.len() > largest_xmp) {
        return too_long(xmp.len(), largest_xmp);
    }
    match exif.map_or(0, |exif| exif.len()) {
        bytes if bytes > largest => too_long(bytes, largest),
        _ => Ok(()),
    }
}

/// The XMP of texts, and EXIF with the others: without [`PARAMETERS`] where they would make it longer than
/// `largest`.
fn separated<'a>(
    text: &[(&'a str, &'a str)],
    largest: usize,
) -> (Option<&'a str>, Option<Vec<u8>>) {
    let of = |keyword| {
        let mut found = text.iter().filter(move |(known, _)| *known == keyword);
        found.next().map(|(_, text)| *text)
    };
    let own = text
        .iter()
        .filter(|(keyword, _)| ![XMP, PARAMETERS].contains(keyword));
    let own: Vec<_> = own.copied().collect();
    let fits = |exif: &Vec<u8>| exif.len() <= largest;
    let parameters = of(PARAMETERS).map(|text| exif::with_texts(&own, Some(text)));
    let alone = || (!own.is_empty()).then(|| exif::with_texts(&own, None));
    (of(XMP), parameters.filter(fits).or_else(alone))
}

fn write(
    mut file: impl Write,
    image: &RgbImage,
    format: FileFormat,
    quality: u8,
    text: &[(&str, &str)],
) -> io::Result<()> {
    match format {
        FileFormat::Png => write_png(file, image, text),
        FileFormat::Jpeg => {
            let bytes = jpeg(image, quality.clamp(1, 100), text)?;
            file.write_all(&bytes)
        }
        FileFormat::WebP => write_webp(file, image, text),
    }
}

fn write_png(file: impl Write, image: &RgbImage, text: &[(&str, &str)]) -> io::Result<()> {
    let mut encoder = png::Encoder::new(file, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    for (keyword, value) in text {
        let (keyword, value) = ((*keyword).to_owned(), (*value).to_owned());
        // As the web UI does, for readers that know no other chunk.
        match keyword == PARAMETERS && is_latin1(&value) {
            true => encoder.add_text_chunk(keyword, value)?,
            false => encoder.add_itxt_chunk(keyword, value)?,
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()?;
    Ok(())
}

/// Whether a `tEXt` chunk can hold it.
fn is_latin1(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\u{1}'..='\u{ff}'))
}

fn jpeg(image: &RgbImage, quality: u8, text: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut file, quality);
    let (xmp, exif) = separated(text, LARGEST_JPEG_EXIF);
    if let Some(exif) = exif {
        encoder.set_exif_metadata(exif).map_err(io::Error::other)?;
    }
    let (width, height) = image.dimensions();
    encoder
        .write_image(image.as_raw(), width, height, ExtendedColorType::Rgb8)
        .map_err(|error| match error {
            image::ImageError::IoError(error) => error,
            error => io::Error::other(error),
        })?;
    match xmp {
        Some(xmp) => Ok(xmp::in_jpeg(&file, xmp)),
        None => Ok(file),
    }
}

fn write_webp(file: impl Write, image: &RgbImage, text: &[(&str, &str)]) -> io::Result<()> {
    let mut encoder = WebPEncoder::new(file);
    let (xmp, exif) = separated(text, LARGEST_TEXTS);
    if let Some(exif) = exif {
        encoder.set_exif_metadata(exif);
    }
    if let Some(xmp) = xmp {
        encoder.set_xmp_metadata(xmp.into());
    }
    let (width, height) = image.dimensions();
    encoder
        .encode(image.as_raw(), width, height, ColorType::Rgb8)
        .map_err(|error| match error {
            EncodingError::IoError(error) => error,
            error => io::Error::other(error),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{load, psnr, read_text, text_of};

    fn image() -> RgbImage {
        let ramp = |x: u32, y: u32| [4 * x as u8, 8 * y as u8, (3 * (x + y)) as u8];
        RgbImage::from_fn(61, 29, |x, y| image::Rgb(ramp(x, y)))
    }

    #[test]
    fn the_ending_is_the_format() {
        let format = |name: &str| FileFormat::of(Path::new(name));
        for (name, expected) in [
            ("a.png", FileFormat::Png),
            ("a.b.PNG", FileFormat::Png),
            ("x/a.jpg", FileFormat::Jpeg),
            ("a.JPEG", FileFormat::Jpeg),
            ("a.WebP", FileFormat::WebP),
        ] {
            assert_eq!(format(name).unwrap(), expected, "{name}");
        }
        for name in ["a", "png", ".png", "a.gif", "a.jpg.", "a.avif", ""] {
            let error = format(name).unwrap_err();
            assert!(
                matches!(error, ImageError::Ending { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains(".png, .jpg, .jpeg or .webp"));
        }
    }

    #[test]
    fn pixels_and_texts_of_every_format() {
        let folder = tempfile::tempdir().unwrap();
        let text = [("prompt", "ein grüner Kreis, 红色方块"), ("seed", "7")];
        let expected = text.map(|(key, value)| (key.to_owned(), value.to_owned()));
        for (name, magic) in [
            ("a.png", &b"\x89PNG"[..]),
            ("a.jpg", b"\xff\xd8\xff"),
            ("b.jpeg", b"\xff\xd8\xff"),
            ("a.webp", b"RIFF"),
        ] {
            let path = folder.path().join(name);
            check_text(&path, &text).unwrap();
            save(&path, &image(), &text).unwrap();
            let format = FileFormat::of(&path).unwrap();
            let encoded = encode(&image(), format, JPEG_QUALITY, &text).unwrap();
            assert!(encoded == std::fs::read(&path).unwrap(), "{name}");
            assert!(std::fs::read(&path).unwrap().starts_with(magic), "{name}");
            assert_eq!(read_text(&path).unwrap(), expected, "{name}");
            let decibels = psnr(&image(), &load(&path).unwrap()).unwrap();
            let lossless = !name.contains(".jp");
            assert_eq!(decibels.is_infinite(), lossless, "{name}: {decibels}");
            assert!(decibels > 40.0, "{name}: {decibels}");
            save(&path, &image(), &[]).unwrap();
            assert_eq!(read_text(&path).unwrap(), [], "{name}");
        }
        // Nothing unfinished next to them.
        assert_eq!(folder.path().read_dir().unwrap().count(), 4);
    }

    #[test]
    fn texts_that_do_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(66_000);
        let too_long = "x".repeat(LARGEST_TEXT + 1);
        for (name, text, fits) in [
            ("a.png", &long, true),
            ("a.webp", &long, true),
            ("a.jpg", &long, false),
            ("a.png", &too_long, false),
            ("a.webp", &too_long, false),
        ] {
            let path = folder.path().join(name);
            let text = [("prompt", text.as_str())];
            assert_eq!(check_text(&path, &text).is_ok(), fits, "{name}");
            match save(&path, &image(), &text) {
                Ok(()) => assert_eq!(read_text(&path).unwrap()[0].1, text[0].1),
                Err(error) => {
                    let length =
                        matches!(error, PipelineError::Image(ImageError::TextLength { .. }));
                    assert!(length && !fits, "{name}: {error}");
                    assert!(error.to_string().contains("at most"), "{error}");
                }
            }
        }
    }

    #[test]
    fn images_that_do_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        for (name, width) in [("a.jpg", 70_000), ("a.webp", 16_385)] {
            let path = folder.path().join(name);
            let error = save(&path, &RgbImage::new(width, 1), &[]).unwrap_err();
            assert!(matches!(error, PipelineError::Write { .. }), "{error}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn texts_of_files_that_were_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let whole_text = [("prompt".to_owned(), "a".to_owned())];
        for name in ["a.jpg", "a.webp"] {
            let path = folder.path().join(name);
            save(&path, &image(), &[("prompt", "a")]).unwrap();
            let whole = std::fs::read(&path).unwrap();
            for length in 0..whole.len() {
                // The whole text, none, or an error, and no part of it.
                if let Ok(text) = text_of(&path, &whole[..length]) {
                    assert!(
                        text.is_empty() || text == whole_text,
                        "{name}, {length}: {text:?}"
                    );
                }
            }
            assert_eq!(text_of(&path, &whole).unwrap(), whole_text);
        }
    }

    /// Bytes that are no text are longer as such, and cost the other texts nothing.
    #[test]
    fn xmp_that_is_no_text() {
        let mut file = Vec::new();
        let mut encoder = WebPEncoder::new(&mut file);
        encoder.set_exif_metadata(exif::with_texts(&[("seed", "7")], None));
        encoder.set_xmp_metadata(vec![0xff; LARGEST_TEXT]);
        encoder.encode(&[0; 3], 1, 1, ColorType::Rgb8).unwrap();
        let text = text_of(Path::new("a.webp"), &file).unwrap();
        assert_eq!(text, [("seed".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn texts_that_could_not_be_read_again() {
        let text = "x".repeat(LARGEST_TEXT);
        let several = ["a", "b", "c", "d", "e"].map(|keyword| (keyword, text.as_str()));
        let many = vec![("a", "b"); MOST_TEXTS + 1];
        for texts in [&several[..], &many] {
            let error = check_text(Path::new("a.png"), texts).unwrap_err();
            assert!(matches!(error, ImageError::TextLength { .. }), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let most = vec![("a", "b"); MOST_TEXTS];
        save(&path, &image(), &most).unwrap();
        assert_eq!(read_text(&path).unwrap().len(), MOST_TEXTS);
    }
}
