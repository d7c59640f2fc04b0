use super::{SpriteContent, SpritePrompt};
use crate::scenes::Relation;
use crate::sprites::backdrop::Backdrop;
use crate::sprites::error::SpriteError;
use crate::sprites::sheet::{SpriteSheet, Thing};
use crate::sprites::words::words;

/// Numbers of things that captions may name; those that [`SpritePrompt::new`] refuses are read for its error.
const NUMBERS: [(&str, usize); 8] = [
    ("two", 2),
    ("2", 2),
    ("three", 3),
    ("3", 3),
    ("four", 4),
    ("4", 4),
    ("five", 5),
    ("5", 5),
];

/// What a caption says: the things and, unless it leaves that open, what is behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpriteCaption {
    content: SpriteContent,
    backdrop: Option<Backdrop>,
}

impl SpriteCaption {
    /// Reads a caption in any phrasing of [`SpritePrompt::caption`]:
    ///
    /// ```text
    /// caption  = ([backdrop [","]] things | things [","] backdrop) ["."]
    /// things   = noun | number plural | noun ("and" | ",") noun | noun relation noun
    /// noun     = ["a" | "an" | "the" | "one"] (name | synonym)
    /// number   = "two" | "three" | "2" | "3"
    /// relation = ["to the"] ("left of" | "right of") | "above" | "below"
    /// backdrop = a phrase of Backdrop::phrases
    /// ```
    ///
    /// Upper and lower case are the same. Of several names, synonyms, plurals or phrases that fit, the
    /// longest is taken.
    ///
    /// # Errors
    /// [`SpriteError::Caption`] for other texts, and those of [`SpritePrompt::new`].
    pub fn parse(text: &str, sheet: &SpriteSheet) -> Result<Self, SpriteError> {
        let mut reader = Reader {
            text,
            words: words(text.trim().trim_end_matches('.')),
            at: 0,
            things: sheet.things(),
            phrases: Backdrop::all()
                .flat_map(|backdrop| {
                    let phrases = backdrop.phrases();
                    phrases
                        .into_iter()
                        .map(move |phrase| (words(&phrase), backdrop))
                })
                .collect(),
        };
        let mut backdrop = reader.backdrop();
        let backdrop_first = backdrop.is_some();
        if backdrop_first {
            reader.take(&[","]);
        }
        let content = reader.content()?;
        if backdrop.is_none() {
            reader.take(&[","]);
            backdrop = reader.backdrop();
        }
        if reader.at < reader.words.len() {
            return Err(reader.expected(match (content, backdrop) {
                (SpriteContent::One(_), None) => "\"and\", a relation, a backdrop or the end",
                (SpriteContent::One(_), Some(_)) if backdrop_first => {
                    "\"and\", a relation or the end"
                }
                (_, None) => "a backdrop or the end",
                _ => "the end",
            }));
        }
        // Which things go together depends on no backdrop.
        SpritePrompt::new(sheet, Backdrop::Sky, content)?;
        Ok(Self { content, backdrop })
    }

    /// The things.
    pub fn content(&self) -> SpriteContent {
        self.content
    }

    /// What is behind them, if the caption says so.
    pub fn backdrop(&self) -> Option<Backdrop> {
        self.backdrop
    }

    /// The prompt that it means, with another backdrop where the caption names none.
    pub fn prompt(&self, otherwise: Backdrop) -> SpritePrompt {
        SpritePrompt {
            backdrop: self.backdrop.unwrap_or(otherwise),
            content: self.content,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    words: Vec<String>,
    at: usize,
    things: &'a [Thing],
    phrases: Vec<(Vec<String>, Backdrop)>,
}

impl Reader<'_> {
    /// Steps over these words if they come next.
    fn take(&mut self, expected: &[&str]) -> bool {
        let found = self.words[self.at..].iter().take(expected.len());
        let found = found.eq(expected.iter());
        self.at += if found { expected.len() } else { 0 };
        found
    }

    /// Steps over the longest of several phrases that comes next, and gives its meaning.
    fn longest<T>(&mut self, phrases: impl Iterator<Item = (Vec<String>, T)>) -> Option<T> {
        let rest = &self.words[self.at..];
        let (length, meaning) = phrases
            .filter(|(phrase, _)| !phrase.is_empty() && rest.starts_with(phrase))
            .map(|(phrase, meaning)| (phrase.len(), meaning))
            .reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        self.at += length;
        Some(meaning)
    }

    fn expected(&self, expected: &'static str) -> SpriteError {
        SpriteError::Caption {
            text: self.text.to_owned(),
            expected,
            found: match self.words[self.at..] {
                [] => "its end".to_owned(),
                ref rest => format!("\"{}\"", rest.join(" ")),
            },
        }
    }

    fn backdrop(&mut self) -> Option<Backdrop> {
        let phrases = self.phrases.clone();
        self.longest(phrases.into_iter())
    }

    fn content(&mut self) -> Result<SpriteContent, SpriteError> {
        for (word, count) in NUMBERS {
            if self.take(&[word]) {
                let thing = self.plural()?;
                return Ok(SpriteContent::Several { count, thing });
            }
        }
        let first = self.noun()?;
        if self.take(&["and"]) {
            return Ok(SpriteContent::Pair(first, self.noun()?));
        }
        let before = self.at;
        if self.take(&[","]) {
            // A comma also comes before a backdrop at the end.
            if self.backdrop().is_none() {
                return Ok(SpriteContent::Pair(first, self.noun()?));
            }
            self.at = before;
        }
        match self.relation()? {
            Some(relation) => Ok(SpriteContent::Related(first, relation, self.noun()?)),
            None => Ok(SpriteContent::One(first)),
        }
    }

    fn noun(&mut self) -> Result<usize, SpriteError> {
        let _ = ["a", "an", "the", "one"]
            .iter()
            .any(|word| self.take(&[word]));
        let names = self.things.iter().enumerate().flat_map(|(index, thing)| {
            let names = thing.synonyms.iter().chain([&thing.name]);
            names.map(move |name| (words(name), index))
        });
        self.longest(names)
            .ok_or_else(|| self.expected("the name of a thing"))
    }

    fn plural(&mut self) -> Result<usize, SpriteError> {
        let plurals = self.things.iter().enumerate().filter_map(|(index, thing)| {
            let plural = thing.plural.as_ref()?;
            Some((words(plural), index))
        });
        self.longest(plurals)
            .ok_or_else(|| self.expected("several of a thing"))
    }

    fn relation(&mut self) -> Result<Option<Relation>, SpriteError> {
        let to_the = self.take(&["to", "the"]);
        let sideways = [
            (["left", "of"], Relation::LeftOf),
            (["right", "of"], Relation::RightOf),
        ];
        for (words, relation) in sideways {
            if self.take(&words) {
                return Ok(Some(relation));
            }
        }
        if to_the {
            return Err(self.expected("left of or right of"));
        }
        let upright = [("above", Relation::Above), ("below", Relation::Below)];
        let found = upright.into_iter().find(|(word, _)| self.take(&[word]));
        Ok(found.map(|(_, relation)| relation))
    }
}
