//! Files of prompts: text with a prompt per line, JSON, and JSON lines.

use std::fmt::{self, Display, Write};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, StreamDeserializer, Value, de::StrRead};

use crate::generate::args::ImageArgs;
use crate::generate::options;

/// Problems shown at a time; the others are counted.
const SHOWN: usize = 20;

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

/// What is wrong with a file, line by line: all of it is reported at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<(usize, String)>);

impl Problems {
    pub fn add(&mut self, line: usize, problem: impl Display) {
        self.0.push((line, problem.to_string()));
    }

    /// # Errors
    /// When there is any problem: the lines, and what is wrong with each.
    pub fn check(&mut self, path: &Path) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|(line, _)| *line);
        let mut message = format!("{} cannot be used, nothing was made", path.display());
        for (line, problem) in self.0.iter().take(SHOWN) {
            write!(message, "\n  line {line}: {problem}")?;
        }
        if self.0.len() > SHOWN {
            write!(message, "\n  and {} more", self.0.len() - SHOWN)?;
        }
        bail!(message)
    }
}

/// The prompts of a file. `.json` is a list of prompts and objects, `.jsonl` has an object (or a
/// prompt in quotes) on each line, anything else is text. An object has the options of
/// [`ImageArgs`], and a `name`; whatever is wrong is one of the `problems`.
///
/// # Errors
/// When the file cannot be read or is not UTF-8.
pub fn read(path: &Path, problems: &mut Problems) -> anyhow::Result<Vec<Entry>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            bail!("{} is not UTF-8 text, see line {line}", path.display());
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    let mut reader = Reader {
        problems,
        entries: Vec::new(),
    };
    match ending.to_str() {
        Some("json") => reader.array(text),
        Some("jsonl" | "ndjson") => reader.json_lines(text),
        _ => reader.lines(text),
    }
    Ok(reader.entries)
}

struct Reader<'a> {
    problems: &'a mut Problems,
    entries: Vec<Entry>,
}

/// Lines with something on them, from 1.
fn filled(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim);
    let numbered = (1..).zip(lines);
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

impl Reader<'_> {
    fn lines(&mut self, text: &str) {
        for (line, prompt) in filled(text) {
            self.add(line, vec![("prompt".to_owned(), prompt.into())]);
        }
    }

    fn json_lines(&mut self, text: &str) {
        for (line, text) in filled(text) {
            match serde_json::from_str::<Fields>(text) {
                Ok(fields) => self.add(line, fields.0),
                Err(error) => self.problems.add(line, reason(&error)),
            }
        }
    }

    /// Elements one by one, so that each is known by its line.
    fn array(&mut self, text: &str) {
        let mut place = Place {
            text,
            at: 0,
            line: 1,
        };
        if place.next() != Some('[') {
            let expected = "expected a list, as in [\"a cat\", {\"prompt\": \"a dog\"}]; a file with \
                            an object per line is named .jsonl";
            return self.problems.add(place.line, expected);
        }
        place.advance(1);
        if place.next() == Some(']') {
            place.advance(1);
        } else {
            loop {
                place.next();
                let (line, mut elements) = (place.line, place.elements());
                match elements.next() {
                    Some(Ok(Fields(fields))) => {
                        place.advance(elements.byte_offset());
                        self.add(line, fields);
                    }
                    Some(Err(error)) => {
                        let line = line + error.line().max(1) - 1;
                        return self.problems.add(line, reason(&error));
                    }
                    None => return self.problems.add(line, "the list does not end"),
                }
                match place.next() {
                    Some(',') => place.advance(1),
                    Some(']') => break place.advance(1),
                    Some(other) => {
                        let problem = format!("expected a comma or ], found {other:?}");
                        return self.problems.add(place.line, problem);
                    }
                    None => return self.problems.add(place.line, "the list does not end"),
                }
            }
        }
        if place.next().is_some() {
            self.problems
                .add(place.line, "expected nothing more behind the list");
        }
    }

    fn add(&mut self, line: usize, fields: Vec<(String, Value)>) {
        match Entry::new(line, fields) {
            Ok(entry) => self.entries.push(entry),
            Err(problem) => self.problems.add(line, problem),
        }
    }
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

/// A place in a text, and its line.
struct Place<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Place<'a> {
    /// Skips white space to the next character, and returns it.
    fn next(&mut self) -> Option<char> {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\r', '\n']);
        self.advance(self.text.len() - self.at - rest.len());
        rest.chars().next()
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.text[self.at..self.at + bytes];
        self.line += passed.matches('\n').count();
        self.at += bytes;
    }

    fn elements(&self) -> StreamDeserializer<'a, StrRead<'a>, Fields> {
        serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter()
    }
}

/// What serde_json says, without the position in its piece of the text.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
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

/// An object with its keys in order, twice where they occur twice; a text is its prompt.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfFields;

        impl<'de> Visitor<'de> for OfFields {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a prompt in quotes or an object with a prompt")
            }

            fn visit_str<E: de::Error>(self, prompt: &str) -> Result<Fields, E> {
                Ok(Fields(vec![("prompt".to_owned(), prompt.into())]))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_any(OfFields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(ending: &str, text: &[u8]) -> anyhow::Result<Vec<Entry>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("prompts.{ending}"));
        fs::write(&path, text).unwrap();
        let mut problems = Problems::default();
        let entries = read(&path, &mut problems)?;
        problems.check(Path::new("prompts"))?;
        Ok(entries)
    }

    fn entry(line: usize, prompt: &str) -> Entry {
        Entry {
            line,
            args: ImageArgs {
                prompt: Some(prompt.to_owned()),
                ..ImageArgs::default()
            },
            name: None,
            left_out: Vec::new(),
        }
    }

    #[track_caller]
    fn refused(ending: &str, text: &str, expected: &[&str]) {
        let error = read_as(ending, text.as_bytes()).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    }

    #[test]
    fn text_has_a_prompt_per_line() {
        let text = "\u{feff}a red circle\r\n\n  # not this\n  {\"a\": 1}  \n\tein grüner Kreis";
        let expected = [
            entry(1, "a red circle"),
            entry(4, "{\"a\": 1}"),
            entry(5, "ein grüner Kreis"),
        ];
        for ending in ["txt", "", "prompts"] {
            assert_eq!(read_as(ending, text.as_bytes()).unwrap(), expected);
        }
        assert_eq!(read_as("txt", b"\n# a\n").unwrap(), []);
        let error = read_as("txt", b"a\nb\xff\n").unwrap_err().to_string();
        assert!(error.contains("not UTF-8 text, see line 2"), "{error}");
    }

    #[test]
    fn objects_have_options() {
        let object = r#"{"prompt": "a", "name": "one", "size": [96, 64], "pag_layers": [1, 2],
            "seed": 18446744073709551615, "apg": true, "negative": null}"#;
        let full = |line| Entry {
            args: ImageArgs::deserialize(serde_json::json!({
                "prompt": "a", "size": "96x64", "pag-layers": "1,2", "seed": u64::MAX, "apg": true
            }))
            .unwrap(),
            name: Some("one".to_owned()),
            ..entry(line, "a")
        };
        let array = format!("\n[\n {object} ,\n\"b\\n]\"\n, {{\"prompt\":\"c\"}}]\n");
        let expected = [full(3), entry(5, "b\n]"), entry(6, "c")];
        assert_eq!(read_as("json", array.as_bytes()).unwrap(), expected);
        let lines = format!("{}\n\n\"b\"\n", object.replace('\n', ""));
        let expected = [full(1), entry(3, "b")];
        assert_eq!(read_as("jsonl", lines.as_bytes()).unwrap(), expected);
        assert_eq!(read_as("NDJSON", lines.as_bytes()).unwrap(), expected);
        assert_eq!(read_as("json", b"[ ]").unwrap(), []);
        let off = read_as("jsonl", br#"{"prompt": "a", "apg": false}"#).unwrap();
        assert_eq!(off[0].left_out, ["apg"]);
    }

    #[test]
    fn what_is_not_a_list() {
        for (text, expected) in [
            ("", ["line 1", "expected a list"]),
            ("{\"prompt\": \"a\"}", ["line 1", ".jsonl"]),
            ("[", ["line 1", "does not end"]),
            ("[\n\"a\"", ["line 2", "does not end"]),
            ("[\"a\",\n]", ["line 2", "expected value"]),
            ("[\"a\"\n\"b\"]", ["line 2", "comma or ]"]),
            ("[\"a\",\n 3]", ["line 2", "a prompt in quotes"]),
            ("[\"a\",\n {\"prompt\":\n x}]", ["line 3", "expected value"]),
            ("[\"a\"]\n\n[", ["line 3", "nothing more"]),
        ] {
            refused("json", text, &expected);
        }
    }

    #[test]
    fn lines_that_are_not_prompts() {
        let lines = [
            r#"{"prompt": "a", "step": 3}"#,
            r#"{"seed": 3}"#,
            r#"{"prompt": " "}"#,
            r#"{"prompt": 3}"#,
            r#"{"prompt": "a", "seed": 1, "seed": 2}"#,
            r#"{"prompt": "a", "size": {}}"#,
            r#"{"prompt": "a", "size": [[1], 2]}"#,
            r#"{"prompt": "a", "seed": "1\u001b"}"#,
            r#"{"prompt": "a\u0000"}"#,
            r#"{"prompt": "a", "name": 3}"#,
            r#"{"prompt": "a", "steps": 0}"#,
            r#"{"prompt": "a", "apg": "yes"}"#,
            r#"{"prompt": "a", "steps": true}"#,
            r#"{"prompt": "a", "size": 64, "aspect": "1:2"}"#,
            r#"{"prompt": "a", "solver": "ddim"}"#,
            r#"{"prompt": "a""#,
            "[1]",
        ];
        let expected = [
            "line 1: unknown key \"step\", known are name, prompt, negative, seed, steps, ",
            "line 2: no \"prompt\"",
            "line 3: the prompt is empty",
            "line 4: \"prompt\" must be text in quotes, not 3",
            "line 5: \"seed\" occurs twice",
            "line 6: \"size\" cannot be {}",
            "line 7: \"size\" cannot be [1]",
            "line 8: \"seed\" holds control characters",
            "line 9: \"prompt\" holds control characters",
            "line 10: \"name\" must be text in quotes",
            "line 11: invalid value '0' for '--steps <N>'",
            "line 12: unexpected value 'yes' for '--apg'",
            "line 13: a value is required for '--steps <N>'",
            "line 14: the argument '--size <WxH>' cannot be used with '--aspect <W:H>'",
            "line 15: invalid value 'ddim' for '--solver <SOLVER>' [possible values: flow-dpm, \
             flow-euler, scm]",
            "line 16: EOF",
            "line 17: invalid type",
        ];
        refused("jsonl", &lines.join("\n"), &expected);
    }

    #[test]
    fn many_problems_are_counted() {
        refused(
            "jsonl",
            &"{}\n".repeat(25),
            &["line 20: no", "\n  and 5 more"],
        );
        let error = read(Path::new("none.txt"), &mut Problems::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read none.txt");
    }
}
