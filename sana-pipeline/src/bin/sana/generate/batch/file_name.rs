//! Names of image files that every system takes, made of what a user wrote.
//!
//! Letters and digits of any script are kept, in lower case; everything else becomes a hyphen, so
//! there are no separators, no leading or trailing dots and spaces, and nothing that a shell would
//! read. Letters of other scripts are not transliterated: every system of today takes Unicode names,
//! and a transliteration would be wrong for most languages.

/// The most bytes of a prompt in a name. With the number and the ending a name stays below 143 bytes,
/// the shortest limit in use (eCryptfs); most systems allow 255.
const PROMPT_BYTES: usize = 40;
/// The most bytes of a name that was given.
const GIVEN_BYTES: usize = 100;

/// Names that Windows keeps for devices, whatever their ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin", "conout"];
/// Those that a digit follows.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// The name of the `number`-th prompt, without an ending: `0001-a-red-circle`, or `0001` for a
/// prompt without letters and digits.
pub fn of_prompt(number: usize, prompt: &str) -> String {
    let words = plain(prompt, PROMPT_BYTES);
    match words.is_empty() {
        true => format!("{number:04}"),
        false => format!("{number:04}-{words}"),
    }
}

/// A name that the user gave, without an ending; `None` when it has no letter or digit.
pub fn given(name: &str) -> Option<String> {
    let name = plain(name, GIVEN_BYTES);
    match name.is_empty() {
        true => None,
        false if is_device(&name) => Some(format!("{name}_")),
        false => Some(name),
    }
}

/// The file of the `image`-th image from 0 of a prompt: `NAME.png`, `NAME-2.png`, `NAME-3.png` with
/// this ending. So the names stay when more images of the prompt are asked for.
pub fn file(name: &str, image: usize, ending: &str) -> String {
    match image {
        0 => format!("{name}.{ending}"),
        _ => format!("{name}-{}.{ending}", image + 1),
    }
}

/// What two names have in common when a system that knows no upper and lower case takes them for
/// one.
pub fn folded(name: &str) -> String {
    name.to_uppercase()
}

/// Letters and digits with single hyphens between them, at most `limit` bytes, cut between words
/// where there are several.
fn plain(text: &str, limit: usize) -> String {
    let mut plain = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            plain.push(c);
        } else if !is_accent(c) && !plain.is_empty() && !plain.ends_with('-') {
            plain.push('-');
        }
        if plain.len() > limit + 4 {
            break;
        }
    }
    if plain.len() > limit {
        let end = plain.floor_char_boundary(limit);
        let within_a_word = !plain[end..].starts_with('-');
        let words = plain[..end].rfind('-').filter(|_| within_a_word);
        plain.truncate(words.unwrap_or(end));
    }
    plain.truncate(plain.trim_end_matches('-').len());
    plain
}

/// An accent that follows its letter, as some systems write `é`: it is left out.
fn is_accent(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

fn is_device(name: &str) -> bool {
    let numbered = |device: &str| {
        let mut rest = name.strip_prefix(device).unwrap_or_default().chars();
        let digit = |c: char| c.is_ascii_digit() || "¹²³".contains(c);
        rest.next().is_some_and(digit) && rest.next().is_none()
    };
    DEVICES.contains(&name) || NUMBERED_DEVICES.iter().any(|device| numbered(device))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_prompts() {
        for (prompt, expected) in [
            ("A red circle, left of...", "0007-a-red-circle-left-of"),
            ("  ../../etc/passwd\0", "0007-etc-passwd"),
            (
                "ein grüner Kreis, 红色方块!",
                "0007-ein-grüner-kreis-红色方块",
            ),
            ("cafe\u{301} au lait", "0007-cafe-au-lait"),
            ("CON", "0007-con"),
            ("🙂", "0007"),
            ("", "0007"),
            (
                "a small yellow triangle and a large orange circle",
                "0007-a-small-yellow-triangle-and-a-large",
            ),
        ] {
            assert_eq!(of_prompt(7, prompt), expected, "{prompt}");
        }
        assert_eq!(of_prompt(12345, "a"), "12345-a");
        let one_word = "€".repeat(3) + &"é".repeat(100);
        assert_eq!(of_prompt(1, &one_word), format!("0001-{}", "é".repeat(20)));
        // Exactly at the limit, a word is whole.
        let words = format!("{} b", "a".repeat(40));
        assert_eq!(of_prompt(1, &words), format!("0001-{}", "a".repeat(40)));
    }

    #[test]
    fn names_that_were_given() {
        for (name, expected) in [
            ("cat", Some("cat")),
            ("My Cat.png", Some("my-cat-png")),
            ("nul", Some("nul_")),
            ("COM1", Some("com1_")),
            ("lpt³", Some("lpt³_")),
            ("CONIN$", Some("conin_")),
            ("com10", Some("com10")),
            ("coma", Some("coma")),
            ("con sole", Some("con-sole")),
            ("..", None),
            (" / ", None),
        ] {
            assert_eq!(given(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn files() {
        let names = [0, 1, 2].map(|image| file("0001-a", image, "png"));
        assert_eq!(names, ["0001-a.png", "0001-a-2.png", "0001-a-3.png"]);
    }

    /// Any text at all, and text near what Windows reserves.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "(?i)(con|prn|aux|nul|com|lpt|conin|conout)[0-9¹²³$. ]{0,3}",
            "[\\PC./\\\\:*?\"<>|-]{0,200}",
        ]
    }

    fn assert_safe(name: &str) -> Result<(), TestCaseError> {
        prop_assert!(name.len() <= 143, "{} bytes: {name}", name.len());
        let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        prop_assert!(name.chars().all(fits), "{name:?}");
        let first = name.chars().next().unwrap_or('.');
        prop_assert!(first.is_alphanumeric(), "{name:?}");
        let stem = name.strip_suffix(".png").unwrap_or(".");
        prop_assert!(!stem.contains('.'), "{name:?}");
        prop_assert!(!is_device(stem), "{name:?}");
        Ok(())
    }

    proptest! {
        #[test]
        fn every_system_takes_them(text in texts(), number in 1usize..100_000, image in 0usize..10_000) {
            assert_safe(&file(&of_prompt(number, &text), image, "png"))?;
            if let Some(name) = given(&text) {
                assert_safe(&file(&name, image, "png"))?;
            }
        }

        #[test]
        fn no_two_prompts_share_one(texts in prop::collection::vec(texts(), 2..20)) {
            let names = texts.iter().enumerate().flat_map(|(index, text)| {
                let name = of_prompt(index + 1, text);
                (0..3).map(move |image| folded(&file(&name, image, "png")))
            });
            let all: Vec<String> = names.collect();
            let distinct: HashSet<&String> = all.iter().collect();
            prop_assert_eq!(distinct.len(), all.len(), "{:?}", all);
        }
    }
}
