//! Images as OpenAI's API answers them: at once, or as events.

use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use sana_pipeline::image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use super::submit::Submitted;
use crate::commands::serve::error::ApiError;
use crate::commands::serve::images::{self, Format};
use crate::commands::serve::state::Server;
use crate::commands::serve::state::job::Event;
use crate::generate::Record;

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

impl Answer {
    pub async fn respond(self, server: Server, submitted: Submitted) -> Result<Response, ApiError> {
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
        let file = images::encoded(image, record, self.format, self.quality).await?;
        let (mut b64_json, mut url) = (None, None);
        match self.response {
            ResponseFormat::B64Json => b64_json = Some(images::base64(&file)),
            ResponseFormat::Url => {
                let name = server.kept.keep(file, self.format)?;
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
            let (mut previews, mut images) = (0, 0);
            loop {
                let event = tokio::select! {
                    event = submitted.next() => event,
                    // Dropping the job cancels it.
                    () = sender.closed() => return,
                };
                let event = match event {
                    None if submitted.is_all(images) => return,
                    None => Err(ApiError::ended()),
                    Some(Event::Failed(error)) => Err(error),
                    Some(Event::Step { .. }) if !self.progress => continue,
                    Some(Event::Step { step, steps }) => {
                        Ok(("progress", json!({ "step": step, "steps": steps })))
                    }
                    Some(Event::Preview { image, preview }) => {
                        previews += 1;
                        self.preview(&server, preview, image, previews - 1).await
                    }
                    Some(Event::Image(made)) => {
                        images += 1;
                        let (index, size) = (made.index, size(&made.image));
                        let made = self
                            .image(&server, made.image, made.record, made.seed)
                            .await;
                        made.map(|made| self.completed(made, index, &size))
                    }
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
        server: &Server,
        preview: RgbImage,
        image: usize,
        index: usize,
    ) -> Result<(&'static str, Value), ApiError> {
        let size = size(&preview);
        let no_mark = server.shared.no_mark;
        let file = images::preview(preview, no_mark, self.format, self.quality).await?;
        let data = json!({
            "b64_json": images::base64(&file),
            "partial_image_index": index,
            "image_index": image,
            "created_at": now(),
            "size": size,
            "quality": "auto",
            "background": "opaque",
            "output_format": self.format,
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

/// The address under which the client reached the server, without a path.
pub fn own_address(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    match host {
        Some(host) => format!("{scheme}://{host}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn addresses_as_the_client_sees_them() {
        let address = |pairs: &[(&'static str, &str)]| {
            let pair = |(name, value): &(&'static str, &str)| {
                (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())
            };
            own_address(&pairs.iter().map(pair).collect())
        };
        assert_eq!(address(&[("host", "a:8080")]), "http://a:8080");
        let proxied = [("host", "a"), ("x-forwarded-proto", "https")];
        assert_eq!(address(&proxied), "https://a");
        assert_eq!(address(&[("host", "a/b c")]), "");
        assert_eq!(address(&[]), "");
    }
}
