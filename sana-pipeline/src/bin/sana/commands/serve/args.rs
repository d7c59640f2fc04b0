//! Options of `sana serve`.

use std::env::VarError;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use axum::http::{HeaderValue, Uri};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use sana_pipeline::image::LARGEST_PIXELS;

use crate::args::{Bytes, LoraArgs, ModelArgs, ResourceArgs, positive};
use crate::generate::profile;

use super::key::ApiKey;

const EXAMPLES: &str = "\
Examples:
  sana serve
  sana serve --model Sana_1600M_1024px_BF16_diffusers --device cuda:0 --port 8000
  SANA_API_KEY=secret sana serve --host 0.0.0.0
  curl http://127.0.0.1:8080/v1/images/generations -H 'Content-Type: application/json' \\
    -d '{\"prompt\": \"a red circle\", \"seed\": 0}'

The page is at http://127.0.0.1:8080/, the description of the API at /openapi.json.";

/// Serve images over HTTP, by the APIs of OpenAI and of AUTOMATIC1111's web UI, with a page
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    pub listen: ListenArgs,
    #[command(flatten)]
    pub limits: Limits,
    /// Options of model, LoRAs and resources that the file of settings keeps under this name, for what
    /// is not given here; `sana config path` prints where the file is
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Decode all previews, which is sharp and costs a decode each [default: those of up to 64
    /// latents; for others the colours of latents are shown]
    #[arg(long, help_heading = "Server")]
    pub decode_previews: bool,
    /// Leave out of images the mark that a model made them, as for generate
    #[arg(long, help_heading = "Server")]
    pub no_mark: bool,
}

impl ServeArgs {
    /// The options of the profile that was asked for, in place of those that are not given.
    ///
    /// # Errors
    /// When there is no such profile, or it has something else than options and their values.
    pub fn complete(mut self) -> anyhow::Result<Self> {
        if let Some(name) = self.profile.take() {
            let below = profile::named(&name)?;
            let loaded = below.recorded.loaded;
            self.model = self.model.or(loaded.model);
            self.lora = self.lora.or(loaded.lora);
            self.resources = self.resources.or(below.resources);
        }
        Ok(self)
    }
}

/// Where the server listens, and who may use it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct ListenArgs {
    /// Address to listen on; any but this machine's own needs an API key
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 is any free one, which is printed
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// File with the API key that requests must have; without it, the variable SANA_API_KEY
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen on other addresses without an API key, for example behind a proxy that asks for one
    #[arg(long)]
    without_key: bool,
    /// Origin of web pages that may call the server from a browser, such as `https://example.org`
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub allow_origin: Vec<HeaderValue>,
}

/// What a request may ask for, and how many may wait.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Server")]
pub struct Limits {
    /// Requests that wait, at most; more are refused with status 429
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive())]
    pub queue: usize,
    /// Images that are made at a time, of requests with equal settings
    #[arg(long, value_name = "N", default_value = "4", value_parser = positive())]
    pub max_batch: usize,
    /// Images of a request, at most
    #[arg(long, value_name = "N", default_value = "10", value_parser = positive())]
    pub max_images: usize,
    /// Steps of a request, at most
    #[arg(long, value_name = "N", default_value = "100", value_parser = positive())]
    pub max_steps: usize,
    /// Pixels of an image, at most [default: twice as many as the model was trained at]
    #[arg(long, value_name = "N", value_parser = pixels())]
    pub max_pixels: Option<usize>,
    /// Size of the body of a request, at most
    #[arg(long, value_name = "SIZE", default_value = "32MB")]
    pub max_body: Bytes,
}

impl ListenArgs {
    /// The address, and the key that requests must have.
    ///
    /// # Errors
    /// When the key cannot be read, or is missing and others can reach the address.
    pub fn open(&self) -> anyhow::Result<(SocketAddr, Option<ApiKey>)> {
        let key = match &self.api_key_file {
            Some(path) => Some(
                fs::read_to_string(path)
                    .with_context(|| format!("cannot read the API key in {}", path.display()))?,
            ),
            None => match std::env::var("SANA_API_KEY") {
                Ok(key) => Some(key),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => bail!("the API key in SANA_API_KEY is not text"),
            },
        };
        let key = match key.as_deref().map(str::trim) {
            Some("") => bail!("the API key is empty"),
            Some(key) if !key.chars().all(|c| c.is_ascii_graphic()) => {
                bail!("the API key has spaces, several lines or other characters than ASCII")
            }
            key => key.map(ApiKey::new),
        };
        if key.is_none() && !self.host.is_loopback() && !self.without_key {
            bail!(
                "anyone who reaches {} could use the server: give a key with --api-key-file or the \
                 variable SANA_API_KEY, or say --without-key",
                self.host
            );
        }
        Ok((SocketAddr::new(self.host, self.port), key))
    }
}

fn pixels() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=LARGEST_PIXELS)
}

/// An origin as browsers send it: a scheme and a host, and perhaps a port.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let expected =
        || "expected an origin such as https://example.org or http://host:8000".to_owned();
    let uri: Uri = text.parse().map_err(|_| expected())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(expected());
    };
    let whole = format!("{scheme}://{authority}").to_ascii_lowercase();
    match text.to_ascii_lowercase() == whole && !text.contains(['*', '@']) {
        true => HeaderValue::from_str(&whole).map_err(|_| expected()),
        false => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        listen: ListenArgs,
    }

    fn open(options: &[&str]) -> anyhow::Result<(SocketAddr, Option<ApiKey>)> {
        Command::parse_from([&["serve"], options].concat())
            .listen
            .open()
    }

    #[test]
    fn limits_of_large_models() {
        #[derive(Parser)]
        struct Command {
            #[command(flatten)]
            limits: Limits,
        }
        let limits = |pixels| Command::try_parse_from(["serve", "--max-pixels", pixels]);
        let found = limits("16777216").unwrap().limits.max_pixels;
        assert_eq!(found, Some(4096 * 4096));
        for pixels in ["0", "67108865"] {
            assert!(limits(pixels).is_err(), "{pixels}");
        }
    }

    #[test]
    fn origins_as_browsers_send_them() {
        assert_eq!(
            origin("https://Example.org").unwrap(),
            "https://example.org"
        );
        assert_eq!(origin("http://[::1]:8000").unwrap(), "http://[::1]:8000");
        for text in [
            "*",
            "https://*",
            "example.org",
            "https://a/",
            "https://a/b",
            "https://a@b",
            "null",
            "",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_addresses_need_a_key() {
        assert_eq!(open(&[]).unwrap().0, "127.0.0.1:8080".parse().unwrap());
        assert!(open(&["--host", "::1"]).is_ok());
        let error = open(&["--host", "0.0.0.0"]).unwrap_err().to_string();
        assert!(error.contains("--api-key-file"), "{error}");
        assert!(open(&["--host", "0.0.0.0", "--without-key"]).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let options = [
            "--host",
            "0.0.0.0",
            "--api-key-file",
            path.to_str().unwrap(),
        ];
        assert!(
            open(&options)
                .unwrap_err()
                .to_string()
                .contains("cannot read")
        );
        for (text, ok) in [
            ("secret\n", true),
            (" \n", false),
            ("a b", false),
            ("ä", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(open(&options).is_ok(), ok, "{text:?}");
        }
    }
}
