//! The routes.

mod a1111;
mod answer;
mod auth;
mod edit;
mod generation;
mod lists;
mod openai;
mod submit;

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::cors::CorsLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

use super::error::ApiError;
use super::state::Server;

use self::auth::{of_own_origin, with_key};

pub use answer::now;

/// How long a client may be silent while it sends a body.
const SILENCE: Duration = Duration::from_secs(30);

/// Bytes of a body without images, at most.
const LARGEST_TEXT: usize = 1 << 20;

/// The page.
const PAGE: &str = include_str!("page.html");

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sana serve",
        description = "Images from text. The images API of OpenAI, and what front ends call of the API of \
                       AUTOMATIC1111's web UI."
    ),
    paths(
        openai::generations,
        openai::edits,
        openai::models,
        openai::model,
        a1111::txt2img,
        a1111::img2img,
        a1111::progress,
        a1111::interrupt,
        a1111::samplers,
        a1111::sd_models,
        a1111::options,
        a1111::set_options,
    )
)]
struct Description;

/// All routes.
pub fn routes(server: Server) -> Router {
    let limit = server.shared.limits.max_body.0;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // Those without images.
    let text_limit = DefaultBodyLimit::max(limit.min(LARGEST_TEXT));
    let keyed = Router::new()
        .route(
            "/v1/images/generations",
            post(openai::generations).layer(text_limit),
        )
        .route("/v1/images/edits", post(openai::edits))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{name}", get(openai::model))
        .route("/sdapi/v1/txt2img", post(a1111::txt2img).layer(text_limit))
        .route("/sdapi/v1/img2img", post(a1111::img2img))
        .route("/sdapi/v1/progress", get(a1111::progress))
        .route("/sdapi/v1/interrupt", post(a1111::interrupt))
        .route("/sdapi/v1/samplers", get(a1111::samplers))
        .route("/sdapi/v1/sd-models", get(a1111::sd_models))
        .route(
            "/sdapi/v1/options",
            get(a1111::options).post(a1111::set_options),
        )
        .merge(lists::routes())
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(server.clone(), with_key));
    let mut routes = keyed
        .route("/", get(page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/openapi.json", get(openapi))
        // Whoever knows the name has it from an answer.
        .route("/images/{name}", get(kept))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(
            server.clone(),
            of_own_origin,
        ))
        .layer(DefaultBodyLimit::max(limit))
        .layer(RequestBodyTimeoutLayer::new(SILENCE));
    if !server.origins.is_empty() {
        let cors = CorsLayer::new()
            .allow_origin(server.origins.clone())
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([AUTHORIZATION, CONTENT_TYPE]);
        routes = routes.layer(cors);
    }
    routes
        .layer(middleware::from_fn_with_state(server.clone(), counted))
        .with_state(server)
}

/// Counts the answers.
async fn counted(State(server): State<Server>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let route = path.map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    server
        .shared
        .metrics
        .answered(&route, response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The page, which asks nobody else for anything.
async fn page() -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                          img-src 'self' data: blob:; connect-src 'self'; form-action 'none'; \
                          frame-ancestors 'none'; base-uri 'none'";
    let headers = [(CONTENT_SECURITY_POLICY, POLICY)];
    (headers, Html(PAGE)).into_response()
}

/// That the server lives.
async fn healthz() -> &'static str {
    "ok\n"
}

/// That an image was made and more can be.
async fn readyz(State(server): State<Server>) -> (StatusCode, &'static str) {
    match server.shared.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn metrics(State(server): State<Server>) -> Result<Response, ApiError> {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = server.shared.metrics.text(server.shared.queue.len());
    let text = text.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

async fn openapi(State(server): State<Server>) -> Json<utoipa::openapi::OpenApi> {
    Json(description(server.key.is_some()))
}

/// The description of the API; `with_key` where requests must have one.
fn description(with_key: bool) -> utoipa::openapi::OpenApi {
    const KEY: &str = "key";
    let mut description = Description::openapi();
    description.merge(lists::Description::openapi());
    if with_key {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The key of the server; also as the password of any user",
            ));
        description
            .components
            .get_or_insert_default()
            .add_security_scheme(KEY, SecurityScheme::Http(bearer.build()));
        description.security = Some(vec![SecurityRequirement::new(KEY, [""; 0])]);
    }
    description
}

/// An image of an earlier answer.
async fn kept(
    State(server): State<Server>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let (format, file) = server.kept.get(&name).ok_or_else(ApiError::not_found)?;
    let headers = [
        (CONTENT_TYPE, format.media_type()),
        (CACHE_CONTROL, "private, max-age=3600"),
    ];
    Ok((headers, file).into_response())
}

async fn not_found() -> ApiError {
    ApiError::not_found()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_asks_for_the_key() {
        let json = |with_key| serde_json::to_value(description(with_key)).unwrap();
        let described = json(true);
        let scheme = &described["components"]["securitySchemes"]["key"];
        assert_eq!(
            (&scheme["type"], &scheme["scheme"]),
            (&"http".into(), &"bearer".into())
        );
        assert_eq!(described["security"], serde_json::json!([{ "key": [] }]));
        let open = json(false);
        assert!(open["security"].is_null() && open["components"]["securitySchemes"].is_null());
        assert!(open["paths"]["/sdapi/v1/upscalers"].is_object());
    }

    #[test]
    fn the_description_names_every_route() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let source = include_str!("mod.rs");
        let source = &source[..source.find("mod tests").unwrap()];
        let described = |path: &str| description["paths"][path].is_object();
        let mut routes = source
            .split('"')
            .filter(|text| text.starts_with("/v1/") || text.starts_with("/sdapi/"));
        assert!(routes.clone().count() > 10);
        assert_eq!(routes.find(|path| !described(path)), None);
        // Fields of a form are not nested.
        let form = description["components"]["schemas"]["EditForm"].to_string();
        assert!(
            form.contains("mask_feather") && !form.contains("\"request\""),
            "{form}"
        );
    }
}
