//! The images API of OpenAI: `/v1/images/generations`, `/v1/images/edits`, `/v1/models`.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Multipart, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::Images;
use super::edit::EditForm;
use super::generation::Generation;
use crate::commands::serve::error::ApiError;
use crate::commands::serve::state::Server;

/// Images from a prompt.
#[utoipa::path(
    post,
    path = "/v1/images/generations",
    request_body = Generation,
    responses(
        (status = 200, description = "The images, or with `stream` server-sent events", body = Images),
        (status = 400, description = "What cannot be made", body = crate::commands::serve::error::ErrorBody),
        (status = 429, description = "Too many requests wait", body = crate::commands::serve::error::ErrorBody),
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
        (status = 400, description = "What cannot be made", body = crate::commands::serve::error::ErrorBody),
        (status = 429, description = "Too many requests wait", body = crate::commands::serve::error::ErrorBody),
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
    let most_pixels = server.shared.limits.max_start_pixels(&server.spec);
    let draft = server.unpacking(move || form.draft(most_pixels)).await?;
    let submitted = server.submit(draft)?;
    answer.respond(server, submitted).await
}

/// The model.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "A list of one model")))]
pub async fn models(State(server): State<Server>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [model_json(&server)] }))
}

/// The model by its name.
#[utoipa::path(
    get,
    path = "/v1/models/{name}",
    params(("name" = String, Path, description = "Name of the model")),
    responses((status = 200, description = "The model"), (status = 404, description = "There is no such model"))
)]
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
