//! What is written into a picture so that it can be made again: text chunks whose keys are the
//! options of `sana generate`, several times for those that are given several times.

use std::ffi::OsString;
use std::path::{Component, Path};

use anyhow::bail;
use sana_pipeline::{Settings, Solver};
use sana_sampler::GuidanceInterval;

use super::args::GenerateArgs;
use super::options::{FLAGS, OPTIONS, Options, quoted};
use crate::model::{BUILT_IN, Model};

/// Keys and values, in the order in which they are shown.
pub struct Record(pub Vec<(String, String)>);

/// Keys that are no options.
const PROMPT: &str = "prompt";
const SOFTWARE: &str = "Software";
/// The name of a solver on the command line.
pub fn solver_name(solver: Solver) -> &'static str {
    match solver {
        Solver::FlowDpm { .. } => "flow-dpm",
        Solver::FlowEuler => "flow-euler",
        Solver::Scm => "scm",
    }
}

impl Record {
    /// The record of one picture.
    pub fn new(args: &GenerateArgs, settings: &Settings, seed: u64, model: &Model) -> Self {
        let made = [settings.width, settings.height];
        let [width, height] = settings.output_size.unwrap_or(made);
        let mut pairs = vec![
            (PROMPT, args.prompt.clone()),
            ("negative", args.negative.clone()),
            ("seed", seed.to_string()),
            ("steps", settings.schedule_steps().to_string()),
            ("guidance", settings.guidance.scale().to_string()),
        ];
        pairs.extend(more_guidance(settings));
        pairs.extend([
            ("solver", solver_name(settings.solver).to_owned()),
            ("size", format!("{width}x{height}")),
            (
                "model",
                typed_model(args.model.model.as_deref(), model.revision.is_some()),
            ),
            ("device", model.device.name.to_string()),
        ]);
        if let Some(commit) = &model.revision {
            pairs.push(("revision", commit.clone()));
        }
        if let Some(file) = &args.model.transformer {
            pairs.push(("transformer", file.display().to_string()));
        }
        if let Some(variant) = &args.model.variant {
            pairs.push(("variant", variant.clone()));
        }
        if let Some(dtype) = args.model.dtype.or_else(|| model.dtype()) {
            pairs.push(("dtype", dtype.name().to_owned()));
        }
        if let Some(wording) = args.instruction {
            pairs.push(("instruction", wording.name().to_owned()));
        }
        for lora in &args.lora.lora {
            pairs.push(("lora", lora.to_string()));
        }
        pairs.extend(args.control.record(settings));
        pairs.extend(args.edit.recorded(settings));
        let flags = [
            (FLAGS[0], args.no_instruction),
            (FLAGS[1], args.model.low_memory),
            (FLAGS[2], settings.projection.is_some()),
            (FLAGS[3], args.lora.lora_apart),
            (FLAGS[4], args.bucket),
        ];
        for (flag, _) in flags.into_iter().filter(|(_, given)| *given) {
            pairs.push((flag, "yes".to_owned()));
        }
        pairs.push((SOFTWARE, format!("sana {}", env!("CARGO_PKG_VERSION"))));
        let owned = |(key, value): (&str, String)| (key.to_owned(), value);
        Self(pairs.into_iter().map(owned).collect())
    }

    /// As text chunks of a PNG.
    pub fn chunks(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    /// Its prompt and options; `None` if this is no record of ours.
    ///
    /// # Errors
    /// When a value of ours holds what cannot be typed: somebody else wrote it.
    pub fn options(&self) -> anyhow::Result<Option<Options>> {
        let ours = self.value(SOFTWARE).filter(|by| by.starts_with("sana "));
        let (Some(_), Some(prompt)) = (ours, self.value(PROMPT)) else {
            return Ok(None);
        };
        let mut options = Options::of(prompt);
        for (key, value) in &self.0 {
            if FLAGS.contains(&key.as_str()) {
                options.push(key, None);
            }
            if !OPTIONS.contains(&key.as_str()) || is_default(key, value) {
                continue;
            }
            if key != "negative" && value.contains(char::is_control) {
                bail!("this is no record of `sana generate`: {key} holds control characters");
            }
            options.push(key, Some(OsString::from(value)));
        }
        Ok(Some(options))
    }

    /// The first key of a setting that two records of one picture do not share; where a picture was
    /// made does not count.
    pub fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let all = |record: &'a Self, key: &str| -> Vec<&'a str> {
            let pairs = record.0.iter().filter(|(own, _)| own == key);
            pairs.map(|(_, value)| value.as_str()).collect()
        };
        let settings = self.0.iter().chain(&other.0).map(|(key, _)| key.as_str());
        settings
            .filter(|key| !["device", "dtype", "low-memory", SOFTWARE].contains(key))
            .find(|key| all(self, key) != all(other, key))
    }

    /// The command that makes the picture again, if this is a record of ours.
    pub fn command(&self) -> Option<String> {
        let software = self.value(SOFTWARE)?;
        let prompt = self.value(PROMPT)?;
        let typed = |text: &str| !text.chars().any(char::is_control);
        if !software.starts_with("sana ") || !self.0.iter().all(|(_, value)| typed(value)) {
            return None;
        }
        let mut command = "sana generate".to_owned();
        if !prompt.starts_with('-') {
            command += &format!(" {}", quoted(prompt));
        }
        for (key, value) in &self.0 {
            match key.as_str() {
                option if is_default(option, value) => {}
                option if OPTIONS.contains(&option) => {
                    let join = if value.starts_with('-') { '=' } else { ' ' };
                    command += &format!(" --{option}{join}{}", quoted(value));
                }
                flag if FLAGS.contains(&flag) => command += &format!(" --{flag}"),
                _ => {}
            }
        }
        if prompt.starts_with('-') {
            command += &format!(" -- {}", quoted(prompt));
        }
        Some(command)
    }

    fn value(&self, wanted: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, _)| key == wanted);
        values.next().map(|(_, value)| value.as_str())
    }
}

/// The model as it was typed, so that nothing of the user's other folders gets into the picture. A
/// folder that elsewhere would be taken for the built-in model, or for `owner/name` on the Hub and
/// downloaded, has `./` before it.
fn typed_model(model: Option<&Path>, from_hub: bool) -> String {
    let Some(model) = model else {
        return BUILT_IN.to_owned();
    };
    let typed = model.display();
    match model.components().next() {
        Some(Component::Normal(_)) if !from_hub => format!("./{typed}"),
        _ => typed.to_string(),
    }
}

/// Whether a record says of an option what holds without it.
fn is_default(key: &str, value: &str) -> bool {
    [("negative", ""), ("model", BUILT_IN)].contains(&(key, value))
}

/// Guidance beyond its scale, where there is any.
fn more_guidance(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    let interval = settings.guidance.interval();
    if interval != GuidanceInterval::FULL {
        let levels = format!("{}..{}", interval.start(), interval.end());
        pairs.push(("guidance-interval", levels));
    }
    if let Some(blocks) = &settings.perturbed_blocks {
        let layers: Vec<String> = blocks.indices().iter().map(usize::to_string).collect();
        pairs.push(("pag", settings.guidance.perturbed_scale().to_string()));
        pairs.push(("pag-layers", layers.join(",")));
    }
    if let Some(projection) = settings.projection {
        pairs.push(("apg-eta", projection.eta().to_string()));
        pairs.push(("apg-norm", projection.norm().to_string()));
        pairs.push(("apg-momentum", projection.momentum().to_string()));
    }
    pairs
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
            ("model", "built-in"),
            ("revision", "0123abc"),
            ("transformer", "own file.safetensors"),
            ("instruction", "repository"),
            ("lora", "one.safetensors:0.5"),
            ("lora", r"C:\two.safetensors:1"),
            ("image", "old picture.png"),
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
            r#"sana generate 'it'\''s a "cat"' --seed 7 --guidance 4.5 --guidance-interval 0.2..0.9"#,
            "--pag 2 --pag-layers 8,14 --apg-norm inf --apg-momentum=-0.5 --revision 0123abc",
            "--transformer 'own file.safetensors' --instruction repository",
            r"--lora one.safetensors:0.5 --lora 'C:\two.safetensors:1' --image 'old picture.png'",
            "--strength 0.5 --mask mask.png --mask-feather 8 --schedule paper --low-memory --apg",
            "--lora-apart",
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
            ("x; rm -r ~", "y"),
            ("model", BUILT_IN),
            ("apg-momentum", "-0.5"),
            ("lora", "one:0.5"),
            ("lora", "two:1"),
            ("apg", "yes"),
            ("Software", "sana 0.1.0"),
        ]);
        let options = ours.options().unwrap().unwrap();
        assert_eq!(options.prompt.as_deref(), Some("-a\nb"));
        let expected = "--seed=7 --apg-momentum=-0.5 --lora=one:0.5 --lora=two:1 --apg";
        assert_eq!(options.to_string(), expected);

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
        assert_eq!(typed_model(None, false), "built-in");
        assert_eq!(typed("built-in", false), "./built-in");
        assert_eq!(typed("runs/mine", false), "./runs/mine");
        assert_eq!(typed("owner/name", true), "owner/name");
        for path in ["../a b", "./mine", "/models/mine"] {
            assert_eq!(typed(path, false), path);
        }
    }

    #[test]
    fn what_differs() {
        let one = record(&[("prompt", "a"), ("steps", "2"), ("device", "flex")]);
        let same = record(&[("steps", "2"), ("prompt", "a"), ("device", "cuda:0")]);
        assert_eq!(one.difference(&same), None);
        let more = record(&[("prompt", "a"), ("steps", "2"), ("lora", "x")]);
        assert_eq!(one.difference(&more), Some("lora"));
        let steps = record(&[("prompt", "a"), ("steps", "3")]);
        assert_eq!(steps.difference(&one), Some("steps"));
        assert_eq!(one.difference(&record(&[])), Some("prompt"));
    }
}
