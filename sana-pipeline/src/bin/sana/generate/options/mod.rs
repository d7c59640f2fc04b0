//! Options as text by name: what an image records, and what a line of a prompt file says. clap reads
//! them as if they had been typed, so its definitions alone say which options there are, which
//! values they take and which of them go together.

use clap::builder::ArgAction;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command};
use serde::Serialize;
use serde_json::{Map, Value};

/// What a recorded option without a value has as its value.
pub const SET: &str = "yes";

/// The options of `T` as clap knows them.
pub fn definition<T: Args>() -> Command {
    T::augment_args(Command::new("sana generate").no_binary_name(true))
}

/// The names of the options of `T`, without dashes.
pub fn names<T: Args>() -> Vec<String> {
    let definition = definition::<T>();
    definition.get_arguments().map(name).collect()
}

/// Whether `T` has an option of this name that takes no value.
pub fn is_flag<T: Args>(wanted: &str) -> bool {
    let definition = definition::<T>();
    let mut arguments = definition.get_arguments();
    arguments.any(|argument| name(argument) == wanted && !argument.get_action().takes_values())
}

/// The options that are given, by name.
pub fn by_name<T: Serialize>(options: &T) -> Map<String, Value> {
    let Ok(Value::Object(mut map)) = serde_json::to_value(options) else {
        return Map::new();
    };
    map.retain(|_, value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(values) => !values.is_empty(),
        _ => true,
    });
    map
}

/// Reads options by name; other names are ignored. Whether an option comes with those that it
/// requires is left to [`check`], since these may come from elsewhere.
///
/// # Errors
/// When a value is not one of its option, or two options exclude each other.
pub fn read<T: Args>(options: &Map<String, Value>) -> Result<T, String> {
    let definition = definition::<T>();
    let words = words(&definition, options)?;
    let matches = match definition.clone().try_get_matches_from(&words) {
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            definition.ignore_errors(true).try_get_matches_from(words)
        }
        matches => matches,
    };
    matches
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| one_line(&error))
}

/// Checks options that come from several places as if they had been typed together.
///
/// # Errors
/// When one of them lacks what it requires.
pub fn check<T: Args + Serialize>(options: &T) -> Result<(), String> {
    check_named(&mut definition::<T>(), &by_name(options))
}

fn check_named(definition: &mut Command, options: &Map<String, Value>) -> Result<(), String> {
    let words = words(definition, options)?;
    let matches = definition.try_get_matches_from_mut(words);
    matches.map(drop).map_err(|error| one_line(&error))
}

/// The options without one of them and those that require it: without `apg` also without `apg-eta`.
///
/// # Errors
/// None for options that were checked.
pub fn without<T: Args + Serialize>(options: &T, name: &str) -> Result<T, String> {
    let mut definition = definition::<T>();
    let (mut left, mut kept) = (by_name(options), Map::new());
    left.remove(name);
    loop {
        let before = kept.len();
        left.retain(|key, value| {
            kept.insert(key.clone(), value.clone());
            let stays = check_named(&mut definition, &kept).is_ok();
            if !stays {
                kept.remove(key);
            }
            !stays
        });
        if kept.len() == before {
            return read(&kept);
        }
    }
}

/// Names and values as an image records them, in the order of the help.
pub fn recorded<T: Args + Serialize>(options: &T) -> Vec<(String, String)> {
    let given = given(&definition::<T>(), &by_name(options)).unwrap_or_default();
    let recorded = |(name, value): (String, Option<String>)| {
        let value = value.unwrap_or_else(|| SET.to_owned());
        (name, value)
    };
    given.into_iter().map(recorded).collect()
}

/// The options as words of a shell, without the prompt; `between` separates name and value.
pub fn shell_words<T: Args + Serialize>(options: &T, between: char) -> String {
    let given = given(&definition::<T>(), &by_name(options)).unwrap_or_default();
    let named = given.iter().filter(|(name, _)| name != PROMPT);
    let words: Vec<String> = named
        .map(|(name, value)| match value {
            None => format!("--{name}"),
            // As a word of its own it would be taken for an option.
            Some(value) if value.starts_with('-') => format!("--{name}={}", quoted(value)),
            Some(value) => format!("--{name}{between}{}", quoted(value)),
        })
        .collect();
    words.join(" ")
}

/// Options by name as they would be typed, whatever they are of; what is `false` is not.
pub fn typed(options: &Map<String, Value>) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let given = options
        .iter()
        .filter(|(_, value)| **value != Value::Bool(false));
    let words = given.map(|(name, option)| {
        let name = name.replace('_', "-");
        match option {
            Value::Bool(_) => format!("--{name}"),
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(value).collect();
                format!("--{name} {}", quoted(&values.join(separator(&name))))
            }
            option => format!("--{name} {}", quoted(&value(option))),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// As one word of a POSIX shell.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:,=+-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The name of the only argument that is given without one.
const PROMPT: &str = "prompt";

fn name(argument: &Arg) -> String {
    let id = argument.get_id().as_str();
    argument.get_long().unwrap_or(id).to_owned()
}

/// Names and values in the order of the definition, `None` for an option without a value.
fn given(
    definition: &Command,
    options: &Map<String, Value>,
) -> Result<Vec<(String, Option<String>)>, String> {
    let mut given = Vec::new();
    for argument in definition.get_arguments() {
        let name = name(argument);
        match options.get(&name) {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Bool(true)) => given.push((name, None)),
            Some(Value::Array(values)) => {
                let values: Vec<String> = values
                    .iter()
                    .map(|value| text(&name, value))
                    .collect::<Result<_, _>>()?;
                match argument.get_action() {
                    ArgAction::Append if argument.get_value_delimiter().is_none() => {
                        given.extend(values.into_iter().map(|value| (name.clone(), Some(value))));
                    }
                    _ => {
                        let joined = values.join(separator(&name));
                        given.push((name, Some(joined)));
                    }
                }
            }
            Some(value) => {
                let value = text(&name, value)?;
                given.push((name, Some(value)));
            }
        }
    }
    Ok(given)
}

/// What separates the numbers of a value.
fn separator(name: &str) -> &'static str {
    match name {
        "size" => "x",
        "aspect" => ":",
        _ => ",",
    }
}

fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{name:?} cannot be {other}")),
    }
}

/// The options as they are typed.
fn words(definition: &Command, options: &Map<String, Value>) -> Result<Vec<String>, String> {
    let (mut words, mut prompt) = (Vec::new(), None);
    for (name, value) in given(definition, options)? {
        match value {
            Some(value) if name == PROMPT => prompt = Some(value),
            Some(value) => words.push(format!("--{name}={value}")),
            None => words.push(format!("--{name}")),
        }
    }
    if let Some(prompt) = prompt {
        words.extend(["--".to_owned(), prompt]);
    }
    Ok(words)
}

/// What clap says, in one line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or_default();
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
