//! `--profile`: options that are kept under a name.

mod file;

use anyhow::{Context, Error, bail};
use serde_json::{Map, Value};

use super::args::{GenerateArgs, RecordedArgs};
use super::options;
use crate::args::ResourceArgs;

pub use file::{Config, Style, path, wildcards};

/// Options of a run that a profile may have in addition to those that an image records and those of
/// resources.
const OF_THE_RUN: [&str; 2] = ["batch", "format"];

/// The options of the profile that was asked for, in place of those that are not given.
///
/// # Errors
/// When there is no such profile, or it has something else than options and their values.
pub fn complete(mut args: GenerateArgs) -> anyhow::Result<GenerateArgs> {
    let Some(name) = args.run.profile.take() else {
        return Ok(args);
    };
    let args = args.or(named(&name)?);
    options::check(&args.recorded)
        .map_err(Error::msg)
        .with_context(|| format!("with the profile {name}"))?;
    Ok(args)
}

/// The options of a profile.
///
/// # Errors
/// As [`complete`].
pub fn named(name: &str) -> anyhow::Result<GenerateArgs> {
    let config = Config::read()?;
    let profile = config.profile(name).map_err(Error::msg)?;
    read(profile).with_context(|| format!("{}: profiles.{name}", config.path().display()))
}

/// Reads the options of a profile.
///
/// # Errors
/// When a key is not an option that a profile can have, or a value is not one of its option.
pub fn read(profile: &Map<String, Value>) -> anyhow::Result<GenerateArgs> {
    let known = known();
    let mut given = Map::new();
    for (key, value) in profile {
        let name = key.replace('_', "-");
        if !known.contains(&name) {
            bail!(file::unknown(key, known.iter().map(String::as_str)));
        }
        if value != &Value::Bool(false) && given.insert(name.clone(), value.clone()).is_some() {
            bail!("{name:?} occurs twice");
        }
    }
    let args: GenerateArgs = options::read(&given).map_err(Error::msg)?;
    // Whether an option comes with those that it requires is seen on the command line; whether two
    // exclude each other is not left to it.
    Ok(args)
}

/// The names of the options that a profile can have.
fn known() -> Vec<String> {
    let recorded = options::names::<RecordedArgs>().into_iter();
    let resources = options::names::<ResourceArgs>();
    recorded
        .filter(|name| name != "prompt")
        .chain(resources)
        .chain(OF_THE_RUN.map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn profile(options: Value) -> anyhow::Result<GenerateArgs> {
        let Value::Object(options) = options else {
            panic!("{options}")
        };
        read(&options)
    }

    #[test]
    fn every_option_has_a_place() {
        let all = options::names::<GenerateArgs>();
        for name in known() {
            assert!(all.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_is_typed_goes_before_a_profile() {
        let below = json!({"steps": 14, "size": "96x64", "low_memory": true, "threads": 2,
                           "format": "webp", "lora": ["a:0.5"], "apg": false});
        let below = profile(below).unwrap();
        let above = profile(json!({"steps": 3, "aspect": "16:9", "memory-limit": "6GB"})).unwrap();
        let args = above.or(below);
        let shown = options::shell_words(&args.recorded, '=');
        assert_eq!(shown, "--steps=3 --aspect=16:9 --low-memory --lora=a:0.5");
        assert_eq!(args.resources.cpu.threads, Some(2));
        assert_eq!(args.resources.memory_limit.unwrap().0, 6_000_000_000);
        assert_eq!(args.run.batch.format.unwrap().ending(), "webp");
        // What excludes what is typed is not taken from a profile.
        for (above, below, expected) in [
            (
                json!({"size": "96x64", "bucket": true}),
                json!({"hires": 2, "steps": 3}),
                "--steps=3 --size=96x64 --bucket",
            ),
            (
                json!({"image": "a.png", "mask": "b.png"}),
                json!({"hires": 2}),
                "--image=a.png --mask=b.png",
            ),
            (
                json!({"hires": 2}),
                json!({"size": "96x64", "bucket": true}),
                "--size=96x64 --hires=2",
            ),
        ] {
            let args = profile(above).unwrap().or(profile(below).unwrap());
            assert_eq!(options::shell_words(&args.recorded, '='), expected);
            options::check(&args.recorded).unwrap();
        }
    }

    #[test]
    fn what_is_no_option() {
        for (options, expected) in [
            (
                json!({"step": 3}),
                "unknown key \"step\"; the nearest is \"steps\"",
            ),
            (json!({"prompt": "a"}), "unknown key \"prompt\""),
            (json!({"out": "a.png"}), "unknown key \"out\""),
            (json!({"steps": 0}), "0 is not in"),
            (json!({"steps": true}), "steps"),
            (
                json!({"low_memory": true, "low-memory": true}),
                "occurs twice",
            ),
            (
                json!({"size": "64", "aspect": "1:1"}),
                "cannot be used with",
            ),
        ] {
            let error = format!("{:#}", profile(options.clone()).unwrap_err());
            assert!(error.contains(expected), "{options}: {error}");
        }
    }
}
