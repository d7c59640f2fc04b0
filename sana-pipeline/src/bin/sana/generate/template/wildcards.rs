//! Choices in a prompt: `{red|blue}` is one of both, `__colour__` a line of the file `colour.txt`.
//!
//! Groups may be nested and an alternative may be empty. Braces without `|` inside, and braces
//! without a partner, are text. A backslash makes the `{`, `}`, `|`, `_` or `\` after it text.

use std::fs;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sana_pipeline::image::LARGEST_TEXT;

/// Groups in groups, at most.
const DEEPEST_GROUP: usize = 32;
/// Files that name files, at most.
const DEEPEST_FILE: usize = 8;
/// Lines of files in one text, at most: files that name each other many times would have no end.
const MOST_LINES: usize = 10_000;

/// A prompt, taken apart.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Choice(Vec<Vec<Piece>>),
    File(String),
}

/// Makes the choices of an image.
pub struct Chooser<'a> {
    random: ChaCha8Rng,
    /// The folder of the files; without it `__name__` is text.
    folder: Option<&'a Path>,
    /// Lines of files that were chosen for the text so far.
    chosen_lines: usize,
}

impl<'a> Chooser<'a> {
    /// Equal seeds make equal choices.
    pub fn new(seed: u64, folder: Option<&'a Path>) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            folder,
            chosen_lines: 0,
        }
    }

    /// The text with its choices made, from left to right.
    ///
    /// # Errors
    /// When groups are nested too deeply, a file cannot be read or is empty, files name each other
    /// in a circle, or the text has too many of them.
    pub fn resolve(&mut self, text: &str) -> Result<String, String> {
        self.chosen_lines = 0;
        let mut out = String::with_capacity(text.len());
        let pieces = parsed(text, self.folder.is_some())?;
        self.write(&pieces, 0, &mut out)?;
        Ok(out)
    }

    fn write(&mut self, pieces: &[Piece], depth: usize, out: &mut String) -> Result<(), String> {
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Choice(choices) => {
                    let chosen = self.one_of(choices.len());
                    self.write(&choices[chosen], depth, out)?;
                }
                Piece::File(name) => {
                    if depth == DEEPEST_FILE {
                        return Err(format!(
                            "the files of wildcards name each other: __{name}__"
                        ));
                    }
                    self.chosen_lines += 1;
                    if self.chosen_lines > MOST_LINES {
                        return Err(format!(
                            "the wildcards of the prompt need more than {MOST_LINES} lines of files"
                        ));
                    }
                    let lines = self.lines(name)?;
                    let line = &lines[self.one_of(lines.len())];
                    self.write(&parsed(line, true)?, depth + 1, out)?;
                }
            }
            // What is written in the prompt itself has its limit where requests are validated.
            if !matches!(piece, Piece::Text(_)) && out.len() > LARGEST_TEXT {
                return Err(format!(
                    "with its wildcards the prompt has more than {LARGEST_TEXT} bytes"
                ));
            }
        }
        Ok(())
    }

    /// Written out, so that a choice stays what it is whatever becomes of the crate for random numbers.
    fn one_of(&mut self, count: usize) -> usize {
        (self.random.next_u64() % count as u64) as usize
    }

    /// The lines of a file, of which there is one at least.
    fn lines(&self, name: &str) -> Result<Vec<String>, String> {
        let folder = self.folder.unwrap_or(Path::new(""));
        let path = folder.join(format!("{name}.txt"));
        let literal = || format!("write \\__{name}__ for the text itself");
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}; {}", path.display(), literal()))?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        match lines.is_empty() {
            true => Err(format!("{} has no line to choose", path.display())),
            false => Ok(lines),
        }
    }
}

/// The text with backslashes before all that could be a choice: resolved, it is the text.
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let special = match c {
            '{' | '}' | '|' => true,
            '_' => rest.peek() == Some(&'_'),
            '\\' => rest.peek().is_some_and(|next| is_escaped(*next)),
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn is_escaped(c: char) -> bool {
    matches!(c, '{' | '}' | '|' | '_' | '\\')
}

/// A group that has begun: its alternatives so far.
type Group = Vec<Vec<Piece>>;

fn parsed(text: &str, files: bool) -> Result<Vec<Piece>, String> {
    let mut groups: Vec<Group> = vec![vec![Vec::new()]];
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = after;
        match c {
            '\\' => match after.chars().next().filter(|next| is_escaped(*next)) {
                Some(next) => {
                    push(&mut groups, next);
                    rest = &after[next.len_utf8()..];
                }
                None => push(&mut groups, c),
            },
            '{' if groups.len() > DEEPEST_GROUP => {
                return Err(format!(
                    "more than {DEEPEST_GROUP} groups in each other; write \\{{ for a brace that is text"
                ));
            }
            '{' => groups.push(vec![Vec::new()]),
            '|' if groups.len() > 1 => {
                if let Some(group) = groups.last_mut() {
                    group.push(Vec::new());
                }
            }
            '}' if groups.len() > 1 => {
                let mut group = groups.pop().unwrap_or_default();
                if group.len() > 1 {
                    add(&mut groups, Piece::Choice(group));
                } else {
                    push(&mut groups, '{');
                    let inside = group.pop().unwrap_or_default();
                    inside.into_iter().for_each(|piece| add(&mut groups, piece));
                    push(&mut groups, '}');
                }
            }
            '_' => match file_name(after).filter(|_| files) {
                Some(name) => {
                    add(&mut groups, Piece::File(name.to_owned()));
                    rest = &after[name.len() + 3..];
                }
                None => push(&mut groups, c),
            },
            _ => push(&mut groups, c),
        }
    }
    // Braces that never close are text.
    while groups.len() > 1 {
        let group = groups.pop().unwrap_or_default();
        push(&mut groups, '{');
        for (index, alternative) in group.into_iter().enumerate() {
            if index > 0 {
                push(&mut groups, '|');
            }
            alternative
                .into_iter()
                .for_each(|piece| add(&mut groups, piece));
        }
    }
    Ok(groups
        .pop()
        .and_then(|mut all| all.pop())
        .unwrap_or_default())
}

/// The name in `_name__`, what follows the first underscore of `__name__`: letters, digits, hyphens and
/// single underscores, so that it is a file in the folder and nowhere else.
fn file_name(after: &str) -> Option<&str> {
    let name = after.strip_prefix('_')?;
    let name = &name[..name.find("__")?];
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let ends = |c: char| c.is_alphanumeric();
    let fits = name.starts_with(ends) && name.ends_with(ends) && name.chars().all(inside);
    fits.then_some(name)
}

fn push(groups: &mut [Group], c: char) {
    add(groups, Piece::Text(c.to_string()));
}

fn add(groups: &mut [Group], piece: Piece) {
    let last = groups.last_mut().and_then(|group| group.last_mut());
    let Some(pieces) = last else { return };
    match (pieces.last_mut(), piece) {
        (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
        (_, piece) => pieces.push(piece),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn resolved(text: &str, seed: u64) -> String {
        Chooser::new(seed, None).resolve(text).unwrap()
    }

    /// All that a text can become.
    fn all(text: &str) -> BTreeSet<String> {
        (0..200).map(|seed| resolved(text, seed)).collect()
    }

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn every_alternative_is_chosen() {
        assert_eq!(
            all("a {red|dark {blue|green}|} cat"),
            set(&["a red cat", "a dark blue cat", "a dark green cat", "a  cat"])
        );
        assert_eq!(all("{a|b}{c|d}"), set(&["ac", "ad", "bc", "bd"]));
        // Half of them each, of 200: three standard deviations are 21.
        let red = (0..200).filter(|seed| resolved("{red|blue}", *seed) == "red");
        assert!((79..=121).contains(&red.count()));
    }

    #[test]
    fn a_seed_always_chooses_the_same() {
        let chosen: Vec<String> = (0..6)
            .map(|seed| resolved("{0|1|2|3|4|5|6|7|8|9}", seed))
            .collect();
        assert_eq!(chosen.concat(), CHOSEN);
        assert_eq!(
            resolved("{0|1|2|3|4|5|6|7|8|9}", 3),
            resolved("{0|1|2|3|4|5|6|7|8|9}", 3)
        );
    }

    /// Of seeds 0 to 5, when this was written.
    const CHOSEN: &str = "215583";

    #[test]
    fn what_is_text() {
        for (text, expected) in [
            ("", ""),
            ("a | b", "a | b"),
            ("{\"a\": 1}", "{\"a\": 1}"),
            ("a {b", "a {b"),
            ("a } b", "a } b"),
            ("{a|b", "{a|b"),
            ("a {b {c} d", "a {b {c} d"),
            (r"\{a\|b\}", "{a|b}"),
            (r"\\ \n \(a\)", r"\ \n \(a\)"),
            (r"a\", r"a\"),
            ("__init__", "__init__"),
        ] {
            assert_eq!(all(text), set(&[expected]), "{text}");
        }
        assert_eq!(all(r"{a\|b|c\}}"), set(&["a|b", "c}"]));
        let deep = "{".repeat(40) + "a|b" + &"}".repeat(40);
        let error = Chooser::new(0, None).resolve(&deep).unwrap_err();
        assert!(error.contains("32 groups"), "{error}");
    }

    #[test]
    fn lines_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("colour.txt", "# colours\nred\n\n{dark|light} blue\n");
        write("my_cat-2.txt", "cat of __colour__");
        write("empty.txt", "\n# nothing\n");
        write("loop.txt", "__loop__");
        write("wide.txt", &"__wider__".repeat(20));
        write("wider.txt", &"a".repeat(100_000));
        write("many.txt", &"__more__".repeat(200));
        write("more.txt", &"__nothing__".repeat(200));
        write("nothing.txt", "{|}");
        let resolve = |text: &str, seed| Chooser::new(seed, Some(folder.path())).resolve(text);
        let all: BTreeSet<String> = (0..100)
            .map(|seed| resolve("a __my_cat-2__", seed).unwrap())
            .collect();
        let expected = ["a cat of dark blue", "a cat of light blue", "a cat of red"];
        assert_eq!(all, set(&expected));
        for text in [
            "_colour_",
            "__ __",
            "__../x__",
            "____",
            "__-a__",
            r"\__colour__",
        ] {
            let plain = text.replace('\\', "");
            assert_eq!(resolve(text, 0).unwrap(), plain);
        }
        for (text, expected) in [
            ("__none__", r"write \__none__ for the text itself"),
            ("__empty__", "has no line"),
            ("__loop__", "name each other"),
            ("__wide__", "more than 1048576 bytes"),
            ("__many__", "more than 10000 lines"),
        ] {
            let error = resolve(text, 0).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn literal_text_is_what_it_was(text in "[ab{}|_\\\\ ü]{0,40}", seed: u64) {
            let folder = Path::new("/there is no such folder");
            let escaped = literal(&text);
            let resolved = Chooser::new(seed, Some(folder)).resolve(&escaped);
            prop_assert_eq!(resolved.unwrap(), text.clone());
            if !text.contains(['{', '}', '|', '_', '\\']) {
                prop_assert_eq!(escaped, text);
            }
        }
    }
}
