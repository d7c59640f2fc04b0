//! What is written into an image so that it can be made again: texts whose keys are the
//! options of `sana generate`, several times for those that are given several times.

use std::path::{Component, Path, PathBuf};

use anyhow::{Error, bail};
use sana_pipeline::escaped;
use sana_pipeline::request::ImageToImageSettings;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::parameters::for_others;
use crate::args::{Bf16Args, ModelArgs};
use crate::generate::args::{ImageArgs, LoadedArgs, RecordedArgs};
use crate::generate::options::{self, quoted};
use crate::model::{BUILT_IN, Model};

/// Keys and values, in the order in which they are shown.
#[derive(Debug)]
pub struct Record(pub Vec<(String, String)>);

/// The key of the program that wrote a record.
const SOFTWARE: &str = "Software";
/// The key of how many images were generated at a time, where it was more than one. It is no option:
/// the others are not recorded.
const TOGETHER: &str = "images-at-a-time";
/// The key of the prompt before its wildcards were replaced. The prompt that is recorded is the one that
/// was used, so this is for people.
const TEMPLATE: &str = "prompt-template";

/// How images were made, beyond their options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Made {
    /// Whether they were decoded in tiles.
    pub in_tiles: bool,
    /// How many were generated at a time.
    pub together: usize,
    /// How they were begun from another image, if they were.
    pub start: Option<ImageToImageSettings>,
    /// Without the mark that a model made them.
    pub no_mark: bool,
}

/// Options that had other names when images were made that are still read.
const RENAMED: [(&str, &str); 2] = [("lora-apart", "lora-unmerged"), ("schedule", "timesteps")];

impl Record {
    /// The record of one image, of its options as they were [applied](ImageArgs::applied).
    pub fn new(image: ImageArgs, loaded: &LoadedArgs, model: &Model, made: Made) -> Self {
        let named = loaded.model.model.as_deref();
        let template = image.template.clone();
        let applied = RecordedArgs {
            loaded: LoadedArgs {
                model: ModelArgs {
                    model: Some(typed_model(named, model.revision.is_some())),
                    revision: model.revision.clone(),
                    device: Some(model.device.name),
                    dtype: loaded.model.dtype.or_else(|| model.dtype()),
                    // Whatever the memory is where the image is made again.
                    low_memory: loaded.model.low_memory || made.in_tiles,
                    ..loaded.model.clone()
                },
                controlnet: match image.control.control {
                    Some(_) => loaded.controlnet.clone(),
                    None => None,
                },
                control_wiring: image.control.control.as_ref().and(loaded.control_wiring),
                ..loaded.clone()
            },
            image,
        };
        let mut pairs = options::recorded(&applied);
        if let Some(template) = template {
            pairs.push((TEMPLATE.to_owned(), template));
        }
        if made.together > 1 {
            pairs.push((TOGETHER.to_owned(), made.together.to_string()));
        }
        let software = format!("sana {}", env!("CARGO_PKG_VERSION"));
        pairs.push((SOFTWARE.to_owned(), software));
        let others = for_others(&applied.image, made.start, &model.name, made.no_mark);
        pairs.extend(others);
        Self(pairs)
    }

    /// How many images were generated at a time, where it was more than one.
    pub fn together(&self) -> Option<usize> {
        let mut pairs = self.0.iter();
        let (_, value) = pairs.find(|(key, _)| key == TOGETHER)?;
        value.parse().ok().filter(|together| *together > 1)
    }

    /// As an image file holds it.
    pub fn texts(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    /// As a JSON object without what is written for others; a key that occurs several times has a
    /// list.
    pub fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, value) in self.own() {
            let value = Value::String(value.clone());
            match object.get_mut(key) {
                None => {
                    object.insert(key.clone(), value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        object
    }

    /// The options that it holds; `None` if it is not a record of ours. An image comes from
    /// anywhere: other keys are ignored, and none of the options of a record names a file to be
    /// written.
    ///
    /// # Errors
    /// When a value cannot be one of its option: somebody else wrote it.
    pub fn options(&self) -> anyhow::Result<Option<RecordedArgs>> {
        if !self.is_ours() {
            return Ok(None);
        }
        let mut object = self.object();
        for (old, new) in RENAMED {
            if let Some(value) = object.remove(old) {
                object.entry(new).or_insert(value);
            }
        }
        object.retain(|key, value| match (key.as_str(), &*value) {
            ("negative", Value::String(text)) => !text.is_empty(),
            ("model", Value::String(text)) => text != BUILT_IN,
            _ => true,
        });
        for key in options::names::<RecordedArgs>() {
            let Some(value) = object.get_mut(&key) else {
                continue;
            };
            if options::is_flag::<RecordedArgs>(&key) {
                *value = Value::Bool(true);
            } else if !PROSE.contains(&key.as_str()) && has_control_characters(value) {
                bail!("this is not a record of `sana generate`: {key} holds control characters");
            }
        }
        // Styles and wildcards were replaced: what is recorded is the prompt that was used, to the letter.
        object.remove("style");
        let mut options = RecordedArgs::deserialize(Value::Object(object)).map_err(Error::msg)?;
        // One image is recorded, with its size.
        options.image.count = None;
        options.image.aspect = None;
        options::check(&options).map_err(Error::msg)?;
        Ok(Some(options))
    }

    /// The first setting that two records of one image do not share; where an image was made does
    /// not count.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let [one, other] = [self, other].map(|record| {
            let mut options = record.options().ok().flatten().unwrap_or_default();
            let model = options.loaded.model;
            options.loaded.model = ModelArgs {
                device: None,
                dtype: None,
                low_memory: false,
                bf16: Bf16Args::default(),
                ..model
            };
            options::recorded(&options)
        });
        let all = |record: &[(String, String)], key: &str| -> Vec<String> {
            let pairs = record.iter().filter(|(own, _)| own == key);
            pairs.map(|(_, value)| value.clone()).collect()
        };
        let keys = one.iter().chain(&other).map(|(key, _)| key);
        let mut differing = keys.filter(|key| all(&one, key) != all(&other, key));
        differing.next().cloned()
    }

    /// The command that makes the image again, if this is a record of ours.
    pub fn command(&self) -> Option<String> {
        // Escaped it would be another text.
        let plain = |text: &str| escaped(text) == text;
        if !self.own().all(|(_, value)| plain(value)) {
            return None;
        }
        let mut options = self.options().ok().flatten()?;
        options.image = options.image.literal();
        let prompt = options.image.prompt.take().unwrap_or_default();
        let words = options::shell_words(&options, ' ');
        let (before, after) = match prompt.starts_with('-') {
            true => (String::new(), format!(" -- {}", quoted(&prompt))),
            false => (format!(" {}", quoted(&prompt)), String::new()),
        };
        let space = if words.is_empty() { "" } else { " " };
        Some(format!("sana generate{before}{space}{words}{after}"))
    }

    /// Whether a key is one that records have.
    pub fn knows(key: &str) -> bool {
        let renamed = RENAMED.iter().map(|(old, _)| *old);
        let names = options::names::<RecordedArgs>();
        renamed
            .chain([SOFTWARE, TEMPLATE, TOGETHER])
            .any(|known| known == key)
            || names.iter().any(|name| name == key)
    }

    /// Whether it says that `sana generate` wrote it.
    pub fn is_ours(&self) -> bool {
        let value = |wanted: &str| {
            let mut values = self.0.iter().filter(|(key, _)| key == wanted);
            values.next().map(|(_, value)| value.as_str())
        };
        value("prompt").is_some() && value(SOFTWARE).is_some_and(|by| by.starts_with("sana "))
    }
}

/// Options that may have several lines.
const PROSE: [&str; 2] = ["prompt", "negative"];

fn has_control_characters(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(char::is_control),
        Value::Array(values) => values.iter().any(has_control_characters),
        _ => false,
    }
}

/// The model as it was typed, so that nothing of the user's other folders gets into the image. A
/// folder that elsewhere would be taken for the built-in model, or for `owner/name` on the Hub and
/// downloaded, has `./` before it.
fn typed_model(model: Option<&Path>, from_hub: bool) -> PathBuf {
    let Some(model) = model else {
        return BUILT_IN.into();
    };
    match model.components().next() {
        Some(Component::Normal(_)) if !from_hub => format!("./{}", model.display()).into(),
        _ => model.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pairs: &[(&str, &str)]) -> Record {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Record(pairs.iter().map(owned).collect())
    }

    #[test]
    fn command_repeats_the_options() {
        let ours = record(&[
            ("prompt", "it's a \"cat\""),
            ("negative", ""),
            ("seed", "7"),
            ("guidance", "4.5"),
            ("guidance-interval", "0.2..0.9"),
            ("pag", "2"),
            ("pag-layers", "8,14"),
            ("apg-norm", "inf"),
            ("apg-momentum", "-0.5"),
            ("model", "owner/name"),
            ("revision", "0123abc"),
            ("transformer", "own file.safetensors"),
            ("instruction", "repository"),
            ("lora", "one.safetensors:0.5"),
            ("lora", r"C:\two.safetensors:1"),
            ("image", "old image.png"),
            ("strength", "0.5"),
            ("mask", "mask.png"),
            ("mask-feather", "8"),
            ("schedule", "paper"),
            ("low-memory", "yes"),
            ("apg", "yes"),
            ("lora-apart", "yes"),
            ("Software", "sana 0.1.0"),
        ]);
        let expected = [
            r#"sana generate 'it'\''s a "cat"' --seed 7 --guidance 4.5 --timesteps paper"#,
            "--instruction repository --guidance-interval 0.2..0.9 --pag 2 --pag-layers 8,14 --apg",
            "--apg-norm inf --apg-momentum=-0.5 --image 'old image.png' --strength 0.5 --mask mask.png",
            "--mask-feather 8 --model owner/name --revision 0123abc",
            "--transformer 'own file.safetensors' --low-memory --lora one.safetensors:0.5",
            r"--lora 'C:\two.safetensors:1' --lora-unmerged",
        ];
        assert_eq!(ours.command().unwrap(), expected.join(" "));
    }

    #[test]
    fn dashes_at_the_start_are_no_options() {
        let ours = record(&[
            ("prompt", "-cat"),
            ("negative", "-dog"),
            ("Software", "sana 0.1.0"),
        ]);
        assert_eq!(
            ours.command().unwrap(),
            "sana generate --negative=-dog -- -cat"
        );
    }

    #[test]
    fn foreign_text_becomes_no_command() {
        assert_eq!(
            record(&[("prompt", "cat"), ("Software", "gimp")]).command(),
            None
        );
        assert_eq!(record(&[("Software", "sana 0.1.0")]).command(), None);
        assert_eq!(record(&[]).command(), None);
        let hostile = [("prompt", "a\x1b[2J"), ("Software", "sana 0.1.0")];
        assert_eq!(record(&hostile).command(), None);
        let hostile = [
            ("prompt", "a"),
            ("x; rm -r ~", "y"),
            ("Software", "sana 0.1.0"),
        ];
        assert_eq!(record(&hostile).command().unwrap(), "sana generate a");
    }

    #[test]
    fn options_are_those_of_the_command() {
        let ours = record(&[
            ("prompt", "-a\nb"),
            ("negative", ""),
            ("seed", "7"),
            ("out", "/etc/passwd"),
            ("prompts", "x"),
            ("count", "3"),
            ("aspect", "1:2"),
            ("memory-limit", "1"),
            ("x; rm -r ~", "y"),
            ("model", BUILT_IN),
            ("apg-momentum", "-0.5"),
            ("lora", "one:0.5"),
            ("lora", "two:1"),
            ("apg", "yes"),
            ("Software", "sana 0.1.0"),
        ]);
        let options = ours.options().unwrap().unwrap();
        assert_eq!(options.image.prompt(), "-a\nb");
        let expected = "--seed=7 --apg --apg-momentum=-0.5 --lora=one:0.5 --lora=two:1";
        assert_eq!(options::shell_words(&options, '='), expected);

        let foreign = [("prompt", "cat"), ("Software", "gimp")];
        assert_eq!(record(&foreign).options().unwrap(), None);
        assert_eq!(record(&[("prompt", "cat")]).options().unwrap(), None);
        assert_eq!(record(&[("Software", "sana 1")]).options().unwrap(), None);
        let hostile = [
            ("prompt", "a"),
            ("model", "a\x1b[2J"),
            ("Software", "sana 1"),
        ];
        let error = record(&hostile).options().unwrap_err().to_string();
        assert!(error.contains("model holds control characters"), "{error}");
    }

    #[test]
    fn models_as_they_were_typed() {
        let typed = |model: &str, from_hub| typed_model(Some(Path::new(model)), from_hub);
        assert_eq!(typed_model(None, false), Path::new("built-in"));
        assert_eq!(typed("built-in", false), Path::new("./built-in"));
        assert_eq!(typed("runs/mine", false), Path::new("./runs/mine"));
        assert_eq!(typed("owner/name", true), Path::new("owner/name"));
        for path in ["../a b", "./mine", "/models/mine"] {
            assert_eq!(typed(path, false), Path::new(path));
        }
    }

    #[test]
    fn what_differs() {
        let ours = |pairs: &[(&str, &str)]| record(&[pairs, &[(SOFTWARE, "sana 1")]].concat());
        let one = ours(&[("prompt", "a"), ("steps", "2"), ("device", "flex")]);
        let same = ours(&[("steps", "2"), ("prompt", "a"), ("device", "cuda:0")]);
        assert_eq!(one.difference(&same), None);
        let more = ours(&[("prompt", "a"), ("steps", "2"), ("lora", "x")]);
        assert_eq!(one.difference(&more).as_deref(), Some("lora"));
        let steps = ours(&[("prompt", "a"), ("steps", "3")]);
        assert_eq!(steps.difference(&one).as_deref(), Some("steps"));
        assert_eq!(one.difference(&record(&[])).as_deref(), Some("prompt"));
    }
}
