//! Files of prompts: text with a prompt per line, JSON, and JSON lines.

mod entry;

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use sana_pipeline::InOrder;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{StreamDeserializer, Value, de::StrRead};

use crate::terminal::Lines;

pub use entry::Entry;

/// Problems shown at a time; the others are counted.
const SHOWN: usize = 20;

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
        let message = format!("{} cannot be used, nothing was made", path.display());
        let shown = self.0.iter().take(SHOWN);
        let shown = shown.map(|(line, problem)| format!("line {line}: {problem}"));
        let more = (self.0.len().checked_sub(SHOWN)).filter(|more| *more > 0);
        let more = more.map(|more| format!("and {more} more"));
        Err(Lines::new(&message, shown.chain(more)).into())
    }
}

/// The prompts of a file. `.json` is a list of prompts and objects, `.jsonl` has an object (or a
/// prompt in quotes) on each line, anything else is text. An object has the options of
/// [`ImageArgs`](crate::generate::args::ImageArgs), and a `name`; whatever is wrong is one of the `problems`.
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

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields, A::Error> {
                let InOrder(fields) = InOrder::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_any(OfFields)
    }
}

#[cfg(test)]
mod tests;
