//! The form of `/v1/images/edits`.

use axum::extract::Multipart;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::generation::Generation;
use crate::commands::serve::error::ApiError;
use crate::commands::serve::images;
use crate::commands::serve::state::job::{Draft, Start};

/// Fields whose values are text, whatever it looks like.
const TEXTS: [&str; 6] = [
    "prompt",
    "negative_prompt",
    "size",
    "solver",
    "model",
    "user",
];

/// The fields of a generation, and an image.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct EditForm {
    #[serde(flatten)]
    pub request: Generation,
    /// Image to start from: PNG, JPEG or WebP
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// Image whose transparent parts are regenerated; without it, what is transparent in the image
    #[schema(value_type = Option<String>, format = Binary)]
    mask: Option<Vec<u8>>,
    /// How far the result may be from the image, above 0 and up to 1 [default: 0.6, with a mask 1]
    strength: Option<f64>,
    /// Pixels over which what is regenerated fades into the image [default: 0]
    mask_feather: Option<u32>,
}

impl EditForm {
    pub async fn read(mut form: Multipart) -> Result<Self, ApiError> {
        let mut read = Self::default();
        let mut fields = Map::new();
        while let Some(field) = form.next_field().await? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "image" | "image[]" if !read.image.is_empty() => {
                    return Err(ApiError::field("image", "one image is taken, not several"));
                }
                "image" | "image[]" => read.image = field.bytes().await?.into(),
                "mask" => read.mask = Some(field.bytes().await?.into()),
                "strength" | "mask_feather" => {
                    let text = field.text().await?;
                    match name.as_str() {
                        "strength" => read.strength = Some(number("strength", &text)?),
                        _ => read.mask_feather = Some(number("mask_feather", &text)?),
                    }
                }
                _ => {
                    let text = field.text().await?;
                    let value = match TEXTS.contains(&name.as_str()) {
                        true => Value::String(text),
                        false => typed(text),
                    };
                    fields.insert(name, value);
                }
            }
        }
        if read.image.is_empty() {
            return Err(ApiError::field("image", "it is missing"));
        }
        read.request = serde_json::from_value(Value::Object(fields))
            .map_err(|error| ApiError::invalid(error.to_string()))?;
        Ok(read)
    }

    /// What is to be made. Unpacks the images.
    pub fn draft(&self, most_pixels: usize) -> Result<Draft, ApiError> {
        let mut draft = self.request.draft()?;
        let (image, transparent) = images::with_transparency("image", &self.image)?;
        let mask = match &self.mask {
            Some(mask) => {
                let (_, transparent) = images::with_transparency("mask", mask)?;
                Some(transparent.ok_or_else(|| {
                    ApiError::field("mask", "it is transparent nowhere, so nothing would change")
                })?)
            }
            None => transparent,
        };
        let start = Start {
            image,
            mask,
            strength: self.strength,
            mask_feather: self.mask_feather.unwrap_or(0),
        };
        draft.start = Some(start.bounded(most_pixels));
        Ok(draft)
    }
}

/// A text of a form as the JSON value it stands for.
fn typed(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text),
    }
}

fn number<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, ApiError> {
    text.trim()
        .parse()
        .map_err(|_| ApiError::field(field, "it is not a number"))
}
