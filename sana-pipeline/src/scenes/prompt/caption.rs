use rand::{Rng, RngExt};

use super::{Content, ScenePrompt};
use crate::scenes::scene::{Background, ObjectKind, Relation};

pub(super) const COUNT_WORDS: [(usize, &str); 3] = [(2, "two"), (3, "three"), (4, "four")];

/// The choices that leave a caption's meaning alone.
#[derive(Debug, Clone, Copy)]
struct Phrasing {
    article: bool,
    comma: bool,
    to_the: bool,
    background: Place,
    letters: Letters,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    First,
    Last,
    Unnamed,
}

#[derive(Debug, Clone, Copy)]
enum Letters {
    Lower,
    Sentence,
    Upper,
}

impl ScenePrompt {
    /// The plainest phrasing: lower case, articles, `and`, `left of`, the
    /// background last and unnamed when white.
    pub fn canonical(&self) -> String {
        let background = match self.background() {
            Background::White => Place::Unnamed,
            _ => Place::Last,
        };
        Phrasing {
            article: true,
            comma: false,
            to_the: false,
            background,
            letters: Letters::Lower,
        }
        .write(self)
    }

    /// A random phrasing of the prompt; [`parse`](Self::parse) reads each of them.
    ///
    /// A fourth leaves out the articles, a third joins two objects with a comma,
    /// half say `to the left of`, a third name a white background, a third name
    /// the background first, and three in ten use capitals.
    pub fn caption<R: Rng + ?Sized>(&self, rng: &mut R) -> String {
        let background = if self.background() == Background::White && rng.random_bool(2.0 / 3.0) {
            Place::Unnamed
        } else if rng.random_bool(1.0 / 3.0) {
            Place::First
        } else {
            Place::Last
        };
        let letters = match rng.random_range(0..20) {
            0..14 => Letters::Lower,
            14..18 => Letters::Sentence,
            _ => Letters::Upper,
        };
        Phrasing {
            article: rng.random_bool(0.75),
            comma: rng.random_bool(1.0 / 3.0),
            to_the: rng.random_bool(0.5),
            background,
            letters,
        }
        .write(self)
    }
}

impl Phrasing {
    fn write(self, prompt: &ScenePrompt) -> String {
        let article = if self.article { "a " } else { "" };
        let background = format!("on {article}{} background", prompt.background());
        let objects = self.objects(prompt.content());
        let text = match self.background {
            Place::First => format!("{background}, {objects}"),
            Place::Last => format!("{objects} {background}"),
            Place::Unnamed => objects,
        };
        match self.letters {
            Letters::Lower => text,
            Letters::Sentence => text[..1].to_uppercase() + &text[1..],
            Letters::Upper => text.to_uppercase(),
        }
    }

    fn objects(self, content: Content) -> String {
        match content {
            Content::One(kind) => self.object(kind),
            Content::Several { count, kind } => {
                let number = COUNT_WORDS
                    .iter()
                    .find(|(value, _)| *value == count)
                    .map_or("several", |(_, word)| word);
                let size = kind
                    .size
                    .word()
                    .map_or(String::new(), |word| format!("{word} "));
                format!("{number} {size}{} {}", kind.color, kind.shape.plural())
            }
            Content::Pair(first, second) => {
                let join = if self.comma { "," } else { " and" };
                format!("{}{join} {}", self.object(first), self.object(second))
            }
            Content::Related(first, relation, second) => {
                let sideways = matches!(relation, Relation::LeftOf | Relation::RightOf);
                let to_the = if self.to_the && sideways {
                    "to the "
                } else {
                    ""
                };
                format!(
                    "{} {to_the}{relation} {}",
                    self.object(first),
                    self.object(second)
                )
            }
        }
    }

    fn object(self, kind: ObjectKind) -> String {
        let name = kind.to_string();
        match (self.article, name.starts_with('o')) {
            (false, _) => name,
            (true, true) => format!("an {name}"),
            (true, false) => format!("a {name}"),
        }
    }
}
