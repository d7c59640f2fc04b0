//! Messages of several lines.

use std::error::Error;
use std::fmt::{self, Display};

use sana_pipeline::escaped;

/// A message whose further lines are ours: a line break in what it quotes begins none.
#[derive(Debug)]
pub struct Lines(Vec<String>);

impl Lines {
    /// A first line, and those below it.
    pub fn new(first: &str, more: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let more = more.into_iter();
        let more = more.map(|line| escaped(line.as_ref()).into_owned());
        Self(
            std::iter::once(escaped(first).into_owned())
                .chain(more)
                .collect(),
        )
    }

    /// A text of ours, all of whose lines are.
    pub fn of(text: &str) -> Self {
        let mut lines = text.lines();
        Self::new(lines.next().unwrap_or_default(), lines.map(str::trim_start))
    }
}

impl Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n  "))
    }
}

impl Error for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_begins_no_line() {
        let lines = Lines::new("a\nb", ["c\nerror: d", "e\x1b"]);
        assert_eq!(lines.to_string(), "a\\nb\n  c\\nerror: d\n  e\\u{1b}");
    }
}
