//! The key that requests must have.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::state::Server;

/// A key, which is not printed.
#[derive(Clone)]
pub struct ApiKey(Vec<u8>);

impl ApiKey {
    pub fn new(key: &str) -> Self {
        Self(key.as_bytes().to_vec())
    }

    /// Whether these are the credentials of a request: the key as a bearer token, or as the password of
    /// any user.
    fn opens(&self, authorization: &HeaderValue) -> bool {
        let header = authorization.as_bytes();
        let Some(space) = header.iter().position(|byte| *byte == b' ') else {
            return false;
        };
        let (scheme, value) = header.split_at(space);
        let value = value.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.equals(value);
        }
        if scheme.eq_ignore_ascii_case(b"basic") {
            let Ok(pair) = BASE64_STANDARD.decode(value) else {
                return false;
            };
            let colon = pair.iter().position(|byte| *byte == b':');
            return colon.is_some_and(|colon| self.equals(&pair[colon + 1..]));
        }
        false
    }

    /// In a time that does not depend on how much of the key is right.
    fn equals(&self, given: &[u8]) -> bool {
        self.0.ct_eq(given).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

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
    fn the_key_as_token_and_as_password() {
        let key = ApiKey::new("secret");
        let opens = |text: &str| key.opens(&HeaderValue::from_str(text).unwrap());
        assert!(opens("Bearer secret"));
        assert!(opens("bearer  secret"));
        assert!(opens(&format!(
            "Basic {}",
            BASE64_STANDARD.encode("me:secret")
        )));
        for text in [
            "secret",
            "Bearer",
            "Bearer secre",
            "Bearer secrets",
            "Token secret",
        ] {
            assert!(!opens(text), "{text}");
        }
        for pair in ["me:wrong", "secret", "secret:"] {
            assert!(
                !opens(&format!("Basic {}", BASE64_STANDARD.encode(pair))),
                "{pair}"
            );
        }
        assert!(!opens("Basic ???"));
        assert_eq!(format!("{key:?}"), "ApiKey");
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
