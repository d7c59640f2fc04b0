//! Text that an image file holds next to its pixels: text chunks of PNG, EXIF of JPEG and WebP.

use std::io::Cursor;
use std::path::Path;

use image::{ImageDecoder, ImageFormat, guess_format};

use super::exif::{self, LARGEST_TEXTS};
use super::read::{decoder, read, unreadable};
use super::xmp::XMP;
use crate::error::{ImageError, PipelineError};

/// Text chunks of a PNG, at most.
pub(super) const MOST_TEXTS: usize = 256;
/// Bytes of a text that an image records, unpacked, and so of a prompt: a megabyte.
pub const LARGEST_TEXT: usize = 1 << 20;
/// Memory that the chunks of a PNG may take before they are unpacked.
const LARGEST_CHUNKS: usize = 16 << 20;

/// The texts of an image, with their keywords: of a PNG its text chunks, in the order of the file by
/// kind (`tEXt`, `zTXt`, `iTXt`), of a JPEG or WebP what [`save`](super::save) wrote into its EXIF, or
/// another program's comment there under `UserComment`, and its XMP under [`XMP`]. Pixels are passed over. A megabyte of text is read at most,
/// 4 in all chunks together, and 256 chunks.
///
/// # Errors
/// [`PipelineError::Read`] when there is no such file,
/// [`ImageError::Unreadable`] when it is no such image or has more
/// text.
pub fn read_text(path: &Path) -> Result<Vec<(String, String)>, PipelineError> {
    Ok(text_of(path, &read(path)?)?)
}

/// [`read_text`] of bytes; `origin` names them in errors.
///
/// # Errors
/// [`ImageError::Unreadable`].
pub fn text_of(origin: &Path, bytes: &[u8]) -> Result<Vec<(String, String)>, ImageError> {
    if matches!(guess_format(bytes), Ok(ImageFormat::Png)) {
        return png_text(origin, bytes);
    }
    let mut decoder = decoder(origin, Cursor::new(bytes))?;
    let metadata = decoder
        .exif_metadata()
        .map_err(|error| unreadable(origin, error))?;
    let mut texts = Texts {
        origin,
        read: Vec::new(),
        bytes: 0,
    };
    for (keyword, text) in metadata.map(exif::texts).unwrap_or_default() {
        texts.push(&keyword, text)?;
    }
    // What is in it beyond a limit, or cannot be read, is nobody's record.
    let xmp = decoder.xmp_metadata().ok().flatten();
    let xmp = xmp.filter(|xmp| xmp.len() <= LARGEST_TEXT);
    // What stands for bytes that are no text is longer than these.
    let xmp = xmp.map(|xmp| String::from_utf8_lossy(&xmp).into_owned());
    if let Some(xmp) = xmp.filter(|xmp| xmp.len() <= LARGEST_TEXT) {
        texts.push(XMP, xmp)?;
    }
    Ok(texts.read)
}

fn png_text(origin: &Path, bytes: &[u8]) -> Result<Vec<(String, String)>, ImageError> {
    let failed = |error: png::DecodingError| unreadable(origin, error);
    let limits = png::Limits {
        bytes: LARGEST_CHUNKS,
    };
    let mut reader = png::Decoder::new_with_limits(Cursor::new(bytes), limits)
        .read_info()
        .map_err(failed)?;
    reader.finish().map_err(failed)?;
    let info = reader.info();
    let mut texts = Texts {
        origin,
        read: Vec::new(),
        bytes: 0,
    };
    for chunk in &info.uncompressed_latin1_text {
        texts.push(&chunk.keyword, chunk.text.clone())?;
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        chunk
            .decompress_text_with_limit(LARGEST_TEXT)
            .map_err(failed)?;
        texts.push(&chunk.keyword, chunk.get_text().map_err(failed)?)?;
    }
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        chunk
            .decompress_text_with_limit(LARGEST_TEXT)
            .map_err(failed)?;
        texts.push(&chunk.keyword, chunk.get_text().map_err(failed)?)?;
    }
    Ok(texts.read)
}

/// Texts of a PNG, up to the limits.
struct Texts<'a> {
    origin: &'a Path,
    read: Vec<(String, String)>,
    bytes: usize,
}

impl Texts<'_> {
    fn push(&mut self, keyword: &str, text: String) -> Result<(), ImageError> {
        self.bytes += keyword.len() + text.len();
        let too_much = text.len() > LARGEST_TEXT || self.bytes > LARGEST_TEXTS;
        if self.read.len() == MOST_TEXTS || too_much {
            let reason = format!(
                "it has more than {MOST_TEXTS} text chunks, {LARGEST_TEXT} bytes in one of them, \
                 or {LARGEST_TEXTS} bytes of text"
            );
            return Err(unreadable(self.origin, reason));
        }
        self.read.push((keyword.to_owned(), text));
        Ok(())
    }
}
