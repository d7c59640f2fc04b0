//! What is drawn of a file of prompts: which pictures, with which options, into which files, and which
//! of them together.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Command;

use super::file_name;
use super::prompt_file::{Entry, Problems, Setting};
use crate::generate::args::GenerateArgs;
use crate::generate::options::{self, Options};

/// A prompt with all its options.
pub struct Line {
    /// Its line in the file, from 1.
    pub number: usize,
    pub args: GenerateArgs,
    /// Equal for prompts that can be drawn together.
    pub in_common: Options,
    /// Name of its files without ending.
    name: String,
}

/// A picture to make.
pub struct Picture {
    /// Which of the lines, from 0.
    pub line: usize,
    pub seed: u64,
    pub path: PathBuf,
}

/// The prompts with their options: those of the line over those of the command line. The `i`-th
/// prompt from 0 has the run's seed plus `i`, unless its line says another.
pub fn lines(
    entries: Vec<Entry>,
    args: &GenerateArgs,
    options: &Options,
    definition: &mut Command,
    problems: &mut Problems,
) -> Vec<Line> {
    let of_all = options.of_each_picture();
    let mut lines = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let (mut below, mut own) = (of_all.clone(), Options::default());
        for (key, setting) in entry.settings {
            match setting {
                Setting::Value(value) => own.push(&key, Some(OsString::from(value))),
                Setting::On => own.push(&key, None),
                Setting::Off => below.leave_out(&key),
            }
        }
        if !own.has("seed") {
            let seed = args.seed.unwrap_or(0).wrapping_add(index as u64);
            own.push("seed", Some(seed.to_string().into()));
        }
        let name = match entry.name.as_deref() {
            None => Some(file_name::of_prompt(index + 1, &entry.prompt)),
            Some(name) => file_name::given(name),
        };
        let Some(name) = name else {
            problems.add(entry.line, "\"name\" has no letter or digit");
            continue;
        };
        own.prompt = Some(entry.prompt);
        let all = own.over(&below, definition);
        match all.read(definition) {
            Ok(args) => lines.push(Line {
                number: entry.line,
                args,
                in_common: all.in_common(),
                name,
            }),
            Err(error) => problems.add(entry.line, options::told(&error)),
        }
    }
    lines
}

/// The pictures of all prompts in order, each with a file of its own.
pub fn pictures(lines: &[Line], folder: &Path, problems: &mut Problems) -> Vec<Picture> {
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut pictures = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let first = line.args.seed.unwrap_or(0);
        for picture in 0..line.args.count {
            let file = file_name::file(&line.name, picture);
            let before = taken.insert(file_name::folded(&file), line.number);
            if let Some(before) = before {
                let problem =
                    format!("{file} is a picture of line {before} too: name one otherwise");
                problems.add(line.number, problem);
                break;
            }
            pictures.push(Picture {
                line: index,
                seed: first.wrapping_add(picture as u64),
                path: folder.join(file),
            });
        }
    }
    pictures
}

/// Pictures that are made together: of prompts with equal settings, at most `size`, in the order of
/// their first ones.
pub fn batches<'a>(wanted: &[&'a Picture], lines: &[Line], size: usize) -> Vec<Vec<&'a Picture>> {
    let mut batches: Vec<Vec<&Picture>> = Vec::new();
    let mut open: HashMap<&Options, usize> = HashMap::new();
    for picture in wanted {
        let in_common = &lines[picture.line].in_common;
        match open.get(in_common) {
            Some(&batch) if batches[batch].len() < size => batches[batch].push(picture),
            _ => {
                open.insert(in_common, batches.len());
                batches.push(vec![picture]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: usize, prompt: &str, settings: &[(&str, &str)]) -> Entry {
        let value = |(key, value): &(&str, &str)| {
            let setting = match *value {
                "true" => Setting::On,
                "false" => Setting::Off,
                value => Setting::Value(value.to_owned()),
            };
            ((*key).to_owned(), setting)
        };
        let mut settings: Vec<_> = settings.iter().map(value).collect();
        let name = settings.iter().position(|(key, _)| key == "name");
        let name = name.map(|at| match settings.remove(at).1 {
            Setting::Value(name) => name,
            other => panic!("{other:?}"),
        });
        Entry {
            line,
            prompt: prompt.to_owned(),
            name,
            settings,
        }
    }

    /// The lines of a file under a command line; what is wrong with them goes into the problems.
    fn lines_of(command: &[&str], entries: Vec<Entry>, problems: &mut Problems) -> Vec<Line> {
        let words = ["generate", "--prompts=x"].iter().chain(command);
        let options = Options::typed(words.map(OsString::from)).unwrap();
        let mut definition = options::definition();
        let args = options.read(&mut definition).unwrap();
        lines(entries, &args, &options, &mut definition, problems)
    }

    #[test]
    fn a_line_goes_before_the_command_line() {
        let entries = vec![
            entry(1, "a", &[]),
            entry(2, "b", &[("seed", "5"), ("count", "2"), ("size", "96x64")]),
            entry(4, "-c", &[("apg", "false"), ("name", "See")]),
        ];
        let mut problems = Problems::default();
        let command = ["--seed=40", "--size=64", "--apg", "--apg-eta=1", "--out=x"];
        let lines = lines_of(&command, entries, &mut problems);
        let pictures = pictures(&lines, Path::new("x"), &mut problems);
        problems.check(Path::new("x")).unwrap();
        let made: Vec<_> = pictures
            .iter()
            .map(|one| {
                (
                    lines[one.line].args.prompt.as_str(),
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
        let shown: Vec<String> = lines
            .iter()
            .map(|line| line.in_common.to_string())
            .collect();
        assert_eq!(shown[0], "--apg --apg-eta=1 --size=64");
        assert_eq!(shown[1], "--apg --apg-eta=1 --size=96x64");
        assert_eq!(shown[2], "--size=64");
    }

    #[test]
    fn equal_settings_are_drawn_together() {
        let entries = [
            entry(1, "a", &[("count", "3")]),
            entry(2, "b", &[("steps", "2")]),
            entry(3, "c", &[("negative", "x"), ("seed", "9")]),
            entry(4, "d", &[("steps", "2")]),
        ];
        let mut problems = Problems::default();
        let lines = lines_of(&[], entries.to_vec(), &mut problems);
        let pictures = pictures(&lines, Path::new(""), &mut problems);
        let wanted: Vec<&Picture> = pictures.iter().collect();
        let drawn = |size: usize| -> Vec<Vec<usize>> {
            let number =
                |batch: Vec<&Picture>| batch.iter().map(|one| lines[one.line].number).collect();
            batches(&wanted, &lines, size)
                .into_iter()
                .map(number)
                .collect()
        };
        assert_eq!(drawn(1), [[1], [1], [1], [2], [3], [4]]);
        assert_eq!(drawn(2), [vec![1, 1], vec![1, 3], vec![2, 4]]);
        assert_eq!(drawn(10), [vec![1, 1, 1, 3], vec![2, 4]]);
    }

    #[test]
    fn what_is_wrong_with_a_line() {
        let entries = vec![
            entry(1, "a", &[("name", "cat")]),
            entry(2, "b", &[("steps", "0")]),
            entry(3, "c", &[("name", "CAT")]),
            entry(4, "d", &[("name", "..")]),
            entry(5, "e", &[("apg", "yes")]),
            entry(6, "f", &[("steps", "true")]),
        ];
        let mut problems = Problems::default();
        let lines = lines_of(&[], entries, &mut problems);
        pictures(&lines, Path::new(""), &mut problems);
        let error = problems.check(Path::new("x.txt")).unwrap_err().to_string();
        for part in [
            "x.txt cannot be used, nothing was made\n  line 2: invalid value '0' for '--steps <N>'",
            "line 3: cat.png is a picture of line 1 too",
            "line 4: \"name\" has no letter",
            "line 5: unexpected value 'yes' for '--apg'",
            "line 6: a value is required for '--steps <N>'",
        ] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
    }
}
