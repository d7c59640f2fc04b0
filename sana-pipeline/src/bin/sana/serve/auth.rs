//! Who may call the server.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::Response;

use super::error::ApiError;
use super::state::Server;

/// Lets requests with the key through.
pub async fn with_key(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(key) = &server.key {
        let given = request.headers().get(AUTHORIZATION);
        if !given.is_some_and(|given| key.opens(given)) {
            return Err(ApiError::no_key());
        }
    }
    Ok(next.run(request).await)
}

/// Refuses what a web page of another origin sends through a browser, unless its origin is allowed: a
/// browser sends simple requests without asking the server first.
pub async fn of_own_origin(
    State(server): State<Server>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    if let Some(origin) = headers.get(ORIGIN)
        && !server.origins.contains(origin)
        && !is_own(origin, headers)
    {
        return Err(ApiError::other_origin());
    }
    Ok(next.run(request).await)
}

/// Whether an origin is that of the server, as the request names it.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let origin = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(origin), Some(host)) => origin.as_str().eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_of_other_hosts() {
        let own = |origin: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            is_own(&HeaderValue::from_str(origin).unwrap(), &headers)
        };
        assert!(own("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(own("https://Images.example", "images.example"));
        assert!(!own("http://evil.example", "127.0.0.1:8080"));
        assert!(!own("http://127.0.0.1:8081", "127.0.0.1:8080"));
        assert!(!own("null", "127.0.0.1:8080"));
    }
}
