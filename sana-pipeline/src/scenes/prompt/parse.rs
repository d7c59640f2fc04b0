use std::str::FromStr;

use super::caption::COUNT_WORDS;
use super::{Content, ScenePrompt};
use crate::scenes::error::SceneError;
use crate::scenes::scene::{Background, Color, ObjectKind, Relation, Shape, Size};

impl ScenePrompt {
    /// Reads a caption in any of the language's phrasings:
    ///
    /// ```text
    /// caption    = [background [","]] objects [[","] background] ["."]
    /// background = "on" ["a" | "the"] ("white" | "black" | "gray" | "grey") "background"
    /// objects    = object | number things | object ("and" | ",") object | object relation object
    /// object     = ["a" | "an" | "one"] ["small" | "large"] color shape
    /// number     = "two" | "three" | "four" | "2" | "3" | "4"
    /// relation   = ["to the"] ("left of" | "right of") | "above" | "below"
    /// ```
    ///
    /// Upper and lower case are the same.
    ///
    /// # Errors
    /// [`SceneError::UnexpectedWord`] and [`SceneError::UnexpectedEnd`] for other
    /// texts, and those of [`ScenePrompt::new`].
    pub fn parse(text: &str) -> Result<Self, SceneError> {
        let words = text
            .trim()
            .trim_end_matches('.')
            .to_lowercase()
            .replace(',', " , ")
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let mut reader = Reader { text, words, at: 0 };
        let mut background = reader.background()?;
        if background.is_some() {
            reader.take(",");
        }
        let content = reader.content()?;
        if background.is_none() {
            reader.take(",");
            background = reader.background()?;
        }
        match reader.next() {
            None => Self::new(background.unwrap_or(Background::White), content),
            Some(_) => Err(reader.expected("the end")),
        }
    }
}

impl FromStr for ScenePrompt {
    type Err = SceneError;

    fn from_str(text: &str) -> Result<Self, SceneError> {
        Self::parse(text)
    }
}

struct Reader<'a> {
    text: &'a str,
    words: Vec<String>,
    at: usize,
}

impl Reader<'_> {
    fn next(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }

    /// Steps over `word` if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let found = self.next() == Some(word);
        self.at += usize::from(found);
        found
    }

    /// Steps over the next word and gives its meaning, if it has one.
    fn read<T>(&mut self, meaning: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = meaning(self.next()?);
        self.at += usize::from(value.is_some());
        value
    }

    fn expected(&self, expected: &'static str) -> SceneError {
        let text = self.text.to_owned();
        match self.next() {
            Some(found) => SceneError::UnexpectedWord {
                text,
                expected,
                found: found.to_owned(),
            },
            None => SceneError::UnexpectedEnd { text, expected },
        }
    }

    fn background(&mut self) -> Result<Option<Background>, SceneError> {
        if !self.take("on") {
            return Ok(None);
        }
        let _ = self.take("a") || self.take("the");
        let background = self
            .read(|word| match word {
                "grey" => Some(Background::Gray),
                _ => Background::ALL.into_iter().find(|b| b.word() == word),
            })
            .ok_or_else(|| self.expected("white, black or gray"))?;
        if self.take("background") {
            Ok(Some(background))
        } else {
            Err(self.expected("background"))
        }
    }

    fn content(&mut self) -> Result<Content, SceneError> {
        let count = self.read(|word| {
            let spells =
                |&&(value, name): &&(usize, &str)| name == word || value.to_string() == word;
            COUNT_WORDS.iter().find(spells).map(|&(count, _)| count)
        });
        if let Some(count) = count {
            let kind = self.kind(Shape::plural, "circles, squares or triangles")?;
            return Ok(Content::Several { count, kind });
        }
        let first = self.object()?;
        if self.take("and") {
            return Ok(Content::Pair(first, self.object()?));
        }
        // A comma also comes before a background that comes last.
        if self.next() == Some(",") && self.words.get(self.at + 1).is_none_or(|word| word != "on") {
            self.at += 1;
            return Ok(Content::Pair(first, self.object()?));
        }
        match self.relation()? {
            Some(relation) => Ok(Content::Related(first, relation, self.object()?)),
            None => Ok(Content::One(first)),
        }
    }

    fn object(&mut self) -> Result<ObjectKind, SceneError> {
        let _ = self.take("a") || self.take("an") || self.take("one");
        self.kind(Shape::word, "circle, square or triangle")
    }

    fn kind(
        &mut self,
        shape_word: fn(Shape) -> &'static str,
        shapes: &'static str,
    ) -> Result<ObjectKind, SceneError> {
        let size = self
            .read(|word| Size::ALL.into_iter().find(|size| size.word() == Some(word)))
            .unwrap_or(Size::Medium);
        let color = self
            .read(|word| Color::ALL.into_iter().find(|color| color.word() == word))
            .ok_or_else(|| self.expected("a colour"))?;
        let shape = self
            .read(|word| {
                Shape::ALL
                    .into_iter()
                    .find(|&shape| shape_word(shape) == word)
            })
            .ok_or_else(|| self.expected(shapes))?;
        Ok(ObjectKind { size, color, shape })
    }

    fn relation(&mut self) -> Result<Option<Relation>, SceneError> {
        let to_the = self.take("to");
        if to_the && !self.take("the") {
            return Err(self.expected("the"));
        }
        let relation = self.read(|word| match word {
            "left" => Some(Relation::LeftOf),
            "right" => Some(Relation::RightOf),
            "above" if !to_the => Some(Relation::Above),
            "below" if !to_the => Some(Relation::Below),
            _ => None,
        });
        match relation {
            None if to_the => Err(self.expected("left or right")),
            Some(Relation::LeftOf | Relation::RightOf) if !self.take("of") => {
                Err(self.expected("of"))
            }
            relation => Ok(relation),
        }
    }
}
