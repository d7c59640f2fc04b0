//! The file of settings: profiles of options, and styles of prompts.

use std::collections::BTreeMap;
use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Error, bail};
use serde_json::{Map, Value};

/// Folder and file below that of the settings of all programs.
const FOLDER: &str = "sana";
const FILE: &str = "config.toml";
/// The folder of the files of wildcards, next to the file.
const WILDCARDS: &str = "wildcards";

/// The settings of a user.
#[derive(Debug, Default)]
pub struct Config {
    /// Options by profile.
    profiles: BTreeMap<String, Map<String, Value>>,
    styles: BTreeMap<String, Style>,
    /// Where it was read.
    path: PathBuf,
}

/// Templates of prompts, with `{prompt}` in the place of what is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Style {
    pub prompt: String,
    pub negative: Option<String>,
}

/// Where the file is: `XDG_CONFIG_HOME/sana/config.toml`, by default below `~/.config`. A relative
/// folder counts for nothing, as the specification of these folders says.
///
/// # Errors
/// When neither the variable nor a home folder is known.
pub fn path() -> anyhow::Result<PathBuf> {
    let set = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let set = set.filter(|folder| folder.is_absolute());
    let home = || env::home_dir().map(|home| home.join(".config"));
    let folder = set.or_else(home);
    let folder = folder.context(
        "there is no folder for settings: set XDG_CONFIG_HOME, or HOME, to an absolute path",
    )?;
    Ok(folder.join(FOLDER).join(FILE))
}

/// The folder of the files of wildcards, if it is there.
pub fn wildcards() -> Option<PathBuf> {
    let folder = path().ok()?.with_file_name(WILDCARDS);
    folder.is_dir().then_some(folder)
}

impl Config {
    /// Reads the file; one that is not there has nothing in it.
    ///
    /// # Errors
    /// When it cannot be read, or has something else than profiles and styles.
    pub fn read() -> anyhow::Result<Self> {
        let path = path()?;
        let text = match fs::read_to_string(&path) {
            Err(error) if is_absent(&error) => String::new(),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let mut config = Self::parse(&text).with_context(|| format!("{}", path.display()))?;
        config.path = path;
        Ok(config)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let all: BTreeMap<String, Value> = toml::from_str(text)
            .map_err(|error| Error::msg(error.to_string().trim_end().replace('\n', " ")))?;
        let mut config = Self::default();
        for (key, value) in all {
            let Value::Object(entries) = value else {
                bail!("{key}: {}", expected_sections(&key));
            };
            for (name, value) in entries {
                let place = || format!("{key}.{name}");
                match key.as_str() {
                    "profiles" => match value {
                        Value::Object(options) => {
                            config.profiles.insert(name, options);
                        }
                        _ => bail!("{}: expected options, as in steps = 20", place()),
                    },
                    "styles" => {
                        let style = style(value).map_err(Error::msg).with_context(place)?;
                        config.styles.insert(name, style);
                    }
                    _ => bail!("{key}: {}", expected_sections(&key)),
                }
            }
        }
        Ok(config)
    }

    /// The options of a profile.
    ///
    /// # Errors
    /// When nothing has this name.
    pub fn profile(&self, name: &str) -> Result<&Map<String, Value>, String> {
        let found = self.profiles.get(name);
        found.ok_or_else(|| self.absent("profile", name, self.profiles.keys()))
    }

    /// A style.
    ///
    /// # Errors
    /// When nothing has this name.
    pub fn style(&self, name: &str) -> Result<&Style, String> {
        let found = self.styles.get(name);
        found.ok_or_else(|| self.absent("style", name, self.styles.keys()))
    }

    /// Names and options of the profiles.
    pub fn profiles(&self) -> &BTreeMap<String, Map<String, Value>> {
        &self.profiles
    }

    /// Names and templates of the styles.
    pub fn styles(&self) -> &BTreeMap<String, Style> {
        &self.styles
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn absent<'a>(
        &self,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'a String> + Clone,
    ) -> String {
        let path = self.path.display();
        match nearest(name, known.map(String::as_str)) {
            None => format!("no {what} {name}: {path} has none"),
            Some(near) => format!("no {what} {name} in {path}; the nearest is {near}"),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn expected_sections(key: &str) -> String {
    let near = nearest(key, ["profiles", "styles"].into_iter()).unwrap_or_default();
    format!("expected [profiles.NAME] and [styles]; the nearest is {near}")
}

fn style(value: Value) -> Result<Style, String> {
    let text = |key: &str, value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(format!("{key} must be text in quotes, not {other}")),
    };
    match value {
        Value::String(prompt) => Ok(Style {
            prompt,
            negative: None,
        }),
        Value::Object(fields) => {
            let (mut prompt, mut negative) = (None, None);
            for (key, value) in fields {
                match key.as_str() {
                    "prompt" => prompt = Some(text(&key, value)?),
                    "negative" => negative = Some(text(&key, value)?),
                    _ => return Err(unknown(&key, ["prompt", "negative"].into_iter())),
                }
            }
            Ok(Style {
                prompt: prompt.unwrap_or_else(|| "{prompt}".to_owned()),
                negative,
            })
        }
        other => Err(format!("expected a template in quotes, not {other}")),
    }
}

/// That a key is not one of the known ones, and which is nearest.
pub fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = nearest(key, known).unwrap_or_default();
    format!("unknown key {key:?}; the nearest is {near:?}")
}

/// The nearest of the known names: by the letters that would have to be typed otherwise.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.min_by_key(|known| strsim::damerau_levenshtein(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says() {
        let config = Config::parse(
            "[profiles.fast]\nsteps = 14\nsize = [768, 512]\napg = true\n\
             [styles]\nink = 'ink, {prompt}'\n[styles.dark]\nnegative = 'light'\n",
        )
        .unwrap();
        let fast = config.profile("fast").unwrap();
        assert_eq!(fast["steps"], 14);
        assert_eq!(fast["size"], serde_json::json!([768, 512]));
        let dark = config.style("dark").unwrap();
        assert_eq!(dark.prompt, "{prompt}");
        assert_eq!(dark.negative.as_deref(), Some("light"));
        let error = config.profile("fst").unwrap_err();
        assert!(error.contains("the nearest is fast"), "{error}");
        let error = Config::default().profile("a").unwrap_err();
        assert!(error.contains("has none"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file() {
        for (text, expected) in [
            ("a = ", "line 1"),
            ("[profile.a]\nsteps = 1", "the nearest is profiles"),
            ("style = 'x'", "the nearest is styles"),
            ("[profiles]\na = 1", "profiles.a: expected options"),
            ("[styles]\na = 1", "styles.a"),
            ("[styles.a]\npromt = 'x'", "styles.a"),
            ("[styles.a]\nprompt = 2", "styles.a"),
        ] {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Config::parse("[styles.a]\npromt = 'x'").unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("unknown key \"promt\"; the nearest is \"prompt\""),
            "{error}"
        );
    }
}
