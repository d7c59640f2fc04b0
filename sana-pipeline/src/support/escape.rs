//! Text of others, safe to show.

use std::borrow::Cow;

/// The text in one line, without what could act on a terminal or change the order in which it is
/// read: control characters, line breaks and marks of direction become `\n`, `\u{1b}` and the like.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, |c| acts(c) || c == '\n')
}

/// [`escaped`], with line breaks as they are.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escape(text, acts)
}

fn escape(text: &str, wrong: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&wrong) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match wrong(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Whether a terminal may act on the character, other than by ending the line.
fn acts(c: char) -> bool {
    let directions = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
    );
    let separators = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    (c.is_control() && c != '\n') || directions || separators
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_acts_is_escaped() {
        for plain in [
            "",
            "a red circle",
            "grün ⠿ 红 عربي 👩\u{200d}🚀",
            r"C:\new\u{1b}",
        ] {
            assert!(matches!(escaped(plain), Cow::Borrowed(_)), "{plain:?}");
        }
        let hostile = "a\x1b[2J\u{9b}1A\u{202e}b\u{2066}\r\tc\u{7f}\u{2028}\nd";
        let shown = r"a\u{1b}[2J\u{9b}1A\u{202e}b\u{2066}\r\tc\u{7f}\u{2028}";
        assert_eq!(escaped(hostile), format!(r"{shown}\nd"));
        assert_eq!(escaped_lines(hostile), format!("{shown}\nd"));
    }
}
