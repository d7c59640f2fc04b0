//! What is behind the things.

mod landscape;
mod painter;

use std::fmt;

use rand::Rng;

use painter::Painter;

/// What is behind the things of a scene, painted by a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are what they show")]
pub enum Backdrop {
    Sky,
    Meadow,
    Sea,
    Beach,
    Snow,
    Night,
    Table,
    Desert,
    Forest,
    City,
    Room,
    Underwater,
    /// Nothing but a colour.
    Plain(PlainColor),
}

/// Colours of a plain backdrop, all of them light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are their names")]
pub enum PlainColor {
    White,
    Pink,
    Yellow,
    Blue,
    Green,
    Gray,
    Purple,
    Orange,
}

impl PlainColor {
    /// Every colour.
    pub const ALL: [Self; 8] = [
        Self::White,
        Self::Pink,
        Self::Yellow,
        Self::Blue,
        Self::Green,
        Self::Gray,
        Self::Purple,
        Self::Orange,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::White => "white",
            Self::Pink => "pink",
            Self::Yellow => "yellow",
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Gray => "gray",
            Self::Purple => "purple",
            Self::Orange => "orange",
        }
    }

    pub(super) fn rgb(self) -> u32 {
        match self {
            Self::White => 0xf4f4f4,
            Self::Pink => 0xf7c6d4,
            Self::Yellow => 0xf8e08e,
            Self::Blue => 0xa9cdf2,
            Self::Green => 0xb5dfb0,
            Self::Gray => 0xb8bcc2,
            Self::Purple => 0xcdb9ec,
            Self::Orange => 0xf8c79a,
        }
    }
}

impl Backdrop {
    /// The painted ones.
    pub const SCENERY: [Self; 12] = [
        Self::Sky,
        Self::Meadow,
        Self::Sea,
        Self::Beach,
        Self::Snow,
        Self::Night,
        Self::Table,
        Self::Desert,
        Self::Forest,
        Self::City,
        Self::Room,
        Self::Underwater,
    ];

    /// Every backdrop: the painted ones, then the plain ones.
    pub fn all() -> impl Iterator<Item = Self> {
        let plain = PlainColor::ALL.into_iter().map(Self::Plain);
        Self::SCENERY.into_iter().chain(plain)
    }

    /// Whether things stand on something, the lower part of the image.
    pub fn has_ground(self) -> bool {
        !matches!(self, Self::Sky | Self::Underwater | Self::Plain(_))
    }

    /// How captions say it, the plainest phrase first. All of them follow the things: "a fox in the snow".
    pub fn phrases(self) -> Vec<String> {
        let phrases: &[&str] = match self {
            Self::Sky => &["in the sky", "up in the sky", "in the clouds"],
            Self::Meadow => &["in a meadow", "on the grass", "in a green meadow"],
            Self::Sea => &["on the sea", "at sea", "on the ocean"],
            Self::Beach => &["on the beach", "on a beach", "on the sand"],
            Self::Snow => &["in the snow", "in winter", "on the snow"],
            Self::Night => &["at night", "under the stars", "in the night"],
            Self::Table => &["on a wooden table", "on a table", "on the table"],
            Self::Desert => &["in the desert", "in a desert", "on sand dunes"],
            Self::Forest => &["in the forest", "in a forest", "in the woods"],
            Self::City => &["in the city", "in a city", "in front of a skyline"],
            Self::Room => &["in a room", "indoors", "on a wooden floor"],
            Self::Underwater => &["underwater", "under water", "under the sea"],
            Self::Plain(color) => {
                let article = if color == PlainColor::Orange {
                    "an"
                } else {
                    "a"
                };
                let color = color.word();
                return vec![
                    format!("on {article} {color} background"),
                    format!("on {color}"),
                    format!("in front of {article} {color} wall"),
                ];
            }
        };
        phrases.iter().map(|&phrase| phrase.to_owned()).collect()
    }

    /// How far down the ground begins as a share of the height, where [`paint`](Self::paint) with a
    /// generator in the same state puts it.
    pub(super) fn ground<R: Rng + ?Sized>(self, rng: &mut R) -> f32 {
        painter::draw_ground(rng)
    }

    /// Paints it: rows of red, green and blue in [0, 1], in the curve of sRGB. Colours, the ground line,
    /// clouds and the like vary with `rng`.
    pub(super) fn paint<R: Rng + ?Sized>(
        self,
        rng: &mut R,
        [width, height]: [usize; 2],
    ) -> Vec<[f32; 3]> {
        let mut painter = Painter::new(rng, width, height);
        match self {
            Self::Sky => landscape::sky(&mut painter),
            Self::Meadow => landscape::meadow(&mut painter),
            Self::Sea => landscape::sea(&mut painter),
            Self::Beach => landscape::beach(&mut painter),
            Self::Snow => landscape::snow(&mut painter),
            Self::Night => landscape::night(&mut painter),
            Self::Table => landscape::table(&mut painter),
            Self::Desert => landscape::desert(&mut painter),
            Self::Forest => landscape::forest(&mut painter),
            Self::City => landscape::city(&mut painter),
            Self::Room => landscape::room(&mut painter),
            Self::Underwater => landscape::underwater(&mut painter),
            Self::Plain(color) => painter.fill(color.rgb()),
        }
        painter.pixels
    }
}

impl fmt::Display for Backdrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Sky => "sky",
            Self::Meadow => "meadow",
            Self::Sea => "sea",
            Self::Beach => "beach",
            Self::Snow => "snow",
            Self::Night => "night",
            Self::Table => "table",
            Self::Desert => "desert",
            Self::Forest => "forest",
            Self::City => "city",
            Self::Room => "room",
            Self::Underwater => "underwater",
            Self::Plain(color) => color.word(),
        };
        f.pad(word)
    }
}
