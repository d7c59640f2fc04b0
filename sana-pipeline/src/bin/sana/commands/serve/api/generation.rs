//! What OpenAI's API has fields for.

use axum::http::HeaderMap;
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::{Answer, ResponseFormat, own_address};
use crate::args::Size;
use crate::commands::serve::error::ApiError;
use crate::commands::serve::images::Format;
use crate::commands::serve::state::job::Draft;
use crate::generate::args::SolverName;

/// Bytes of a prompt, at most.
const LONGEST_PROMPT: usize = 32_000;
/// Quality of JPEGs without `output_compression`.
const QUALITY: u8 = 90;

/// What OpenAI's API has fields for, and, below, what the model has more options for.
///
/// `model`, `quality`, `style`, `background`, `moderation` and `user` are accepted and have no effect.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub struct Generation {
    /// What the image shows, at most 32,000 bytes
    pub prompt: String,
    /// Images to make [default: 1]
    pub n: Option<usize>,
    /// Width and height such as `1024x768`, multiples of 32, or `auto`: what the model was trained at
    pub size: Option<String>,
    /// `b64_json`, or `url` for an address at which the image is for an hour [default: b64_json]
    pub response_format: Option<ResponseFormat>,
    /// [default: png]
    pub output_format: Option<Format>,
    /// Quality of JPEGs, from 0 to 100 [default: 90]
    pub output_compression: Option<u8>,
    /// Send server-sent events: previews, then the images
    pub stream: Option<bool>,
    /// Previews to send of each image, spread over the steps [default: 0]
    pub partial_images: Option<usize>,

    /// Seed of the first image; the others count up from it [default: a random one]
    pub seed: Option<u64>,
    /// What the images should not show
    pub negative_prompt: Option<String>,
    /// Steps of the solver [default: the model's]
    pub num_inference_steps: Option<usize>,
    /// Guidance scale [default: the model's]
    pub guidance_scale: Option<f64>,
    /// `flow-dpm`, `flow-euler` or `scm` [default: the model's]
    pub solver: Option<String>,
    /// Also send an event of the type `progress` after each step, which OpenAI's API does not have
    pub progress: Option<bool>,
}

impl Generation {
    /// What is to be made.
    pub fn draft(&self) -> Result<Draft, ApiError> {
        for (field, text) in [
            ("prompt", Some(&self.prompt)),
            ("negative_prompt", self.negative_prompt.as_ref()),
        ] {
            if text.is_some_and(|text| text.len() > LONGEST_PROMPT) {
                let reason = format!("it is longer than {LONGEST_PROMPT} bytes");
                return Err(ApiError::field(field, reason));
            }
        }
        let mut draft = Draft::new(self.prompt.clone())?;
        let args = &mut draft.args;
        if self.n == Some(0) {
            return Err(ApiError::field("n", "it must be at least 1"));
        }
        args.count = self.n;
        args.size = match self.size.as_deref() {
            None | Some("" | "auto") => None,
            Some(size) => Some(
                size.parse::<Size>()
                    .map_err(|e| ApiError::field("size", e))?,
            ),
        };
        args.seed = self.seed.or(args.seed);
        args.negative = self.negative_prompt.clone();
        args.steps = self.num_inference_steps;
        args.guidance = self.guidance_scale;
        args.solver = match &self.solver {
            None => None,
            Some(name) => Some(
                <SolverName as clap::ValueEnum>::from_str(name, false)
                    .map_err(|_| ApiError::field("solver", "flow-dpm, flow-euler or scm"))?,
            ),
        };
        draft.previews = match self.stream == Some(true) {
            true => self.partial_images.unwrap_or(0),
            false => 0,
        };
        Ok(draft)
    }

    /// How it is answered.
    pub fn answer(&self, kind: &'static str, headers: &HeaderMap) -> Result<Answer, ApiError> {
        let quality = self.output_compression.unwrap_or(QUALITY);
        if quality > 100 {
            return Err(ApiError::field("output_compression", "from 0 to 100"));
        }
        Ok(Answer {
            format: self.output_format.unwrap_or_default(),
            quality: quality.max(1),
            response: self.response_format.unwrap_or_default(),
            address: own_address(headers),
            kind,
            stream: self.stream == Some(true),
            progress: self.progress == Some(true),
        })
    }
}
