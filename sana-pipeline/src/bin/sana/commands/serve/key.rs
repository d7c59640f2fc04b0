//! The key that requests must have.

use std::fmt;

use axum::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;

/// A key, which is not printed.
#[derive(Clone)]
pub struct ApiKey(Vec<u8>);

impl ApiKey {
    pub fn new(key: &str) -> Self {
        Self(key.as_bytes().to_vec())
    }

    /// Whether these are the credentials of a request: the key as a bearer token, or as the password of
    /// any user.
    pub fn opens(&self, authorization: &HeaderValue) -> bool {
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
}
