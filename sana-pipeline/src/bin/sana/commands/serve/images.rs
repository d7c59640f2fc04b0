//! Images as requests bring them and answers hold them.

use std::path::Path;

use axum::body::Bytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sana_pipeline::error::ImageError;
use sana_pipeline::image::{self, FileFormat, GrayImage, RgbImage};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::files::marked;
use crate::generate::Record;

/// The format of an image that is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// With its settings in text chunks
    #[default]
    Png,
    /// With its settings in EXIF
    Jpeg,
    /// Lossless, with its settings in EXIF
    Webp,
}

impl From<Format> for FileFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Png => Self::Png,
            Format::Jpeg => Self::Jpeg,
            Format::Webp => Self::WebP,
        }
    }
}

impl Format {
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }
}

/// The file of an image with what it was made of. Of a record that is too long for the format the mark
/// remains.
pub async fn encoded(
    image: RgbImage,
    record: Record,
    format: Format,
    quality: u8,
) -> Result<Bytes, ApiError> {
    off_thread(move || {
        let format = FileFormat::from(format);
        match image::encode(&image, format, quality, &record.texts()) {
            Err(ImageError::TextLength { .. }) => {
                image::encode(&image, format, quality, &record.mark())
            }
            file => file,
        }
    })
    .await
}

/// The file of a preview, which has no record, with the mark that a model made it unless there is to be
/// none.
pub async fn preview(
    image: RgbImage,
    no_mark: bool,
    format: Format,
    quality: u8,
) -> Result<Bytes, ApiError> {
    off_thread(move || {
        let mark = marked::mark(no_mark);
        let texts: Vec<_> = mark
            .iter()
            .map(|(key, text)| (*key, text.as_str()))
            .collect();
        image::encode(&image, format.into(), quality, &texts)
    })
    .await
}

/// Encodes next to the threads that answer.
async fn off_thread(
    encode: impl FnOnce() -> Result<Vec<u8>, ImageError> + Send + 'static,
) -> Result<Bytes, ApiError> {
    // It is no fault of the request.
    let file = spawn_blocking(encode).await;
    let file = file.map_err(|error| ApiError::internal(error.to_string()))?;
    file.map(Bytes::from)
        .map_err(|error| ApiError::internal(error.to_string()))
}

/// In base64, as JSON holds it.
pub fn base64(file: &Bytes) -> String {
    BASE64_STANDARD.encode(file)
}

/// The bytes of base64, perhaps as a `data:` URL.
pub fn from_base64(field: &'static str, text: &str) -> Result<Vec<u8>, ApiError> {
    let text = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").map_or("", |(_, data)| data),
        None => text,
    };
    BASE64_STANDARD
        .decode(text.trim())
        .map_err(|error| ApiError::field(field, format!("it is not base64: {error}")))
}

/// An uploaded image.
pub fn image(field: &'static str, bytes: &[u8]) -> Result<RgbImage, ApiError> {
    image::decode(Path::new(field), bytes).map_err(|error| ApiError::from(&error))
}

/// An uploaded mask whose white is regenerated.
pub fn mask(field: &'static str, bytes: &[u8]) -> Result<GrayImage, ApiError> {
    image::decode_mask(Path::new(field), bytes).map_err(|error| ApiError::from(&error))
}

/// An uploaded image, and where it is transparent, as a mask whose white is regenerated; `None` if it is
/// nowhere.
pub fn with_transparency(
    field: &'static str,
    bytes: &[u8],
) -> Result<(RgbImage, Option<GrayImage>), ApiError> {
    let decoded = image::decode_with_alpha(Path::new(field), bytes);
    let (image, mut alpha) = decoded.map_err(|error| ApiError::from(&error))?;
    alpha.iter_mut().for_each(|value| *value = 255 - *value);
    let transparent = alpha.iter().any(|value| *value > 0);
    Ok((image, transparent.then_some(alpha)))
}
