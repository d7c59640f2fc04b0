//! One prompt of a file.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::generate::args::ImageArgs;
use crate::generate::options;

/// A prompt of a file and what the file says about its images.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it begins, from 1.
    pub line: usize,
    /// The prompt and its own options.
    pub args: ImageArgs,
    /// What its files are to be called.
    pub name: Option<String>,
    /// Options that it does without, whatever the command line says: those that are `false`.
    pub left_out: Vec<String>,
}

impl Entry {
    /// The entry that begins at `line` and has these keys and values.
    ///
    /// # Errors
    /// When they are not a prompt and its options: what is wrong with them.
    pub fn new(line: usize, fields: Vec<(String, Value)>) -> Result<Self, String> {
        let known = options::names::<ImageArgs>();
        let (mut name, mut left_out) = (None, Vec::new());
        let mut given = Map::new();
        for (index, (key, value)) in fields.iter().enumerate() {
            let key = key.replace('_', "-");
            let mut before = fields[..index].iter().map(|(key, _)| key.replace('_', "-"));
            if before.any(|before| before == key) {
                return Err(format!("{key:?} occurs twice"));
            }
            if key != "name" && !known.contains(&key) {
                return Err(format!(
                    "unknown key {key:?}, known are name, {}",
                    known.join(", ")
                ));
            }
            match (key.as_str(), value) {
                ("prompt", value) => {
                    let prompt = string(&key, value)?;
                    given.insert(key, prompt.into());
                }
                (_, Value::Null) => {}
                ("name", value) => name = Some(string(&key, value)?),
                (_, Value::Bool(false)) => left_out.push(key),
                _ => {
                    check_characters(&key, value)?;
                    given.insert(key, value.clone());
                }
            }
        }
        let args =
            ImageArgs::deserialize(Value::Object(given)).map_err(|error| error.to_string())?;
        let prompt = args.prompt.as_ref().ok_or("no \"prompt\"")?;
        if prompt.trim().is_empty() {
            return Err("the prompt is empty: describe the image".to_owned());
        }
        Ok(Self {
            line,
            args,
            name,
            left_out,
        })
    }
}

fn string(key: &str, value: &Value) -> Result<String, String> {
    check_characters(key, value)?;
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("{key:?} must be text in quotes, not {other}")),
    }
}

/// Refuses what could steer a terminal; a prompt may have several lines.
fn check_characters(key: &str, value: &Value) -> Result<(), String> {
    let prose = ["prompt", "negative"].contains(&key);
    let wrong = |c: char| c.is_control() && !(prose && "\n\r\t".contains(c));
    match value {
        Value::String(text) if text.contains(wrong) => {
            Err(format!("{key:?} holds control characters"))
        }
        Value::Array(values) => values
            .iter()
            .try_for_each(|value| check_characters(key, value)),
        _ => Ok(()),
    }
}
