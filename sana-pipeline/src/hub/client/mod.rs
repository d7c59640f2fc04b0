//! The requests to the Hub.

mod http;

use std::io::Read;
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, RANGE};
use ureq::http::uri::{Authority, Scheme};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Proxy};

use self::http::{follow, is_plain, number, origin, printable, text};
use crate::hub::error::HubError;
use crate::hub::options::HubOptions;
use crate::hub::repo::HubRepo;

/// Redirects that are followed one after the other.
const REDIRECTS: usize = 8;
/// Largest list of files: those of the largest repositories have some megabytes.
const LARGEST_LIST: u64 = 64 << 20;

#[derive(Clone, Copy)]
enum Method {
    Get,
    Head,
}

/// A connection to a server.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    /// Scheme and host of the endpoint: the token goes nowhere else.
    home: (Scheme, Authority),
    authorization: Option<HeaderValue>,
}

/// What a server says about a file before it is downloaded.
pub(super) struct FileInfo {
    /// What names its content in the cache.
    pub etag: String,
    /// Its size, if the server reported it.
    pub size: Option<u64>,
}

/// The bytes of a file from somewhere on.
pub(super) struct Download {
    /// Where they start: at 0 when the server does not give parts of files.
    pub start: u64,
    pub reader: Box<dyn Read>,
}

impl Client {
    pub fn new(options: &HubOptions) -> Result<Self, HubError> {
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let unusable = || HubError::Endpoint {
            text: options.endpoint.clone(),
        };
        let url: Uri = endpoint.parse().map_err(|_| unusable())?;
        let home = origin(&url).ok_or_else(unusable)?;
        let authorization = match &options.token {
            Some(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {token}"));
                Some(value.map_err(|_| HubError::Token)?)
            }
            None => None,
        };
        let proxy = match options.proxy_from_env {
            true => Proxy::try_from_env(),
            false => None,
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            // For a stalled connection; a large file may take as long as it takes.
            .timeout_per_read(Some(Duration::from_secs(60)))
            .proxy(proxy)
            .user_agent(concat!("sana-rs/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self {
            agent,
            endpoint,
            home,
            authorization,
        })
    }

    /// Commit and files of a repository, as the server's JSON.
    pub fn list(&self, repo: &HubRepo) -> Result<(String, serde_json::Value), HubError> {
        let revision = repo.revision_in_url();
        let url = format!(
            "{}/api/models/{}/revision/{revision}?blobs=true",
            self.endpoint,
            repo.id()
        );
        let response = self.get(&url, None)?;
        if !response.status().is_success() {
            return Err(match self.refusal(repo, &url, &response) {
                HubError::Status { status: 404, .. } => HubError::NoSuchRepo {
                    repo: repo.id().to_owned(),
                    endpoint: self.endpoint.clone(),
                },
                other => other,
            });
        }
        let unusable = |reason: String| HubError::Answer {
            url: url.clone(),
            reason,
        };
        let mut json = Vec::new();
        let body = response.into_body().into_reader();
        body.take(LARGEST_LIST)
            .read_to_end(&mut json)
            .map_err(|error| unusable(error.to_string()))?;
        let json = serde_json::from_slice(&json)
            .map_err(|error| unusable(format!("no list of files: {error}")))?;
        Ok((url, json))
    }

    /// URL of a file at a commit.
    pub fn url(&self, repo: &HubRepo, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, repo.id())
    }

    /// Asks for the name and the size of a file's content.
    pub fn file_info(&self, repo: &HubRepo, commit: &str, url: &str) -> Result<FileInfo, HubError> {
        let mut next = self.parse(url)?;
        for _ in 0..=REDIRECTS {
            let response = self.send(Method::Head, &next, None)?;
            let headers = response.headers();
            // Large files are elsewhere; the redirect to them says what they are.
            let linked = text(headers, "x-linked-etag");
            let redirect = response.status().is_redirection();
            if redirect && linked.is_none() {
                next = follow(&next, headers)?;
                continue;
            }
            if !redirect && !response.status().is_success() {
                return Err(self.refusal(repo, url, &response));
            }
            let unusable = |reason: String| HubError::Answer {
                url: url.to_owned(),
                reason,
            };
            if let Some(found) = text(headers, "x-repo-commit").filter(|found| *found != commit) {
                return Err(unusable(format!(
                    "it is of commit {found:?}, not of {commit}"
                )));
            }
            let etag = linked.or_else(|| text(headers, ETAG.as_str()));
            let etag = etag.ok_or_else(|| unusable("it has no etag".to_owned()))?;
            let etag = etag.trim_start_matches("W/").trim_matches('"');
            if !is_plain(etag) {
                return Err(unusable(format!("its etag is {etag:?}")));
            }
            let size = match redirect {
                true => number(headers, "x-linked-size"),
                false => number(headers, "x-linked-size")
                    .or_else(|| number(headers, CONTENT_LENGTH.as_str())),
            };
            return Ok(FileInfo {
                etag: etag.to_owned(),
                size,
            });
        }
        Err(too_many_redirects(url))
    }

    /// Starts the download of a file of `size` bytes at `start`.
    pub fn download(
        &self,
        repo: &HubRepo,
        url: &str,
        start: u64,
        size: u64,
    ) -> Result<Download, HubError> {
        let response = self.get(url, (start > 0).then_some(start))?;
        let status = response.status().as_u16();
        if status == 416 && start > 0 {
            // What is there already is not of this file: from the beginning.
            return self.download(repo, url, 0, size);
        }
        if !response.status().is_success() {
            return Err(self.refusal(repo, url, &response));
        }
        let start = if status == 206 {
            let range = text(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
            if !range.starts_with(&format!("bytes {start}-"))
                || !range.ends_with(&format!("/{size}"))
            {
                return Err(HubError::Answer {
                    url: url.to_owned(),
                    reason: format!(
                        "it has the range {range:?} where {start} on of {size} bytes was asked for"
                    ),
                });
            }
            start
        } else {
            0
        };
        Ok(Download {
            start,
            reader: Box::new(response.into_body().into_reader()),
        })
    }

    fn get(&self, url: &str, start: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut next = self.parse(url)?;
        for _ in 0..=REDIRECTS {
            let response = self.send(Method::Get, &next, start)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            next = follow(&next, response.headers())?;
        }
        Err(too_many_redirects(url))
    }

    fn send(
        &self,
        method: Method,
        url: &Uri,
        start: Option<u64>,
    ) -> Result<Response<Body>, HubError> {
        let mut request = match method {
            Method::Get => self.agent.get(url),
            Method::Head => self.agent.head(url),
        };
        if let (Some(value), true) = (
            &self.authorization,
            origin(url).as_ref() == Some(&self.home),
        ) {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(start) = start {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
                HubError::Answer {
                    url: url.to_string(),
                    reason: error.to_string(),
                }
            }
            other => HubError::Unreachable {
                host: url.host().unwrap_or_default().to_owned(),
                reason: match other {
                    ureq::Error::Io(error) => error.to_string(),
                    other => other.to_string(),
                },
            },
        })
    }

    fn parse(&self, url: &str) -> Result<Uri, HubError> {
        url.parse().map_err(|_| HubError::Endpoint {
            text: self.endpoint.clone(),
        })
    }

    /// Why a request was refused. The Hub answers with 401 where there is no repository, so that
    /// nobody can find out the names of private ones; a header says what it means.
    fn refusal(&self, repo: &HubRepo, url: &str, response: &Response<Body>) -> HubError {
        let headers = response.headers();
        let status = response.status().as_u16();
        let message = text(headers, "x-error-message").unwrap_or_default();
        let message = printable(message);
        let (id, endpoint) = (repo.id().to_owned(), self.endpoint.clone());
        match (text(headers, "x-error-code").unwrap_or_default(), status) {
            ("RevisionNotFound", _) => HubError::NoSuchRevision {
                repo: id,
                revision: repo.revision_name().to_owned(),
            },
            ("RepoNotFound", _) => HubError::NoSuchRepo { repo: id, endpoint },
            ("GatedRepo", _) | (_, 401 | 403) => HubError::Denied {
                repo: id,
                endpoint,
                status,
                message,
            },
            _ => HubError::Status {
                url: url.to_owned(),
                status,
                message,
            },
        }
    }
}

fn too_many_redirects(url: &str) -> HubError {
    HubError::Answer {
        url: url.to_owned(),
        reason: format!("it is redirected more than {REDIRECTS} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_tokens_that_cannot_be() {
        let new = |endpoint: &str, token: Option<&str>| {
            Client::new(&HubOptions {
                endpoint: endpoint.to_owned(),
                token: token.map(str::to_owned),
                ..HubOptions::new("cache")
            })
            .err()
        };
        for wrong in ["", "huggingface.co", "ftp://a", "https://", "http://a b"] {
            let error = new(wrong, None).unwrap();
            assert!(matches!(error, HubError::Endpoint { .. }), "{wrong}");
            assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
        }
        let error = new("https://a", Some("a\nb")).unwrap();
        assert!(error.to_string().contains("HF_TOKEN"), "{error}");
        assert!(new("https://a/", Some("hf_a")).is_none());
    }
}
