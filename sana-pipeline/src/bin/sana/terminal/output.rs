//! Standard output and standard error, whose readers may go away.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, Stdout, Write};

use sana_pipeline::{escaped, escaped_lines};
use serde::Serialize;

/// Standard output, or nothing once whoever read it has gone, as in `sana inspect DIR | head -1`:
/// the work continues, and an image is written all the same. What could act on a terminal is escaped,
/// except for line breaks: [`line`](Self::line) escapes those too.
pub struct Output<W> {
    to: W,
}

/// Where a command prints its results.
pub fn output() -> Output<Stdout> {
    Output { to: io::stdout() }
}

impl<W: Write> Output<W> {
    /// Prints one line, whatever is in the text.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self, "{}", escaped(&text.to_string()))
    }

    /// Prints a value as JSON.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        writeln!(self, "{}", json_escaped(&text))
    }

    /// Prints a value as JSON on one line.
    pub fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        writeln!(self, "{}", json_escaped(&text))
    }
}

/// JSON whose strings hold nothing that acts on a terminal; it means the same.
fn json_escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match escaped_lines(c.encode_utf8(&mut [0; 4])) {
            Cow::Borrowed(_) => shown.push(c),
            Cow::Owned(_) => {
                let _ = write!(shown, "\\u{:04x}", u32::from(c));
            }
        }
    }
    shown
}

fn unless_closed<T>(result: io::Result<T>, otherwise: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(otherwise),
        Err(error) => {
            let reason = format!("cannot write to standard output: {error}");
            Err(io::Error::new(error.kind(), reason))
        }
        result => result,
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let written = self.to.write_all(escaped_lines(&text).as_bytes());
        unless_closed(written.map(|()| bytes.len()), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        unless_closed(self.to.flush(), ())
    }
}

/// Prints a warning of one line on standard error.
pub fn warning(text: impl Display) {
    complain(&format!("warning: {}\n", escaped(&text.to_string())));
}

/// Prints a note of one line on standard error.
pub fn note(text: impl Display) {
    complain(&format!("note: {}\n", escaped(&text.to_string())));
}

/// Prints whole lines on standard error. Where it is closed or full there is nobody to say it to, and
/// the work is done all the same.
pub fn complain(lines: &str) {
    let _ = io::stderr().write_all(escaped_lines(lines).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_no_error() {
        let mut closed = Output {
            to: Fails(io::ErrorKind::BrokenPipe),
        };
        writeln!(closed, "{}", 1).unwrap();
        closed.flush().unwrap();
        let mut full = Output {
            to: Fails(io::ErrorKind::StorageFull),
        };
        let error = writeln!(full, "{}", 1).unwrap_err().to_string();
        assert!(error.contains("standard output"), "{error}");
        assert!(full.flush().is_err());
    }

    #[test]
    fn nothing_acts_on_the_terminal() {
        let mut out = Output { to: Vec::new() };
        writeln!(out, "a\x1b[2J\nb\u{202e}").unwrap();
        out.line("wrote c\nwrote d").unwrap();
        assert_eq!(
            String::from_utf8(out.to).unwrap(),
            "a\\u{1b}[2J\nb\\u{202e}\nwrote c\\nwrote d\n"
        );
    }

    #[test]
    fn json_means_the_same() {
        let mut out = Output { to: Vec::new() };
        let value = ["a\x1b\u{9b}\u{7f}\n\u{202e}", "ü\\\""];
        out.json(&value).unwrap();
        let text = String::from_utf8(out.to).unwrap();
        assert!(
            !text.contains(['\x1b', '\u{9b}', '\u{7f}', '\u{202e}']),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), value);
    }
}
