//! The options of `sana generate` as text: those that were typed, those of a picture's record and
//! those of a line in a file of prompts, laid over each other and then read by clap as if all of
//! them had been typed.

use std::ffi::{OsStr, OsString};
use std::fmt;

use clap::parser::ValueSource;
use clap::{Arg, Args, Command, FromArgMatches};

use super::args::GenerateArgs;

/// Options with a value. A picture comes from anywhere, so no other key becomes part of a command,
/// and no option that names a file to be written may stand here.
pub const OPTIONS: [&str; 30] = [
    "negative",
    "seed",
    "steps",
    "guidance",
    "guidance-interval",
    "pag",
    "pag-layers",
    "apg-eta",
    "apg-norm",
    "apg-momentum",
    "solver",
    "size",
    "model",
    "revision",
    "transformer",
    "device",
    "variant",
    "dtype",
    "instruction",
    "lora",
    "control",
    "controlnet",
    "control-scale",
    "control-interval",
    "control-from",
    "image",
    "strength",
    "mask",
    "mask-feather",
    "schedule",
];
/// Options without a value.
pub const FLAGS: [&str; 5] = [
    "no-instruction",
    "low-memory",
    "apg",
    "lora-apart",
    "bucket",
];

/// The heading of the options that choose what is loaded.
const MODEL_HEADING: &str = "Model and device";
/// What is loaded once for all pictures, under other headings.
const LOADED_ONCE: [&str; 1] = ["controlnet"];
/// Options that say something about another one, and go with it when it is given anew.
const GO_WITH: [(&str, &str); 2] = [("revision", "model"), ("bucket", "size")];
/// Options of a whole run, which say nothing about a picture.
const OF_A_RUN: [&str; 7] = [
    "out",
    "prompts",
    "batch",
    "grid",
    "grid-columns",
    "from-png",
    "without",
];

/// Options with their values, in order, and the prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Options {
    pub prompt: Option<String>,
    /// Long names; `None` where an option stands without a value.
    pairs: Vec<(String, Option<OsString>)>,
}

/// `sana generate` as clap knows it.
pub fn definition() -> Command {
    GenerateArgs::augment_args(Command::new("sana generate"))
}

/// What clap says, in one line.
pub fn told(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or_default();
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Options {
    /// Those that were typed; `words` begins with the name of the command. Defaults are not among
    /// them.
    pub fn typed(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let definition = definition();
        let matches = definition.clone().try_get_matches_from(words)?;
        let mut options = Self::default();
        for argument in definition.get_arguments() {
            let id = argument.get_id().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let Some(key) = argument.get_long() else {
                options.prompt = matches.get_one::<String>(id).cloned();
                continue;
            };
            for values in matches.get_raw_occurrences(id).into_iter().flatten() {
                let values: Vec<&OsStr> = values.collect();
                options.push(key, joined(argument, &values));
            }
        }
        Ok(options)
    }

    /// No options but a prompt.
    pub fn of(prompt: &str) -> Self {
        Self {
            prompt: Some(prompt.to_owned()),
            pairs: Vec::new(),
        }
    }

    /// Adds an option behind the others.
    pub fn push(&mut self, key: &str, value: Option<OsString>) {
        self.pairs.push((key.to_owned(), value));
    }

    /// Whether the option is among them.
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(own, _)| own == key)
    }

    /// These over those: what `below` says of an option that is given here, of one that excludes
    /// one given here, or of what goes with these, is dropped.
    pub fn over(mut self, below: &Self, definition: &Command) -> Self {
        let clash = |key: &str| {
            let mut own = self.pairs.iter().map(|(own, _)| own.as_str());
            own.any(|own| own == key || exclude(definition, own, key))
        };
        let goes = |key: &str| {
            GO_WITH
                .iter()
                .any(|(with, other)| *with == key && clash(other))
        };
        let kept = below
            .pairs
            .iter()
            .filter(|(key, _)| !clash(key) && !goes(key));
        let mut pairs: Vec<_> = kept.cloned().collect();
        if self.prompt.is_none() && !self.has("prompts") {
            self.prompt.clone_from(&below.prompt);
        }
        pairs.append(&mut self.pairs);
        self.pairs = pairs;
        self
    }

    /// Leaves out an option and those of it: with `apg` also `apg-eta`, with `model` also
    /// `revision`.
    pub fn leave_out(&mut self, name: &str) {
        let of_it = |key: &str| {
            let rest = key.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
                || GO_WITH.contains(&(key, name))
        };
        self.pairs.retain(|(key, _)| !of_it(key));
    }

    /// Without the prompt and the options of a whole run: what holds for every picture of it.
    pub fn of_each_picture(&self) -> Self {
        let mut own = self.clone();
        own.prompt = None;
        own.pairs
            .retain(|(key, _)| !OF_A_RUN.contains(&key.as_str()));
        own
    }

    /// What two pictures must have in common to be made together, in an order of its own.
    pub fn in_common(&self) -> Self {
        let mut own = self.of_each_picture();
        own.pairs
            .retain(|(key, _)| !["seed", "count", "negative"].contains(&key.as_str()));
        own.pairs.sort();
        own
    }

    /// Reads them, as if they had been typed.
    pub fn read(&self, definition: &mut Command) -> Result<GenerateArgs, clap::Error> {
        let mut words = vec![OsString::from("sana generate")];
        for (key, value) in &self.pairs {
            let mut word = OsString::from(format!("--{key}"));
            if let Some(value) = value {
                word.push("=");
                word.push(value);
            }
            words.push(word);
        }
        if let Some(prompt) = &self.prompt {
            words.extend(["--".into(), prompt.into()]);
        }
        GenerateArgs::from_arg_matches(&definition.try_get_matches_from_mut(words)?)
    }
}

/// As words of a shell, without the prompt.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.pairs.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}--{key}")?;
            if let Some(value) = value {
                write!(f, "={}", quoted(&value.to_string_lossy()))?;
            }
        }
        Ok(())
    }
}

/// The values of one occurrence as they are typed behind `=`.
fn joined(argument: &Arg, values: &[&OsStr]) -> Option<OsString> {
    if values.is_empty() || !argument.get_action().takes_values() {
        return None;
    }
    let delimiter = argument.get_value_delimiter().unwrap_or(',').to_string();
    Some(values.join(OsStr::new(&delimiter)))
}

fn exclude(definition: &Command, one: &str, other: &str) -> bool {
    let named = |name: &str| {
        let mut arguments = definition.get_arguments();
        arguments.find(|argument| argument.get_long() == Some(name))
    };
    let (Some(one), Some(other)) = (named(one), named(other)) else {
        return false;
    };
    let conflicts = |one: &Arg, other: &Arg| {
        let excluded = definition.get_arg_conflicts_with(one);
        excluded.iter().any(|arg| arg.get_id() == other.get_id())
    };
    conflicts(one, other) || conflicts(other, one)
}

/// The settings that each line of a file of prompts may have, besides its prompt and name: what is
/// recorded in a picture, but for what is loaded once.
pub fn settings_of_a_line(definition: &Command) -> Vec<&'static str> {
    let once = loaded_once(definition);
    let recorded = OPTIONS.iter().chain(&FLAGS).copied();
    let own = recorded.filter(|key| !once.iter().any(|once| once == key));
    ["count", "aspect"].into_iter().chain(own).collect()
}

/// The options that choose what is loaded.
pub fn loaded_once(definition: &Command) -> Vec<String> {
    let chosen = definition
        .get_arguments()
        .filter(|argument| argument.get_help_heading() == Some(MODEL_HEADING))
        .filter_map(Arg::get_long);
    chosen.chain(LOADED_ONCE).map(str::to_owned).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> Options {
        let words = ["generate"].iter().chain(words).map(OsString::from);
        Options::typed(words).unwrap()
    }

    fn shown(options: &Options) -> String {
        options.to_string()
    }

    #[test]
    fn what_was_typed_and_nothing_else() {
        let options = typed(&[
            "a cat",
            "--steps",
            "3",
            "-o",
            "x.png",
            "--lora",
            "a:1",
            "--lora=b",
            "--apg",
            "--pag=2",
            "--pag-layers",
            "1,2",
            "--negative",
            "",
            "--grid",
        ]);
        assert_eq!(options.prompt.as_deref(), Some("a cat"));
        let mut words: Vec<String> = shown(&options).split(' ').map(str::to_owned).collect();
        words.sort();
        let expected = [
            "--apg",
            "--grid",
            "--lora=a:1",
            "--lora=b",
            "--negative=''",
            "--out=x.png",
            "--pag-layers=1,2",
            "--pag=2",
            "--steps=3",
        ];
        assert_eq!(words, expected);
        assert_eq!(typed(&["a"]).pairs, []);
        assert!(Options::typed(["generate", "a", "--colour"].map(OsString::from)).is_err());
    }

    #[test]
    fn they_survive_being_read() {
        let options = typed(&[
            "--negative=-dog",
            "--guidance=4.5",
            "--pag=2",
            "--pag-layers=1,2",
            "--apg",
            "--apg-momentum=-0.5",
            "--grid=x.png",
            "--size=96x64",
            "--",
            "-cat",
        ]);
        let args = options.read(&mut definition()).unwrap();
        assert_eq!(args.prompt, "-cat");
        assert_eq!(args.negative, "-dog");
        assert_eq!(
            options.clone().over(&Options::default(), &definition()),
            options
        );
    }

    #[test]
    fn one_over_the_other() {
        let definition = definition();
        let below = typed(&[
            "below",
            "--steps=3",
            "--lora=a",
            "--lora=b",
            "--instruction=none",
            "--apg",
            "--apg-eta=1",
        ]);
        let apg = below.clone();
        let over = |words: &[&str]| typed(words).over(&below, &definition);
        let both = over(&["above", "--steps=4"]);
        assert_eq!(both.prompt.as_deref(), Some("above"));
        assert!(shown(&both).ends_with("--steps=4") && !shown(&both).contains("--steps=3"));
        // All of an option's occurrences make way for those above.
        let loras = shown(&over(&["above", "--lora=c"]));
        assert!(
            loras.contains("--lora=c") && !loras.contains("--lora=a"),
            "{loras}"
        );
        let wording = shown(&over(&["above", "--no-instruction"]));
        assert!(!wording.contains("--instruction"), "{wording}");
        // The prompt is needed unless prompts come from a file.
        assert_eq!(over(&["--prompts=x", "--seed=1"]).prompt, None);
        assert_eq!(over(&["--from-png=x"]).prompt.as_deref(), Some("below"));

        // What belongs to an option goes with it.
        let below = typed(&["a", "--size=70", "--bucket", "--model=o/n", "--revision=v1"]);
        let over = |words: &[&str]| shown(&typed(words).over(&below, &definition));
        assert_eq!(over(&["a", "--model=b"]), "--size=70 --bucket --model=b");
        assert_eq!(
            over(&["a", "--aspect=1:2"]),
            "--model=o/n --revision=v1 --aspect=1:2"
        );
        let mut left = below.clone();
        left.leave_out("model");
        assert_eq!(shown(&left), "--size=70 --bucket");

        let mut left = apg.clone();
        left.leave_out("apg");
        assert_eq!(
            shown(&left),
            "--steps=3 --instruction=none --lora=a --lora=b"
        );
        left.leave_out("lor");
        left.leave_out("steps");
        assert_eq!(shown(&left), "--instruction=none --lora=a --lora=b");
    }

    #[test]
    fn what_makes_pictures_of_one_kind() {
        let one = typed(&[
            "a",
            "--steps=3",
            "--seed=1",
            "--size=64",
            "--negative=x",
            "--count=2",
        ]);
        let two = typed(&[
            "b",
            "--size=64",
            "--seed=2",
            "--steps=3",
            "--out=y.png",
            "--grid",
        ]);
        assert_eq!(one.in_common(), two.in_common());
        assert_ne!(
            one.in_common(),
            typed(&["a", "--steps=4", "--size=64"]).in_common()
        );
        assert_eq!(shown(&two.of_each_picture()).matches("--").count(), 3);
    }

    #[test]
    fn clap_is_told_in_one_line() {
        let words = ["generate", "a", "--solver", "ddim"].map(OsString::from);
        let error = told(&Options::typed(words).unwrap_err());
        let expected = "invalid value 'ddim' for '--solver <SOLVER>' [possible values: flow-dpm, \
                        flow-euler, scm]";
        assert_eq!(error, expected);
    }

    #[test]
    fn the_model_is_not_a_setting_of_a_line() {
        let definition = definition();
        let once = loaded_once(&definition);
        let settings = settings_of_a_line(&definition);
        for key in [
            "model",
            "variant",
            "device",
            "dtype",
            "low-memory",
            "lora",
            "lora-apart",
        ] {
            assert!(once.iter().any(|once| once == key), "{key}");
            assert!(!settings.contains(&key), "{key}");
        }
        for key in [
            "count", "seed", "size", "steps", "negative", "guidance", "apg",
        ] {
            assert!(settings.contains(&key), "{key}");
        }
        for key in OF_A_RUN {
            assert!(!settings.contains(&key), "{key}");
        }
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
