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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::generate::args::{GenerateArgs, ImageArgs, RecordedArgs};

    fn read_json<T: Args>(options: Value) -> Result<T, String> {
        let Value::Object(options) = options else {
            panic!("{options}")
        };
        read(&options)
    }

    #[test]
    fn definitions_are_consistent() {
        definition::<GenerateArgs>().debug_assert();
        definition::<RecordedArgs>().debug_assert();
        definition::<ImageArgs>().debug_assert();
    }

    #[test]
    fn they_survive_being_written_and_read() {
        let options: RecordedArgs = read_json(json!({
            "prompt": "-cat",
            "negative": "-dog",
            "seed": u64::MAX,
            "guidance": 4.5,
            "guidance-interval": "0.25..1",
            "pag": "2",
            "pag-layers": [1, 2],
            "apg": true,
            "apg-norm": "inf",
            "apg-momentum": -0.5,
            "solver": "flow-euler",
            "timesteps": "paper",
            "size": [96, 64],
            "bucket": true,
            "instruction": "repository",
            "control": "a b.png",
            "control-interval": "0..0.5",
            "control-from": "edges",
            "image": "x.png",
            "mask": "y.png",
            "mask-feather": 3,
            "model": "o/n",
            "device": "cuda:1",
            "dtype": "bf16",
            "lora": ["a:1", "b"],
            "lora-unmerged": true,
        }))
        .unwrap();
        check(&options).unwrap();
        assert_eq!(read(&by_name(&options)), Ok(options.clone()));
        let expected = "--negative=-dog --seed=18446744073709551615 --guidance=4.5 \
                        --solver=flow-euler --timesteps=paper --size=96x64 --bucket \
                        --instruction=repository --guidance-interval=0.25..1 --pag=2 \
                        --pag-layers=1,2 --apg --apg-norm=inf --apg-momentum=-0.5 --control='a b.png' \
                        --control-interval=0..0.5 --control-from=edges --image=x.png --mask=y.png \
                        --mask-feather=3 --model=o/n --device=cuda:1 --dtype=bf16 --lora=a:1 \
                        --lora=b:1 --lora-unmerged";
        assert_eq!(shell_words(&options, '='), expected);
        let written = recorded(&options);
        assert_eq!(written[0], ("prompt".to_owned(), "-cat".to_owned()));
        assert!(written.contains(&("apg".to_owned(), SET.to_owned())));
    }

    #[test]
    fn one_over_the_other() {
        let below = json!({
            "prompt": "below", "steps": 3, "lora": ["a", "b"], "instruction": "none", "apg": true,
            "apg-eta": 1, "size": 70, "bucket": true, "model": "o/n", "revision": "v1",
        });
        let below: RecordedArgs = read_json(below).unwrap();
        let over = |above: Value| -> RecordedArgs {
            let above: RecordedArgs = read_json(above).unwrap();
            above.or(below.clone())
        };
        let shown = |options: &RecordedArgs| shell_words(options, '=');
        let both = over(json!({"prompt": "above", "steps": 4}));
        assert_eq!(both.image.prompt(), "above");
        assert!(
            shown(&both).starts_with(
                "--steps=4 --size=70x70 --bucket --instruction=none --apg --apg-eta=1"
            )
        );
        assert_eq!(over(json!({})), below);
        // All of an option's occurrences make way for those above.
        let loras = shown(&over(json!({"lora": "c"})));
        assert!(
            loras.contains("--lora=c:1") && !loras.contains("--lora=a"),
            "{loras}"
        );
        // What excludes an option replaces it, and what says something about it goes with it.
        for (above, expected, gone) in [
            (
                json!({"no-instruction": true}),
                "--no-instruction",
                "--instruction",
            ),
            (json!({"aspect": "1:2"}), "--aspect=1:2", "--size"),
            (json!({"aspect": "1:2"}), "--aspect=1:2", "--bucket"),
            (json!({"size": 96}), "--size=96x96", "--bucket"),
            (json!({"model": "b"}), "--model=b", "--revision"),
        ] {
            let both = over(above);
            check(&both).unwrap();
            let both = shown(&both);
            assert!(both.contains(expected) && !both.contains(gone), "{both}");
        }
    }

    #[test]
    fn options_go_with_those_that_they_require() {
        let options: RecordedArgs = read_json(json!({
            "steps": 3, "apg": true, "apg-eta": 1, "apg-norm": 2, "size": 70, "bucket": true,
            "model": "o/n", "revision": "v1", "image": "a", "mask": "b", "mask-feather": 1,
            "control": "c", "control-scale": 1, "controlnet": "d", "lora": "e",
            "lora-unmerged": true,
        }))
        .unwrap();
        let left = |names: &[&str]| {
            let left = names.iter().fold(options.clone(), |options, name| {
                without(&options, name).unwrap()
            });
            shell_words(&left, '=')
        };
        let all = ["apg", "size", "model", "image", "control", "lora"];
        assert_eq!(left(&all), "--steps=3");
        let all_but_image = ["apg", "size", "model", "mask", "control", "lora"];
        assert_eq!(left(&all_but_image), "--steps=3 --image=a");
        assert_eq!(left(&["aspect", "lor"]), shell_words(&options, '='));
    }

    #[test]
    fn what_clap_refuses_is_refused_in_one_line() {
        let error = read_json::<ImageArgs>(json!({"solver": "ddim"})).unwrap_err();
        let expected = "invalid value 'ddim' for '--solver <SOLVER>' [possible values: flow-dpm, \
                        flow-euler, scm]";
        assert_eq!(error, expected);
        let error = read_json::<ImageArgs>(json!({"size": {}})).unwrap_err();
        assert_eq!(error, "\"size\" cannot be {}");
        // What an option requires may come from elsewhere.
        let alone: ImageArgs = read_json(json!({"apg-eta": 1})).unwrap();
        let error = check(&alone).unwrap_err();
        assert!(error.contains("--apg"), "{error}");
    }

    #[test]
    fn options_of_a_run_are_not_recorded() {
        let (image, recorded) = (names::<ImageArgs>(), names::<RecordedArgs>());
        let loaded = [
            "model",
            "revision",
            "transformer",
            "variant",
            "device",
            "dtype",
            "low-memory",
            "lora",
            "lora-unmerged",
            "controlnet",
        ];
        for key in loaded.map(str::to_owned) {
            assert!(recorded.contains(&key) && !image.contains(&key), "{key}");
        }
        let mut of_the_run = names::<GenerateArgs>();
        of_the_run.retain(|key| !recorded.contains(key));
        let expected = [
            "memory-limit",
            "ignore-memory",
            "threads",
            "widen-bf16",
            "out",
            "control-save",
            "prompts",
            "batch",
            "format",
            "grid",
            "grid-columns",
            "from-image",
            "without",
        ];
        assert_eq!(of_the_run, expected);
    }

    #[test]
    fn words_of_the_shell() {
        assert_eq!(quoted("96x64"), "96x64");
        assert_eq!(quoted("cuda:0"), "cuda:0");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(a) b"), "'$(a) b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
