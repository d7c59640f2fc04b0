//! What a server's headers say, as far as it is believed.

use ureq::http::Uri;
use ureq::http::header::{HeaderMap, LOCATION};
use ureq::http::uri::{Authority, PathAndQuery, Scheme};

use crate::hub::error::HubError;

/// Longest message of a server that is passed on.
const LONGEST_MESSAGE: usize = 300;

/// Scheme and host with port of an HTTP URL.
pub(super) fn origin(url: &Uri) -> Option<(Scheme, Authority)> {
    let scheme = url.scheme()?;
    let http = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    http.then_some(())?;
    Some((scheme.clone(), url.authority()?.clone()))
}

/// Where a redirect leads: a URL, or a path on the same host. Never from HTTPS to HTTP.
pub(super) fn follow(url: &Uri, headers: &HeaderMap) -> Result<Uri, HubError> {
    let unusable = |reason: String| HubError::Answer {
        url: url.to_string(),
        reason,
    };
    let location = text(headers, LOCATION.as_str())
        .ok_or_else(|| unusable("it is a redirect to nowhere".to_owned()))?;
    let next = match location.parse::<Uri>() {
        Ok(next) if next.host().is_some() => Some(next),
        _ if location.starts_with('/') && !location.starts_with("//") => {
            let mut parts = url.clone().into_parts();
            parts.path_and_query = location.parse::<PathAndQuery>().ok();
            parts
                .path_and_query
                .is_some()
                .then_some(())
                .and_then(|()| Uri::from_parts(parts).ok())
        }
        _ => None,
    };
    let next = next.filter(|next| match origin(next) {
        Some((scheme, _)) => scheme == Scheme::HTTPS || url.scheme() == Some(&Scheme::HTTP),
        None => false,
    });
    next.ok_or_else(|| unusable(format!("it is a redirect to {:?}", printable(location))))
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// Whether a text of the server can be the name of a file.
pub(super) fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (1..=200).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('.')
}

/// What a terminal can show of a server's text.
pub(super) fn printable(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control());
    shown.take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use ureq::http::header::HeaderValue;

    use super::*;

    fn redirect(from: &str, to: &str) -> Result<String, HubError> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(to).unwrap());
        follow(&from.parse().unwrap(), &headers).map(|url| url.to_string())
    }

    #[test]
    fn redirects_stay_in_http_and_are_not_weakened() {
        let from = "https://a:1/x?y";
        assert_eq!(redirect(from, "/z?q").unwrap(), "https://a:1/z?q");
        assert_eq!(redirect(from, "https://b/z").unwrap(), "https://b/z");
        for wrong in [
            "http://a:1/x",
            "//b/z",
            "z",
            "",
            "file:///etc/passwd",
            "ftp://b/z",
        ] {
            let error = redirect(from, wrong).unwrap_err();
            assert!(matches!(error, HubError::Answer { .. }), "{wrong}: {error}");
        }
        assert_eq!(redirect("http://a/x", "http://b/z").unwrap(), "http://b/z");
        assert!(follow(&from.parse().unwrap(), &HeaderMap::new()).is_err());
    }

    #[test]
    fn names_of_content() {
        assert!(is_plain("5d41402abc4b2a76b9719d911017c592"));
        for wrong in ["", ".", "..", "a/b", r"a\b", "a:b", "a b", &"a".repeat(201)] {
            assert!(!is_plain(wrong), "{wrong}");
        }
    }
}
