//! GenEval (Ghosh et al. 2023): its prompts, and the score of what its evaluator found.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quality::metrics::error::MetricsError;

/// The tags of the official prompts, in the order in which they are reported.
pub const GENEVAL_TAGS: [&str; 6] = [
    "single_object",
    "two_object",
    "counting",
    "colors",
    "position",
    "color_attr",
];

/// One line of `evaluation_metadata.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenevalPrompt {
    /// The line as it is, which the evaluator reads again.
    pub line: String,
    /// What the image should show.
    pub prompt: String,
    /// Its category.
    pub tag: String,
}

impl GenevalPrompt {
    /// The prompts of a file's text, in its order.
    ///
    /// # Errors
    /// [`MetricsError::Line`] for a line that is no object with a `tag` and a `prompt`.
    pub fn read_all(text: &str) -> Result<Vec<Self>, MetricsError> {
        #[derive(Deserialize)]
        struct Fields {
            prompt: String,
            tag: String,
        }

        let prompt = |object: Object<'_, Fields>| {
            let (line, text, Fields { prompt, tag }) = object?;
            if prompt.trim().is_empty() {
                let reason = "the prompt is empty".to_owned();
                return Err(MetricsError::Line { line, reason });
            }
            Ok(Self {
                line: text.to_owned(),
                prompt,
                tag,
            })
        };
        objects(text).map(prompt).collect()
    }
}

/// One line of the evaluator's `results.jsonl`: what it found in an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GenevalResult {
    /// The image, as the evaluator was given it.
    #[serde(default)]
    pub filename: String,
    /// Category of the prompt.
    pub tag: String,
    /// Whether the image shows what was asked for.
    pub correct: bool,
}

impl GenevalResult {
    /// The results of a file's text.
    ///
    /// # Errors
    /// [`MetricsError::Line`] for a line that is no such object.
    pub fn read_all(text: &str) -> Result<Vec<Self>, MetricsError> {
        let result = |object: Object<'_, Self>| object.map(|(_, _, result)| result);
        objects(text).map(result).collect()
    }
}

/// The images of a tag, and how many of them show what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenevalTag {
    /// Its name.
    pub tag: String,
    /// `correct / count`, in [0, 1].
    pub value: f64,
    /// Images that are right.
    pub correct: usize,
    /// All images.
    pub count: usize,
}

/// The score of the results of GenEval's evaluator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenevalScore {
    /// The **mean of the tags' means**, which is what is published, and not the share of images:
    /// tags have 80 to 100 prompts. In [0, 1].
    pub value: f64,
    /// Images of all tags.
    pub count: usize,
    /// Each tag that occurs: the official ones first, in their order.
    pub tags: Vec<GenevalTag>,
    /// Official tags that do not occur: the score is then of another set of prompts.
    pub missing: Vec<String>,
}

impl GenevalScore {
    /// Of the results of all images.
    ///
    /// # Errors
    /// [`MetricsError::NoResults`] without results.
    pub fn of(results: &[GenevalResult]) -> Result<Self, MetricsError> {
        let mut found: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
        for GenevalResult { tag, correct, .. } in results {
            let [right, images] = found.entry(tag).or_default();
            *right += usize::from(*correct);
            *images += 1;
        }
        let tag = |(tag, [correct, count]): (&str, [usize; 2])| GenevalTag {
            tag: tag.to_owned(),
            value: correct as f64 / count as f64,
            correct,
            count,
        };
        let (mut tags, mut missing) = (Vec::new(), Vec::new());
        for official in GENEVAL_TAGS {
            match found.remove(official) {
                Some(counts) => tags.push(tag((official, counts))),
                None => missing.push(official.to_owned()),
            }
        }
        tags.extend(found.into_iter().map(tag));
        if tags.is_empty() {
            return Err(MetricsError::NoResults);
        }
        Ok(Self {
            value: tags.iter().map(|tag| tag.value).sum::<f64>() / tags.len() as f64,
            count: results.len(),
            tags,
            missing,
        })
    }
}

impl fmt::Display for GenevalScore {
    /// A table of the tags; its last line is the score.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for GenevalTag {
            tag,
            value,
            correct,
            count,
        } in &self.tags
        {
            writeln!(f, "{tag:<14} {correct:>5} of {count:>5}  {value:.4}")?;
        }
        write!(f, "{:<31}{:.4}", "overall", self.value)
    }
}

/// The number of a line, from 1, the line, and the object that it holds.
type Object<'a, T> = Result<(usize, &'a str, T), MetricsError>;

/// The objects of a text with one a line.
fn objects<'a, T: Deserialize<'a>>(text: &'a str) -> impl Iterator<Item = Object<'a, T>> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| match serde_json::from_str(line) {
        Ok(object) => Ok((index + 1, line, object)),
        Err(error) => Err(MetricsError::Line {
            line: index + 1,
            reason: error.to_string(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as the evaluator writes them: of each tag so many right ones of so many.
    fn results(counts: &[(&str, usize, usize)]) -> String {
        let mut text = String::new();
        for (tag, correct, images) in counts {
            for image in 0..*images {
                text += &format!(
                    "{{\"filename\":\"00000\\/samples\\/0000.png\",\"tag\":\"{tag}\",\"prompt\":\"a\",\
                     \"correct\":{},\"reason\":\"\",\"metadata\":\"{{}}\",\"details\":\"{{}}\"}}\n",
                    image < *correct
                );
            }
        }
        text
    }

    fn score(text: &str) -> Result<GenevalScore, MetricsError> {
        GenevalScore::of(&GenevalResult::read_all(text)?)
    }

    #[test]
    fn the_score_is_the_mean_of_tags() {
        let text = results(&[
            ("color_attr", 1, 4),
            ("single_object", 2, 2),
            ("two_object", 1, 2),
            ("counting", 0, 1),
            ("colors", 3, 4),
            ("position", 1, 2),
        ]);
        let results = GenevalResult::read_all(&text).unwrap();
        assert_eq!(results[0].filename, "00000/samples/0000.png");
        let score = GenevalScore::of(&results).unwrap();
        let mean = (0.25 + 1.0 + 0.5 + 0.0 + 0.75 + 0.5) / 6.0;
        assert!((score.value - mean).abs() < 1e-12, "{score:?}");
        // 8 of 15 images are right.
        assert!((score.value - 8.0 / 15.0).abs() > 0.01);
        assert_eq!(score.count, 15);
        let tags: Vec<&str> = score.tags.iter().map(|tag| tag.tag.as_str()).collect();
        assert_eq!(tags, GENEVAL_TAGS);
        assert!(score.missing.is_empty());
        let table = score.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[5], "color_attr         1 of     4  0.2500");
        assert_eq!(lines[6].find("0.5000"), lines[5].find("0.2500"));
    }

    #[test]
    fn tags_of_other_prompts() {
        let score = score(&results(&[("colors", 1, 1), ("texture", 0, 2)])).unwrap();
        assert_eq!(score.value, 0.5);
        assert_eq!(score.tags[1].tag, "texture");
        assert_eq!(score.missing.len(), 5);
    }

    #[test]
    fn lines_of_something_else() {
        assert!(matches!(score("\n \n"), Err(MetricsError::NoResults)));
        let good = results(&[("colors", 1, 1)]);
        for bad in [
            "{",
            "[]",
            "{\"tag\": \"colors\"}",
            "{\"tag\": 1, \"correct\": true}",
        ] {
            let error = score(&format!("{good}\n{bad}\n")).unwrap_err();
            assert!(
                matches!(error, MetricsError::Line { line: 3, .. }),
                "{error}"
            );
        }
        let line = "{\"tag\": \"colors\", \"include\": [{\"class\": \"cup\", \"count\": 1}], \
                    \"prompt\": \"a photo of a red cup\"}";
        let prompts = GenevalPrompt::read_all(&format!("{line}\n")).unwrap();
        let expected = GenevalPrompt {
            line: line.to_owned(),
            prompt: "a photo of a red cup".to_owned(),
            tag: "colors".to_owned(),
        };
        assert_eq!(prompts, [expected]);
        let error = GenevalPrompt::read_all("{\"tag\": \"a\", \"prompt\": \" \"}").unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
