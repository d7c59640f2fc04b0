//! What goes wrong with a request, as the APIs report it.

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sana_pipeline::PipelineError;
use sana_pipeline::error::{ImageError, RequestError};
use serde::Serialize;
use utoipa::ToSchema;

use super::queue::Refused;
use crate::terminal::warning;

/// Why a request was not fulfilled.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    /// The field of the request that it is about.
    field: Option<&'static str>,
    message: String,
    /// Seconds after which to try again.
    retry_after: Option<u64>,
}

/// An error in the form of OpenAI's API.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
    /// The same message where AUTOMATIC1111's clients look for it.
    detail: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    message: String,
    /// `invalid_request_error`, `authentication_error`, `rate_limit_error` or `server_error`.
    r#type: &'static str,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            field: None,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A request that cannot be fulfilled as it is.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A value of a field that cannot be.
    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::invalid(format!("{field}: {}", message.into()))
        }
    }

    pub fn no_key() -> Self {
        let message = "give the API key as `Authorization: Bearer KEY`";
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
        }
    }

    pub fn other_origin() -> Self {
        let message = "web pages of this origin may not call the server: see --allow-origin";
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", message)
    }

    pub fn other_host() -> Self {
        let message = "the server is for this machine, and the request names another host: see --allow-origin";
        Self::new(StatusCode::FORBIDDEN, "invalid_request_error", message)
    }

    pub fn not_found() -> Self {
        let message = "there is nothing here: /openapi.json lists what there is";
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// The worker has ended while the request waited.
    pub fn ended() -> Self {
        let message = "the server ended before the images were made";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
    }

    /// A failure of the server.
    pub fn internal(message: impl Into<String>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "server_error", message)
    }

    fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                r#type: self.kind,
                param: self.field,
                code: self.code,
            },
            detail: self.message.clone(),
        }
    }

    /// As JSON, for an event of a stream.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self.body()).unwrap_or_default()
    }
}

impl From<&RequestError> for ApiError {
    fn from(error: &RequestError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<&ImageError> for ApiError {
    fn from(error: &ImageError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<&PipelineError> for ApiError {
    fn from(error: &PipelineError) -> Self {
        match error {
            PipelineError::Request(_) | PipelineError::Image(_) => Self::invalid(error.to_string()),
            PipelineError::Memory { .. } => Self {
                code: Some("too_little_memory"),
                ..Self::invalid(error.to_string())
            },
            // They name files of this machine.
            PipelineError::Read { .. }
            | PipelineError::Write { .. }
            | PipelineError::Checkpoint(_) => {
                warning(error);
                Self::internal("a file of the model cannot be used: the server's output names it")
            }
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full { retry_after } => Self {
                code: Some("queue_full"),
                retry_after: Some(retry_after),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate_limit_error",
                    format!("too many requests wait: try again in {retry_after} s"),
                )
            },
            Refused::Closed => Self::ended(),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self {
            status: rejection.status(),
            ..Self::invalid(rejection.body_text())
        }
    }
}

impl From<MultipartError> for ApiError {
    fn from(error: MultipartError) -> Self {
        Self {
            status: error.status(),
            ..Self::invalid(error.body_text())
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
