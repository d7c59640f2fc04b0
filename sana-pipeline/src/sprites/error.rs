use std::path::PathBuf;

/// What can be wrong with a folder of sprites or a prompt about them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpriteError {
    /// A file of the folder cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// Images of a size in which things find no room.
    #[error(
        "images of {width} x {height} pixels: expected sides of at least 1, neither more than {most} \
         times the other"
    )]
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The largest aspect ratio.
        most: usize,
    },
    /// A thing that the sheet does not have.
    #[error("there is no thing number {found}: the sheet has {count}")]
    Thing {
        /// The number asked for.
        found: usize,
        /// How many there are.
        count: usize,
    },
    /// A text that is no caption.
    #[error("\"{text}\" is no caption of the sheet: expected {expected}, found {found}")]
    Caption {
        /// The whole text.
        text: String,
        /// What could have been there.
        expected: &'static str,
        /// What was.
        found: String,
    },
    /// A number of things that captions have no word for.
    #[error("expected two or three {thing}, found {found}")]
    Count {
        /// What they are.
        thing: String,
        /// The number asked for.
        found: usize,
    },
    /// A thing that has no plural is counted.
    #[error("\"{thing}\" cannot be counted")]
    Uncountable {
        /// The thing.
        thing: String,
    },
    /// A sheet of so few things that none of its prompts is held out, or no prompts are asked for.
    #[error("there are no held-out prompts: the sheet has too few things, or none are asked for")]
    NoPrompts,
    /// The two things of a pair are the same.
    #[error("the two things are both \"{thing}\": they must differ")]
    Indistinct {
        /// What both are.
        thing: String,
    },
}
