//! What is made of a file of prompts: which images, with which options, into which files, and which
//! of them together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::file_name;
use super::prompt_file::{Entry, Problems};
use crate::generate::args::ImageArgs;
use crate::generate::options;
use crate::generate::template::Templates;

/// A prompt with all its options.
pub struct Line {
    /// Its line in the file, from 1.
    pub number: usize,
    pub args: ImageArgs,
    /// Equal for prompts whose images can be made together.
    pub in_common: String,
    /// Name of its files without ending.
    name: String,
}

/// An image to make.
pub struct BatchImage {
    /// Which of all images, from 0.
    pub position: usize,
    /// Which of the lines, from 0.
    pub line: usize,
    /// Its options: those of the line, with the prompt that its seed makes of the wildcards.
    pub args: ImageArgs,
    pub seed: u64,
    pub path: PathBuf,
}

impl BatchImage {
    /// Its options as they are applied, of those of each line.
    pub fn applied(&self, lines: &[ImageArgs]) -> ImageArgs {
        ImageArgs {
            prompt: Some(self.args.prompt().to_owned()),
            negative: Some(self.args.negative().to_owned()),
            template: self.args.template.clone(),
            seed: Some(self.seed),
            ..lines[self.line].clone()
        }
    }
}

/// The prompts with their options: those of the line over those of the whole run, `of_all`. The
/// `i`-th prompt from 0 has the run's seed plus `i`, unless its line gives another.
pub fn lines(entries: Vec<Entry>, of_all: &ImageArgs, problems: &mut Problems) -> Vec<Line> {
    let mut lines = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let name = match entry.name.as_deref() {
            None => Some(file_name::of_prompt(index + 1, entry.args.prompt())),
            Some(name) => file_name::given(name),
        };
        let Some(name) = name else {
            problems.add(entry.line, "\"name\" has no letter or digit");
            continue;
        };
        let first_seed = of_all.seed.unwrap_or(0);
        let seed = entry.args.seed;
        let seed = seed.unwrap_or_else(|| first_seed.wrapping_add(index as u64));
        let number = entry.line;
        match entry.over(of_all) {
            Ok(args) => lines.push(Line {
                number,
                in_common: in_common(&args),
                args: ImageArgs {
                    seed: Some(seed),
                    ..args
                },
                name,
            }),
            Err(problem) => problems.add(number, problem),
        }
    }
    lines
}

impl Entry {
    /// Its options over those of the whole run.
    fn over(self, of_all: &ImageArgs) -> Result<ImageArgs, String> {
        let mut below = of_all.clone();
        for name in &self.left_out {
            below = options::without(&below, name)?;
        }
        let args = self.args.or(below);
        options::check(&args)?;
        Ok(args)
    }
}

/// What two images must have in common to be made together.
fn in_common(args: &ImageArgs) -> String {
    let args = ImageArgs {
        prompt: None,
        negative: None,
        seed: None,
        count: None,
        style: Vec::new(),
        ..args.clone()
    };
    options::shell_words(&args, '=')
}

/// The images of all prompts in order, each with a file of its own, of this ending.
pub fn images(
    lines: &[Line],
    folder: &Path,
    ending: &str,
    templates: &Templates,
    problems: &mut Problems,
) -> Vec<BatchImage> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut images = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let first = line.args.seed.unwrap_or(0);
        for image in 0..line.args.count() {
            let file = file_name::file(&line.name, image, ending);
            let before = taken.insert(file_name::folded(&file), line.number);
            if let Some(before) = before {
                let problem =
                    format!("{file} is an image of line {before} too: give one another name");
                problems.add(line.number, problem);
                break;
            }
            let seed = first.wrapping_add(image as u64);
            let args = match templates.resolved(&line.args, seed) {
                Ok(args) if args.prompt().trim().is_empty() => {
                    Err("its wildcards make an empty prompt".to_owned())
                }
                args => args,
            };
            match args {
                Ok(args) => images.push(BatchImage {
                    position: images.len(),
                    line: index,
                    args,
                    seed,
                    path: folder.join(file),
                }),
                Err(problem) => {
                    problems.add(line.number, problem);
                    break;
                }
            }
        }
    }
    images
}

/// Images that are made together: of prompts with equal options, at most `size`, in the order of
/// their first ones.
pub fn batches<'a>(
    wanted: &[&'a BatchImage],
    lines: &[Line],
    size: usize,
) -> Vec<Vec<&'a BatchImage>> {
    let mut batches: Vec<Vec<&BatchImage>> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for image in wanted {
        let in_common = lines[image.line].in_common.as_str();
        match open.get(in_common) {
            Some(&batch) if batches[batch].len() < size => batches[batch].push(image),
            _ => {
                open.insert(in_common, batches.len());
                batches.push(vec![image]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An entry as `line` of a file has it.
    fn entry(line: usize, prompt: &str, options: Value) -> Entry {
        let Value::Object(mut options) = options else {
            panic!("{options}")
        };
        options.insert("prompt".to_owned(), prompt.into());
        Entry::new(line, options.into_iter().collect()).unwrap()
    }

    fn args(options: Value) -> ImageArgs {
        serde_json::from_value(options).unwrap()
    }

    #[test]
    fn a_line_goes_before_the_command_line() {
        let entries = vec![
            entry(1, "a", json!({})),
            entry(2, "b", json!({"seed": 5, "count": 2, "size": "96x64"})),
            entry(4, "-c", json!({"apg": false, "name": "See"})),
        ];
        let mut problems = Problems::default();
        let of_all = args(json!({"seed": 40, "size": "64", "apg": true, "apg-eta": 1}));
        let lines = lines(entries, &of_all, &mut problems);
        let images = images(
            &lines,
            Path::new("x"),
            "png",
            &Templates::default(),
            &mut problems,
        );
        problems.check(Path::new("x")).unwrap();
        let made: Vec<_> = images
            .iter()
            .map(|one| {
                (
                    lines[one.line].args.prompt(),
                    one.seed,
                    one.path.to_str().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("a", 40, "x/0001-a.png"),
            ("b", 5, "x/0002-b.png"),
            ("b", 6, "x/0002-b-2.png"),
            ("-c", 42, "x/see.png"),
        ];
        assert_eq!(made, expected);
        let shown: Vec<String> = lines.iter().map(|line| line.in_common.clone()).collect();
        assert_eq!(shown[0], "--size=64x64 --apg --apg-eta=1");
        assert_eq!(shown[1], "--size=96x64 --apg --apg-eta=1");
        assert_eq!(shown[2], "--size=64x64");
    }

    #[test]
    fn equal_options_are_made_together() {
        let entries = [
            entry(1, "a", json!({"count": 3})),
            entry(2, "b", json!({"steps": 2})),
            entry(3, "c", json!({"negative": "x", "seed": 9})),
            entry(4, "d", json!({"steps": 2})),
        ];
        let mut problems = Problems::default();
        let lines = lines(entries.to_vec(), &ImageArgs::default(), &mut problems);
        let images = images(
            &lines,
            Path::new(""),
            "png",
            &Templates::default(),
            &mut problems,
        );
        let wanted: Vec<&BatchImage> = images.iter().collect();
        let made = |size: usize| -> Vec<Vec<usize>> {
            let number =
                |batch: Vec<&BatchImage>| batch.iter().map(|one| lines[one.line].number).collect();
            batches(&wanted, &lines, size)
                .into_iter()
                .map(number)
                .collect()
        };
        assert_eq!(made(1), [[1], [1], [1], [2], [3], [4]]);
        assert_eq!(made(2), [vec![1, 1], vec![1, 3], vec![2, 4]]);
        assert_eq!(made(10), [vec![1, 1, 1, 3], vec![2, 4]]);
    }

    #[test]
    fn what_is_wrong_with_a_line() {
        let entries = vec![
            entry(1, "a", json!({"name": "cat"})),
            entry(3, "c", json!({"name": "CAT"})),
            entry(4, "d", json!({"name": ".."})),
            entry(5, "e", json!({"apg-eta": 1})),
        ];
        let mut problems = Problems::default();
        let lines = lines(entries, &ImageArgs::default(), &mut problems);
        images(
            &lines,
            Path::new(""),
            "png",
            &Templates::default(),
            &mut problems,
        );
        let error = problems.check(Path::new("x.txt")).unwrap_err().to_string();
        for part in [
            "x.txt cannot be used, nothing was made\n  line 3: cat.png is an image of line 1 too",
            "line 4: \"name\" has no letter",
            "line 5: the following required arguments were not provided: --apg",
        ] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    }
}
