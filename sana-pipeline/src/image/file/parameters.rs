//! How an image was made as AUTOMATIC1111's web UI writes it, and others read it:
//!
//! ```text
//! PROMPT
//! Negative prompt: NEGATIVE
//! Steps: 20, Sampler: Euler, CFG scale: 4.5, Seed: 0, Size: 128x128, Model: NAME
//! ```

use serde_json::{Map, Value};

/// The keyword of the text that AUTOMATIC1111's web UI writes into a PNG: how the image was made, in a
/// form that front ends and galleries read.
pub const PARAMETERS: &str = "parameters";

const NEGATIVE: &str = "Negative prompt:";
/// Fields that a line of them has, at least: fewer belong to a prompt.
const FEWEST_FIELDS: usize = 3;
/// Bytes of the text, at most; a longer prompt is in our own record alone.
const LONGEST: usize = 64 << 10;

/// A prompt and what the image was made with, the text [`PARAMETERS`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// The prompt.
    pub prompt: String,
    /// The negative prompt; empty without one.
    pub negative: String,
    /// In the order of the text.
    pub fields: Vec<(String, String)>,
}

impl Parameters {
    /// The text; `None` for a prompt so long that it has more than 64 KiB.
    pub fn text(&self) -> Option<String> {
        let mut text = self.prompt.clone();
        if !self.negative.is_empty() {
            text += &format!("\n{NEGATIVE} {}", self.negative);
        }
        let field = |(name, value): &(String, String)| match value.contains([',', ':', '\n', '"']) {
            true => format!("{name}: {}", Value::from(value.as_str())),
            false => format!("{name}: {value}"),
        };
        let fields: Vec<String> = self.fields.iter().map(field).collect();
        let text = format!("{text}\n{}", fields.join(", "));
        Some(text).filter(|text| text.len() <= LONGEST)
    }

    /// Reads a text; `None` without a line of fields.
    pub fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.trim().lines().collect();
        // Some programs write more lines below it.
        let at = lines
            .iter()
            .rposition(|line| fields(line).len() >= FEWEST_FIELDS)?;
        let mut parsed = Self {
            fields: fields(lines[at]),
            ..Self::default()
        };
        let mut is_negative = false;
        for line in &lines[..at] {
            let line = match line.trim_start().strip_prefix(NEGATIVE) {
                Some(rest) if !is_negative => {
                    is_negative = true;
                    rest.trim_start()
                }
                _ => line,
            };
            let part = match is_negative {
                true => &mut parsed.negative,
                false => &mut parsed.prompt,
            };
            if !part.is_empty() {
                part.push('\n');
            }
            part.push_str(line);
        }
        Some(parsed)
    }

    /// As lines to show: prompt, negative prompt, fields.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = [("prompt", &self.prompt), ("negative", &self.negative)];
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
        let fields = self
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value));
        texts
            .chain(fields)
            .map(|(name, value)| (name, value.as_str()))
    }

    /// As [`lines`](Self::lines) by their names.
    pub fn object(&self) -> Map<String, Value> {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
        self.lines().map(pair).collect()
    }
}

/// The fields of a line, `NAME: VALUE` with commas between them; a value with a comma is in quotes, as in
/// JSON. Empty where anything else is in the line.
fn fields(line: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once(':') else {
            return Vec::new();
        };
        let is_name = |c: char| c.is_alphanumeric() || " -_/".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return Vec::new();
        }
        let after = after.trim_start();
        let (value, after) = match quoted(after) {
            Some(split) => split,
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        fields.push((name.trim().to_owned(), value));
        rest = after.trim_start();
    }
    fields
}

/// A value in quotes, and what is behind its comma.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = text.starts_with('"').then(|| values.next()?.ok())??;
    let after = text[values.byte_offset()..].trim_start();
    match after.strip_prefix(',') {
        Some(after) => Some((value, after)),
        None => after.is_empty().then_some((value, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{RgbImage, XMP, read_text, save};

    #[test]
    fn what_is_written_is_read_again() {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let fields = [
            ("Steps", "20"),
            ("Sampler", "Euler"),
            ("Model", "a, b: \"c\""),
        ];
        let parameters = Parameters {
            prompt: "a red circle,\nleft of: a blue square".to_owned(),
            negative: "two\nlines".to_owned(),
            fields: fields.map(pair).to_vec(),
        };
        let expected = "a red circle,\nleft of: a blue square\nNegative prompt: two\nlines\n\
                        Steps: 20, Sampler: Euler, Model: \"a, b: \\\"c\\\"\"";
        assert_eq!(parameters.text().unwrap(), expected);
        assert_eq!(Parameters::parse(expected), Some(parameters.clone()));
        let plain = Parameters {
            negative: String::new(),
            ..parameters
        };
        let text = plain.text().unwrap();
        assert_eq!(Parameters::parse(&text), Some(plain));
        let long = Parameters {
            prompt: "x".repeat(LONGEST),
            ..Parameters::default()
        };
        assert_eq!(long.text(), None);
    }

    #[test]
    fn what_others_write() {
        // As AUTOMATIC1111's web UI 1.10 writes it.
        let text = "a cat (masterpiece:1.2), <lora:x:0.5>\nNegative prompt: blurry, low quality\n\
                    Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, \
                    Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, \
                    Lora hashes: \"x: 0a1b, y: 2c3d\", Denoising strength: 0.7, Version: v1.10.1\n\
                    Template: a cat";
        let read = Parameters::parse(text).unwrap();
        assert_eq!(read.prompt, "a cat (masterpiece:1.2), <lora:x:0.5>");
        assert_eq!(read.negative, "blurry, low quality");
        let value = |name: &str| {
            let found = read.fields.iter().find(|(found, _)| found == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("Seed"), Some("965400086"));
        assert_eq!(value("Sampler"), Some("DPM++ 2M"));
        assert_eq!(value("Lora hashes"), Some("x: 0a1b, y: 2c3d"));
        assert_eq!(value("Version"), Some("v1.10.1"));
        assert_eq!(read.fields.len(), 11);
        for text in [
            "",
            "a cat",
            "a: b, c: d",
            "{\"prompt\": \"a\", \"b\": 1, \"c\": 2}",
        ] {
            assert_eq!(Parameters::parse(text), None, "{text}");
        }
        // No text makes it panic.
        for text in [
            "Steps: \"",
            "Steps: \"\\",
            ": : :",
            "a: b, c: \"d\" e, f: g",
            "ä: ö, ü: \"ß\", é: ,",
        ] {
            let _ = Parameters::parse(text);
        }
    }

    #[test]
    fn parameters_are_in_every_format_where_they_fit() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(40_000);
        for (name, prompt, kept) in [
            ("a.png", "a cat", true),
            ("a.jpg", "a cat", true),
            ("a.webp", "a cat", true),
            ("b.jpg", long.as_str(), false),
            ("b.webp", long.as_str(), true),
        ] {
            let path = folder.path().join(name);
            let parameters = format!("{prompt}\nSteps: 20, Sampler: Euler, Seed: 7");
            let text = [("prompt", prompt), (XMP, "<x/>"), (PARAMETERS, &parameters)];
            save(&path, &RgbImage::new(9, 7), &text).unwrap();
            let mut read = read_text(&path).unwrap();
            read.sort();
            let mut expected = text
                .map(|(key, text)| (key.to_owned(), text.to_owned()))
                .to_vec();
            expected.retain(|(key, _)| kept || key != PARAMETERS);
            expected.sort();
            assert_eq!(read, expected, "{name}");
        }
    }
}
