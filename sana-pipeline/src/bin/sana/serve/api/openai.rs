//! The images API of OpenAI: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`.

use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Multipart, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use sana_pipeline::image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use super::edit::EditForm;
use super::own_address;
use crate::args::Size;
use crate::generate::args::SolverName;
use crate::generate::metadata::Record;
use crate::serve::error::ApiError;
use crate::serve::images::{self, Format};
use crate::serve::job::{Draft, Event};
use crate::serve::state::Server;
use crate::serve::submit::Submitted;

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
    /// Quality of JPEGs, from 1 to 100 [default: 90]
    pub output_compression: Option<u8>,
    /// Send server-sent events: previews, then the images
    #[serde(default)]
    pub stream: bool,
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
    #[serde(default)]
    pub progress: bool,
}

/// How images are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    #[default]
    B64Json,
    Url,
}

/// Images, as OpenAI's API answers them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Images {
    /// Seconds since 1970.
    created: u64,
    data: Vec<ImageData>,
    output_format: Format,
    /// Width and height.
    size: String,
}

/// An image.
#[derive(Debug, Serialize, ToSchema)]
struct ImageData {
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The seed that makes it again.
    seed: u64,
}

/// How images of a request are answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub format: Format,
    pub quality: u8,
    pub response: ResponseFormat,
    /// The start of addresses.
    pub address: String,
    /// Events are of the type `KIND.partial_image` and `KIND.completed`.
    pub kind: &'static str,
    pub stream: bool,
    pub progress: bool,
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
        draft.previews = match self.stream {
            true => self.partial_images.unwrap_or(0),
            false => 0,
        };
        Ok(draft)
    }

    /// How it is answered.
    pub fn answer(&self, kind: &'static str, headers: &HeaderMap) -> Result<Answer, ApiError> {
        let quality = self.output_compression.unwrap_or(QUALITY);
        if !(1..=100).contains(&quality) {
            return Err(ApiError::field("output_compression", "from 1 to 100"));
        }
        Ok(Answer {
            format: self.output_format.unwrap_or_default(),
            quality,
            response: self.response_format.unwrap_or_default(),
            address: own_address(headers),
            kind,
            stream: self.stream,
            progress: self.progress,
        })
    }
}

/// Images from a prompt.
#[utoipa::path(
    post,
    path = "/v1/images/generations",
    request_body = Generation,
    responses(
        (status = 200, description = "The images, or with `stream` server-sent events", body = Images),
        (status = 400, description = "What cannot be made", body = crate::serve::error::ErrorBody),
        (status = 429, description = "Too many requests wait", body = crate::serve::error::ErrorBody),
    )
)]
pub async fn generations(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Result<Json<Generation>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(body) = body?;
    let answer = body.answer("image_generation", &headers)?;
    let submitted = server.submit(body.draft()?)?;
    answer.respond(server, submitted).await
}

/// Images from a prompt and an image.
#[utoipa::path(
    post,
    path = "/v1/images/edits",
    request_body(content = EditForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The images, or with `stream` server-sent events", body = Images),
        (status = 400, description = "What cannot be made", body = crate::serve::error::ErrorBody),
        (status = 429, description = "Too many requests wait", body = crate::serve::error::ErrorBody),
    )
)]
pub async fn edits(
    State(server): State<Server>,
    headers: HeaderMap,
    form: Multipart,
) -> Result<Response, ApiError> {
    let form = EditForm::read(form).await?;
    let answer = form.request.answer("image_edit", &headers)?;
    // Images are unpacked and checked next to the threads that answer.
    let draft = spawn_blocking(move || form.draft()).await;
    let draft = draft.map_err(|error| ApiError::internal(error.to_string()))??;
    let submitted = server.submit(draft)?;
    answer.respond(server, submitted).await
}

/// The model.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "A list of one model")))]
pub async fn models(State(server): State<Server>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [model_json(&server)] }))
}

/// The model by its name.
pub async fn model(
    State(server): State<Server>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Json<Value>, ApiError> {
    match name == server.model {
        true => Ok(Json(model_json(&server))),
        false => Err(ApiError::not_found()),
    }
}

fn model_json(server: &Server) -> Value {
    let (spec, limits) = (&server.spec, &server.shared.limits);
    let defaults = spec.defaults();
    let buckets = spec.buckets();
    let sizes: Vec<[usize; 2]> = buckets
        .sizes()
        .iter()
        .map(|[height, width]| [*width, *height])
        .collect();
    json!({
        "id": server.model,
        "object": "model",
        "created": server.started,
        "owned_by": "sana",
        // What the page asks for.
        "sana": {
            "size": defaults.size,
            "sizes": sizes,
            "multiple": spec.size_multiple(),
            "steps": defaults.steps,
            "guidance": defaults.guidance,
            "max_images": limits.max_images,
            "max_steps": limits.max_steps,
            "max_pixels": limits.max_pixels(spec),
        },
    })
}

impl Answer {
    async fn respond(self, server: Server, submitted: Submitted) -> Result<Response, ApiError> {
        match self.stream {
            true => Ok(self.stream(server, submitted)),
            false => Ok(Json(self.images(&server, submitted).await?).into_response()),
        }
    }

    async fn images(self, server: &Server, submitted: Submitted) -> Result<Images, ApiError> {
        let made = submitted.images().await?;
        let size = made
            .first()
            .map(|made| size(&made.image))
            .unwrap_or_default();
        let mut data = Vec::with_capacity(made.len());
        for made in made {
            data.push(
                self.image(server, made.image, made.record, made.seed)
                    .await?,
            );
        }
        Ok(Images {
            created: now(),
            data,
            output_format: self.format,
            size,
        })
    }

    async fn image(
        &self,
        server: &Server,
        image: RgbImage,
        record: Record,
        seed: u64,
    ) -> Result<ImageData, ApiError> {
        let (format, quality) = (self.format, self.quality);
        let encode = move || images::encoded(&image, Some(&record), format, quality);
        let file = spawn_blocking(encode).await;
        let file = file.map_err(|error| ApiError::internal(error.to_string()))??;
        let (mut b64_json, mut url) = (None, None);
        match self.response {
            ResponseFormat::B64Json => b64_json = Some(images::base64(&file)),
            ResponseFormat::Url => {
                let name = server.kept.keep(file, format)?;
                url = Some(format!("{}/images/{name}", self.address));
            }
        }
        Ok(ImageData {
            b64_json,
            url,
            seed,
        })
    }

    /// The events of a job. A client that reads slowly has them wait, and not the worker.
    fn stream(self, server: Server, mut submitted: Submitted) -> Response {
        let (sender, events) = mpsc::channel::<Result<sse::Event, Infallible>>(4);
        tokio::spawn(async move {
            let mut previews = 0;
            loop {
                let event = tokio::select! {
                    event = submitted.next() => event,
                    // Dropping the job cancels it.
                    () = sender.closed() => return,
                };
                let Some(event) = event else { return };
                let event = match event {
                    Event::Step { .. } if !self.progress => continue,
                    Event::Step { step, steps } => {
                        Ok(("progress", json!({ "step": step, "steps": steps })))
                    }
                    Event::Preview { image, preview } => {
                        previews += 1;
                        self.preview(preview, image, previews - 1).await
                    }
                    Event::Image(made) => {
                        let (index, size) = (made.index, size(&made.image));
                        let made = self
                            .image(&server, made.image, made.record, made.seed)
                            .await;
                        made.map(|made| self.completed(made, index, &size))
                    }
                    Event::Failed(error) => Err(error),
                };
                let (name, mut data, last) = match event {
                    Ok((name, data)) => (self.event_name(name), data, false),
                    Err(error) => ("error".to_owned(), error.json(), true),
                };
                if let Value::Object(fields) = &mut data {
                    fields.insert("type".to_owned(), Value::String(name.clone()));
                }
                let event = sse::Event::default().event(name).data(data.to_string());
                if sender.send(Ok(event)).await.is_err() || last {
                    return;
                }
            }
        });
        Sse::new(ReceiverStream::new(events))
            .keep_alive(KeepAlive::default())
            .into_response()
    }

    fn event_name(&self, name: &str) -> String {
        format!("{}.{name}", self.kind)
    }

    async fn preview(
        &self,
        preview: RgbImage,
        image: usize,
        index: usize,
    ) -> Result<(&'static str, Value), ApiError> {
        let (format, quality, size) = (self.format, self.quality, size(&preview));
        let encode = move || images::encoded(&preview, None, format, quality);
        let file = spawn_blocking(encode).await;
        let file = file.map_err(|error| ApiError::internal(error.to_string()))??;
        let data = json!({
            "b64_json": images::base64(&file),
            "partial_image_index": index,
            "image_index": image,
            "created_at": now(),
            "size": size,
            "quality": "auto",
            "background": "opaque",
            "output_format": format,
        });
        Ok(("partial_image", data))
    }

    fn completed(&self, made: ImageData, image: usize, size: &str) -> (&'static str, Value) {
        let mut data = json!({
            "image_index": image,
            "seed": made.seed,
            "created_at": now(),
            "size": size,
            "quality": "auto",
            "background": "opaque",
            "output_format": self.format,
            "usage": {
                "input_tokens": 0,
                "output_tokens": 0,
                "total_tokens": 0,
                "input_tokens_details": { "text_tokens": 0, "image_tokens": 0 },
            },
        });
        if let Value::Object(fields) = &mut data {
            let value = |text: Option<String>| text.map(Value::String);
            fields.extend(value(made.b64_json).map(|text| ("b64_json".to_owned(), text)));
            fields.extend(value(made.url).map(|text| ("url".to_owned(), text)));
        }
        ("completed", data)
    }
}

fn size(image: &RgbImage) -> String {
    format!("{}x{}", image.width(), image.height())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
