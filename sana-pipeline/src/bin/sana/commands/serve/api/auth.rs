//! Who may call the server.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::Response;

use crate::commands::serve::error::ApiError;
use crate::commands::serve::state::Server;

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
    if server.is_local && !is_local(headers, &server.origins) {
        return Err(ApiError::other_host());
    }
    if let Some(origin) = headers.get(ORIGIN)
        && !server.origins.contains(origin)
        && !is_own(origin, headers)
    {
        return Err(ApiError::other_origin());
    }
    Ok(next.run(request).await)
}

/// Whether the request names this machine. A page of another name, which its owner has resolve to this
/// machine, would have an origin of its own here.
fn is_local(headers: &HeaderMap, origins: &[HeaderValue]) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || origins
            .iter()
            .any(|origin| authority(origin).as_ref() == Some(&host))
}

/// The host and the port of an origin.
fn authority(origin: &HeaderValue) -> Option<Authority> {
    origin
        .to_str()
        .ok()?
        .parse::<Uri>()
        .ok()?
        .into_parts()
        .authority
}

/// Whether an origin is that of the server, as the request names it.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (authority(origin), host) {
        (Some(origin), Some(host)) => origin.as_str().eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_this_machine() {
        let local = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            is_local(
                &headers,
                &[HeaderValue::from_static("https://friend.example")],
            )
        };
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "[::1]:80",
            "192.168.0.2",
            "friend.example",
        ] {
            assert!(local(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!local(host), "{host}");
        }
        assert!(!is_local(&HeaderMap::new(), &[]));
    }

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
