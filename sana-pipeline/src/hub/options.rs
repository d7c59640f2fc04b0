//! Where the Hub and its cache are, and with which token.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::HubError;

/// The server, where the environment names none.
const ENDPOINT: &str = "https://huggingface.co";

/// How to reach the Hub.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// URL of the server.
    pub endpoint: String,
    /// Access token, for gated and private repositories. It is sent to the endpoint alone, not to
    /// the hosts that it forwards to.
    pub token: Option<String>,
    /// Folder of the cache, in the layout that is shared with other programs.
    pub cache: PathBuf,
    /// Whether only what is in the cache is used.
    pub offline: bool,
    /// Whether files that are in the cache are read and compared with their hashes; damaged ones are
    /// downloaded again. What is downloaded is always compared.
    pub verify: bool,
    /// Whether the proxy that `ALL_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY` names is used, except for
    /// the hosts of `NO_PROXY`.
    pub proxy_from_env: bool,
}

impl HubOptions {
    /// The public server, no token, no proxy.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: ENDPOINT.to_owned(),
            token: None,
            cache: cache.into(),
            offline: false,
            verify: false,
            proxy_from_env: false,
        }
    }

    /// As the environment says, with the variables that other programs for the Hub follow:
    ///
    /// | | variables, the first that is set |
    /// |---|---|
    /// | endpoint | `HF_ENDPOINT`, else `https://huggingface.co` |
    /// | token | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, the file `HF_TOKEN_PATH`, the file `HF_HOME/token` |
    /// | cache | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME/hub` |
    /// | offline | `HF_HUB_OFFLINE`: `1`, `on`, `yes` or `true` |
    ///
    /// `HF_HOME` is `XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface` where it is not set.
    ///
    /// # Errors
    /// [`HubError::NoHome`] when no folder for the cache follows from these.
    pub fn from_env() -> Result<Self, HubError> {
        let options = Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())?;
        Ok(Self {
            proxy_from_env: true,
            ..options
        })
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let folder = |name: &str| set(name).map(|path| expanded(path.into(), home.as_deref()));
        let text = |name: &str| {
            let value = set(name)?.into_string().ok()?;
            let value = value.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let hub_home = folder("HF_HOME").or_else(|| {
            let cache = folder("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
            Some(cache?.join("huggingface"))
        });
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hub_home.as_ref()?.join("hub")))
            .ok_or(HubError::NoHome)?;
        let token_file = || {
            let path =
                folder("HF_TOKEN_PATH").or_else(|| Some(hub_home.as_ref()?.join("token")))?;
            let token = std::fs::read_to_string(path).ok()?;
            let token = token.trim();
            (!token.is_empty()).then(|| token.to_owned())
        };
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(token_file);
        let offline = text("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
        });
        Ok(Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()),
            token,
            offline,
            ..Self::new(cache)
        })
    }
}

/// With the home folder in place of a `~` at the beginning.
fn expanded(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

impl fmt::Debug for HubOptions {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("verify", &self.verify)
            .field("proxy_from_env", &self.proxy_from_env)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], home: Option<&str>) -> Result<HubOptions, HubError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        HubOptions::from_variables(variable, home.map(PathBuf::from))
    }

    #[test]
    fn the_defaults_are_those_of_other_programs() {
        let options = read(&[], Some("/home/a")).unwrap();
        assert_eq!(
            options,
            HubOptions::new("/home/a/.cache/huggingface/hub"),
            "{options:?}"
        );
        assert_eq!(options.endpoint, "https://huggingface.co");
        assert!(matches!(read(&[], None), Err(HubError::NoHome)));
        assert!(read(&[("HF_HOME", "/x")], None).is_ok());
    }

    #[test]
    fn the_cache_follows_the_first_variable_that_is_set() {
        let cache = |variables: &[(&str, &str)]| read(variables, Some("/home/a")).unwrap().cache;
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        let home = ("HF_HOME", "~/hf");
        let old = ("HUGGINGFACE_HUB_CACHE", "/old");
        let new = ("HF_HUB_CACHE", "/new");
        assert_eq!(cache(&[xdg]), Path::new("/xdg/huggingface/hub"));
        assert_eq!(cache(&[xdg, home]), Path::new("/home/a/hf/hub"));
        assert_eq!(cache(&[xdg, home, old]), Path::new("/old"));
        assert_eq!(cache(&[xdg, home, old, new]), Path::new("/new"));
        let empty = ("HF_HUB_CACHE", "");
        assert_eq!(cache(&[old, empty]), Path::new("/old"));
    }

    #[test]
    fn the_token_is_that_of_the_environment_or_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| {
            let variables = [&[("HF_HOME", home)], variables].concat();
            read(&variables, None).unwrap().token
        };
        assert_eq!(token(&[]), None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        std::fs::write(folder.path().join("other"), " \n").unwrap();
        assert_eq!(token(&[]).unwrap(), "hf_file");
        let other = folder.path().join("other");
        assert_eq!(token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]), None);
        assert_eq!(
            token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).unwrap(),
            "hf_old"
        );
        let both = [
            ("HUGGING_FACE_HUB_TOKEN", "hf_old"),
            ("HF_TOKEN", " hf_new "),
        ];
        assert_eq!(token(&both).unwrap(), "hf_new");
        let options = read(&both, Some("/home/a")).unwrap();
        assert!(!format!("{options:?}").contains("hf_"), "{options:?}");
    }

    #[test]
    fn offline_and_endpoint() {
        let offline = |value| {
            read(&[("HF_HUB_OFFLINE", value)], Some("/a"))
                .unwrap()
                .offline
        };
        for value in ["1", "TRUE", "yes", "On"] {
            assert!(offline(value), "{value}");
        }
        for value in ["", "0", "false", "no"] {
            assert!(!offline(value), "{value}");
        }
        let options = read(&[("HF_ENDPOINT", "http://mirror ")], Some("/a")).unwrap();
        assert_eq!(options.endpoint, "http://mirror");
    }
}
