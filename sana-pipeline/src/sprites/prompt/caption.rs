use rand::{Rng, RngExt};

use super::{SpriteContent, SpritePrompt};
use crate::scenes::Relation;
use crate::sprites::sheet::{SpriteSheet, Thing};

/// The choices that leave a caption's meaning alone.
#[derive(Debug, Clone, Copy)]
struct Phrasing {
    article: bool,
    comma: bool,
    to_the: bool,
    /// Which phrase says the backdrop.
    phrase: usize,
    backdrop: Place,
    capital: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    First,
    Last,
    Unnamed,
}

impl SpritePrompt {
    /// The plainest phrasing: "a fox left of a rocket in the snow".
    pub fn canonical(&self, sheet: &SpriteSheet) -> String {
        let phrasing = Phrasing {
            article: true,
            comma: false,
            to_the: false,
            phrase: 0,
            backdrop: Place::Last,
            capital: false,
        };
        phrasing.write(self, &mut |thing| sheet.things()[thing].name.clone(), sheet)
    }

    /// A random phrasing.
    ///
    /// A fifth leaves out the articles, a fifth joins two things with a comma, half say `to the left of`,
    /// half take another phrase for the backdrop, a fifth name it first, a tenth do not name it, a fifth
    /// of the things have another name where there is one, and a fifth of the captions begin with a
    /// capital.
    pub fn caption<R: Rng + ?Sized>(&self, sheet: &SpriteSheet, rng: &mut R) -> String {
        let phrases = self.backdrop().phrases().len();
        let phrasing = Phrasing {
            article: rng.random_bool(0.8),
            comma: rng.random_bool(0.2),
            to_the: rng.random_bool(0.5),
            phrase: match rng.random_bool(0.5) {
                true => 0,
                false => rng.random_range(1..phrases),
            },
            backdrop: match rng.random_range(0..10) {
                0 => Place::Unnamed,
                1..3 => Place::First,
                _ => Place::Last,
            },
            capital: rng.random_bool(0.2),
        };
        let mut name = |thing: usize| {
            let thing = &sheet.things()[thing];
            match thing.synonyms.is_empty() || rng.random_bool(0.8) {
                true => thing.name.clone(),
                false => thing.synonyms[rng.random_range(0..thing.synonyms.len())].clone(),
            }
        };
        phrasing.write(self, &mut name, sheet)
    }
}

impl Phrasing {
    fn write(
        self,
        prompt: &SpritePrompt,
        name: &mut dyn FnMut(usize) -> String,
        sheet: &SpriteSheet,
    ) -> String {
        let things = self.things(prompt.content(), name, sheet);
        let backdrop = &prompt.backdrop().phrases()[self.phrase];
        let text = match self.backdrop {
            Place::First => format!("{backdrop}, {things}"),
            Place::Last => format!("{things} {backdrop}"),
            Place::Unnamed => things,
        };
        let mut letters = text.chars();
        match (self.capital, letters.next()) {
            (true, Some(first)) => first.to_uppercase().chain(letters).collect(),
            _ => text,
        }
    }

    fn things(
        self,
        content: SpriteContent,
        name: &mut dyn FnMut(usize) -> String,
        sheet: &SpriteSheet,
    ) -> String {
        let mut noun = |thing: usize| self.noun(&sheet.things()[thing], name(thing));
        match content {
            SpriteContent::One(thing) => noun(thing),
            SpriteContent::Several { count, thing } => {
                let thing = &sheet.things()[thing];
                let plural = thing.plural.as_ref().unwrap_or(&thing.name);
                let number = if count == 2 { "two" } else { "three" };
                format!("{number} {plural}")
            }
            SpriteContent::Pair(first, second) => {
                let join = if self.comma { "," } else { " and" };
                format!("{}{join} {}", noun(first), noun(second))
            }
            SpriteContent::Related(first, relation, second) => {
                let sideways = matches!(relation, Relation::LeftOf | Relation::RightOf);
                let to_the = match self.to_the && sideways {
                    true => "to the ",
                    false => "",
                };
                format!("{} {to_the}{relation} {}", noun(first), noun(second))
            }
        }
    }

    /// A thing with its article, which a synonym has by its own first letter.
    fn noun(self, thing: &Thing, name: String) -> String {
        if !self.article || thing.article.is_empty() {
            return name;
        }
        let article = match name == thing.name {
            true => &*thing.article,
            false if name.starts_with(['a', 'e', 'i', 'o']) => "an",
            false => "a",
        };
        format!("{article} {name}")
    }
}
