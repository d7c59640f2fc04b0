use std::fmt;

use serde::{Deserialize, Serialize};

/// What about an image can be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpriteCategory {
    /// The things are those of the prompt.
    Thing,
    /// So is what is behind them.
    Backdrop,
    /// There are as many.
    Count,
    /// They are where the prompt has them.
    Position,
    /// Everything is right.
    All,
}

impl SpriteCategory {
    /// Every category.
    pub const ALL: [Self; 5] = [
        Self::Thing,
        Self::Backdrop,
        Self::Count,
        Self::Position,
        Self::All,
    ];
}

impl fmt::Display for SpriteCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Thing => "thing",
            Self::Backdrop => "backdrop",
            Self::Count => "count",
            Self::Position => "position",
            Self::All => "all",
        })
    }
}
