use std::fmt;

use serde::{Deserialize, Serialize};

/// Width and height in pixels of the canvas that the language's lengths refer to.
pub const REFERENCE_CANVAS: f32 = 256.0;

/// What a prompt tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// One object: is it alone, and has it the shape?
    SingleObject,
    /// One object with a size or background named: shape, colour and background.
    #[serde(rename = "colours")]
    Colors,
    /// Two different objects: both there and nothing else.
    TwoObjects,
    /// Two to four objects that are all the same.
    Counting,
    /// Two objects and where the first is, seen from the second.
    Position,
    /// Two objects, each with a size and a colour of its own.
    AttributeBinding,
}

impl Category {
    /// The six categories in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::SingleObject,
        Self::Colors,
        Self::TwoObjects,
        Self::Counting,
        Self::Position,
        Self::AttributeBinding,
    ];

    /// The category's name as reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleObject => "single object",
            Self::Colors => "colours",
            Self::TwoObjects => "two objects",
            Self::Counting => "counting",
            Self::Position => "position",
            Self::AttributeBinding => "attribute binding",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The colour behind the objects, the same in every pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Background {
    /// 255, and what an unnamed background means.
    White,
    /// 0.
    Black,
    /// 128.
    Gray,
}

impl Background {
    /// Every background.
    pub const ALL: [Self; 3] = [Self::White, Self::Black, Self::Gray];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::White => "white",
            Self::Black => "black",
            Self::Gray => "gray",
        }
    }

    /// Red, green and blue in 0..=255.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::White => [255; 3],
            Self::Black => [0; 3],
            Self::Gray => [128; 3],
        }
    }

    /// Whether an object of this colour differs visibly from the background.
    pub fn shows(self, color: Color) -> bool {
        self.rgb() != color.rgb()
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The colour of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are colour words")]
pub enum Color {
    Red,
    Green,
    Blue,
    Yellow,
    Purple,
    Orange,
    White,
    Black,
}

impl Color {
    /// Every colour.
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Green,
        Self::Blue,
        Self::Yellow,
        Self::Purple,
        Self::Orange,
        Self::White,
        Self::Black,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Orange => "orange",
            Self::White => "white",
            Self::Black => "black",
        }
    }

    /// Red, green and blue in 0..=255, before jitter.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [220, 40, 40],
            Self::Green => [40, 160, 60],
            Self::Blue => [40, 80, 220],
            Self::Yellow => [240, 210, 40],
            Self::Purple => [140, 60, 170],
            Self::Orange => [245, 130, 30],
            Self::White => [255; 3],
            Self::Black => [0; 3],
        }
    }

    /// The named colour at the least Euclidean distance in RGB.
    pub fn nearest(rgb: [u8; 3]) -> Self {
        let distance = |color: &Self| -> i32 {
            let difference = |(a, b): (u8, u8)| i32::from(a) - i32::from(b);
            color
                .rgb()
                .into_iter()
                .zip(rgb)
                .map(difference)
                .map(|d| d * d)
                .sum()
        };
        Self::ALL
            .into_iter()
            .min_by_key(distance)
            .unwrap_or(Self::Black)
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The outline of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// A disc.
    Circle,
    /// A square with sides along the axes.
    Square,
    /// An upright triangle with equal sides.
    Triangle,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 3] = [Self::Circle, Self::Square, Self::Triangle];

    /// The word for one of them.
    pub fn word(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
        }
    }

    /// The word for several of them.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
        }
    }

    /// Width and height of the bounding box of a shape that is `extent` across.
    pub fn bounding_box(self, extent: f32) -> (f32, f32) {
        match self {
            Self::Circle | Self::Square => (extent, extent),
            Self::Triangle => (extent, extent * 3f32.sqrt() / 2.0),
        }
    }

    /// Area divided by the area of the bounding box.
    pub fn fill_ratio(self) -> f32 {
        match self {
            Self::Circle => std::f32::consts::FRAC_PI_4,
            Self::Square => 1.0,
            Self::Triangle => 0.5,
        }
    }

    /// The shape whose [`fill_ratio`](Self::fill_ratio) is nearest.
    pub fn nearest(fill_ratio: f32) -> Self {
        let distance = |shape: Self| (shape.fill_ratio() - fill_ratio).abs();
        Self::ALL
            .into_iter()
            .min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
            .unwrap_or(Self::Circle)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How far an object is across.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// 40 px.
    Small,
    /// 64 px, and what an unnamed size means.
    Medium,
    /// 96 px.
    Large,
}

impl Size {
    /// Every size.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The word for it in captions; a medium size is not named.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Small => Some("small"),
            Self::Medium => None,
            Self::Large => Some("large"),
        }
    }

    /// Pixels across on the reference canvas, before the +-10 % of variation.
    pub fn extent(self) -> f32 {
        match self {
            Self::Small => 40.0,
            Self::Medium => 64.0,
            Self::Large => 96.0,
        }
    }

    /// The size of an object whose longer side has this many reference pixels
    /// (thresholds 52 and 80).
    pub fn of_extent(extent: f32) -> Self {
        match extent {
            e if e < 52.0 => Self::Small,
            e if e < 80.0 => Self::Medium,
            _ => Self::Large,
        }
    }
}

/// Where the first of two objects is, seen from the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// At smaller x.
    LeftOf,
    /// At larger x.
    RightOf,
    /// At smaller y.
    Above,
    /// At larger y.
    Below,
}

impl Relation {
    /// Every relation.
    pub const ALL: [Self; 4] = [Self::LeftOf, Self::RightOf, Self::Above, Self::Below];

    /// The shortest phrasing.
    pub fn words(self) -> &'static str {
        match self {
            Self::LeftOf => "left of",
            Self::RightOf => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// The relation of the second object to the first.
    pub fn inverse(self) -> Self {
        match self {
            Self::LeftOf => Self::RightOf,
            Self::RightOf => Self::LeftOf,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }

    /// How far `first` lies from `second` in the relation's direction, and how
    /// far aside (never negative). Points are (x, y) with y growing downwards.
    pub fn along_and_aside(self, first: (f32, f32), second: (f32, f32)) -> (f32, f32) {
        let (x, y) = (first.0 - second.0, first.1 - second.1);
        match self {
            Self::LeftOf => (-x, y.abs()),
            Self::RightOf => (x, y.abs()),
            Self::Above => (-y, x.abs()),
            Self::Below => (y, x.abs()),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.words())
    }
}

/// An object as captions describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the fields are their types")]
pub struct ObjectKind {
    pub size: Size,
    pub color: Color,
    pub shape: Shape,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(size) = self.size.word() {
            write!(f, "{size} ")?;
        }
        write!(f, "{} {}", self.color, self.shape)
    }
}

/// An object in its place. Lengths are in pixels of the reference canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its colour with jitter, 0..=255.
    pub rgb: [u8; 3],
    /// Pixels across: diameter or side.
    pub extent: f32,
    /// Centre of the bounding box, (x, y) with y growing downwards.
    pub center: (f32, f32),
}

impl Object {
    /// Left, top, right and bottom of the bounding box.
    pub fn bounds(&self) -> [f32; 4] {
        let (width, height) = self.kind.shape.bounding_box(self.extent);
        let (x, y) = self.center;
        [
            x - width / 2.0,
            y - height / 2.0,
            x + width / 2.0,
            y + height / 2.0,
        ]
    }
}

/// An image before it is rendered: everything random is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// The colour behind the objects.
    pub background: Background,
    /// The objects, in the order in which the prompt names them.
    pub objects: Vec<Object>,
}
