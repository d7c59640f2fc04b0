use super::scene::{Background, ObjectKind};

/// What can be wrong with a prompt or an image of the scene language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SceneError {
    /// The text has a word where the language has no place for it.
    #[error("\"{text}\" is not in the scene language: expected {expected}, found \"{found}\"")]
    UnexpectedWord {
        /// The whole text.
        text: String,
        /// What could have stood there.
        expected: &'static str,
        /// The word that did.
        found: String,
    },
    /// The text ends too early.
    #[error("\"{text}\" is not in the scene language: expected {expected}, found its end")]
    UnexpectedEnd {
        /// The whole text.
        text: String,
        /// What should have followed.
        expected: &'static str,
    },
    /// An object has the colour of the background.
    #[error("a {object} cannot be seen on a {background} background")]
    Invisible {
        /// The object.
        object: ObjectKind,
        /// The background of the same colour.
        background: Background,
    },
    /// The two objects of a pair are the same.
    #[error("the two objects are both \"{object}\": they must differ in size, colour or shape")]
    Indistinct {
        /// What both are.
        object: ObjectKind,
    },
    /// A number of objects that the language has no word for.
    #[error("expected two to four objects, found {found}")]
    Count {
        /// The number asked for.
        found: usize,
    },
    /// Pixel data whose length is not that of a square image of the stated size.
    #[error("expected {expected} values for an image of {size} x {size} px, found {found}")]
    ImageLength {
        /// Width and height in pixels.
        size: usize,
        /// `3 * size * size`.
        expected: usize,
        /// Length of the data.
        found: usize,
    },
}
