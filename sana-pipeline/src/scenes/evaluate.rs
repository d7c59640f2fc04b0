use std::fmt;

use super::prompt::ScenePrompt;
use super::render::SceneImage;
use super::scene::{
    Background, Category, Color, ObjectKind, REFERENCE_CANVAS, Relation, Shape, Size,
};

/// A pixel belongs to an object when a channel differs from the background by more.
const CONTRAST: u8 = 60;
/// Regions with less area, in reference pixels, are ignored.
const LEAST_AREA: f32 = 60.0;
/// Least distance of the centres in the direction of a relation.
const LEAST_DISTANCE: f32 = 24.0;

/// What a program sees in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The median of the outermost pixels, channel by channel.
    pub background: [u8; 3],
    /// The regions that stand out from it, from the top down.
    pub regions: Vec<Region>,
}

/// A connected region of pixels that differ from the background. Lengths are in
/// pixels of the reference canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// The nearest size, colour and shape.
    pub kind: ObjectKind,
    /// The median colour, channel by channel.
    pub rgb: [u8; 3],
    /// The number of pixels, on the reference canvas.
    pub area: f32,
    /// Centre of the bounding box, (x, y) with y growing downwards.
    pub center: (f32, f32),
    /// Width and height of the bounding box.
    pub extent: (f32, f32),
}

/// Finds the background and the objects of an image.
///
/// A region is a set of pixels, each of which differs from the background by more
/// than 60 in some channel, joined by their sides; one under 60 px is ignored. Its
/// colour is the named one nearest to its median, its shape the one whose
/// area / bounding-box area is nearest, and its size goes by its longer side.
pub fn observe(image: &SceneImage) -> Observation {
    let (size, rgb) = (image.size(), image.rgb());
    let pixel = |index: usize| [rgb[3 * index], rgb[3 * index + 1], rgb[3 * index + 2]];
    let border = (0..size * size).filter(|index| {
        let (x, y) = (index % size, index / size);
        x == 0 || y == 0 || x + 1 == size || y + 1 == size
    });
    let background = median(border.map(pixel));

    let mut waiting: Vec<bool> = (0..size * size)
        .map(|index| {
            pixel(index)
                .iter()
                .zip(background)
                .any(|(a, b)| a.abs_diff(b) > CONTRAST)
        })
        .collect();
    let mut regions = Vec::new();
    let mut members = Vec::new();
    for start in 0..size * size {
        if !std::mem::replace(&mut waiting[start], false) {
            continue;
        }
        members.clear();
        members.push(start);
        let mut next = 0;
        while let Some(&index) = members.get(next) {
            next += 1;
            let (x, y) = (index % size, index / size);
            let neighbours = [
                (x > 0).then(|| index - 1),
                (x + 1 < size).then(|| index + 1),
                (y > 0).then(|| index - size),
                (y + 1 < size).then(|| index + size),
            ];
            for neighbour in neighbours.into_iter().flatten() {
                if std::mem::replace(&mut waiting[neighbour], false) {
                    members.push(neighbour);
                }
            }
        }
        let region = Region::new(&members, size, median(members.iter().copied().map(pixel)));
        if region.area >= LEAST_AREA {
            regions.push(region);
        }
    }
    Observation {
        background,
        regions,
    }
}

impl Region {
    fn new(members: &[usize], size: usize, rgb: [u8; 3]) -> Self {
        let unit = REFERENCE_CANVAS / size as f32;
        let (mut left, mut top, mut right, mut bottom) = (size, size, 0, 0);
        for index in members {
            let (x, y) = (index % size, index / size);
            (left, right) = (left.min(x), right.max(x + 1));
            (top, bottom) = (top.min(y), bottom.max(y + 1));
        }
        let (width, height) = ((right - left) as f32 * unit, (bottom - top) as f32 * unit);
        let area = members.len() as f32 * unit * unit;
        let kind = ObjectKind {
            size: Size::of_extent(width.max(height)),
            color: Color::nearest(rgb),
            shape: Shape::nearest(area / (width * height)),
        };
        let center = (
            (left + right) as f32 * unit / 2.0,
            (top + bottom) as f32 * unit / 2.0,
        );
        Self {
            kind,
            rgb,
            area,
            center,
            extent: (width, height),
        }
    }
}

fn median(pixels: impl Iterator<Item = [u8; 3]>) -> [u8; 3] {
    let mut histograms = [[0usize; 256]; 3];
    let mut count = 0;
    for pixel in pixels {
        count += 1;
        for (histogram, value) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(value)] += 1;
        }
    }
    histograms.map(|histogram| {
        let mut below = 0;
        (0..=u8::MAX)
            .find(|&value| {
                below += histogram[usize::from(value)];
                2 * below >= count
            })
            .unwrap_or(0)
    })
}

/// Whether an image shows its prompt, and if not, why.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    fault: Option<Fault>,
}

impl Verdict {
    /// Whether the image is right.
    pub fn is_right(&self) -> bool {
        self.fault.is_none()
    }

    /// What is wrong with it.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            None => f.write_str("right"),
            Some(fault) => fault.fmt(f),
        }
    }
}

/// The first thing found wrong with an image.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// More or fewer objects than the prompt has.
    #[error("expected {expected} objects, found {found}")]
    Count {
        /// Objects of the prompt.
        expected: usize,
        /// Objects of the image.
        found: usize,
    },
    /// Objects that are not those of the prompt.
    #[error("expected {}, found {}", list(expected), list(found))]
    Objects {
        /// Objects of the prompt.
        expected: Vec<ObjectKind>,
        /// Objects of the image.
        found: Vec<ObjectKind>,
    },
    /// The objects are there, but not where the prompt has them.
    #[error("expected the first object {relation} the second, found it at ({x}, {y}) from there")]
    Relation {
        /// The relation of the prompt.
        relation: Relation,
        /// How far right of the second object's centre the first one's is, in px.
        x: f32,
        /// How far below.
        y: f32,
    },
    /// A background of another colour.
    #[error("expected a {expected} background, found {found:?}")]
    Background {
        /// The background of the prompt.
        expected: Background,
        /// Red, green and blue of the image's.
        found: [u8; 3],
    },
}

fn list(kinds: &[ObjectKind]) -> String {
    let words = |kind: &ObjectKind| match kind.size {
        Size::Medium => format!("medium {kind}"),
        _ => kind.to_string(),
    };
    kinds.iter().map(words).collect::<Vec<_>>().join(" + ")
}

/// Evaluates an image by what the prompt's category asks for:
///
/// | category | what makes it right |
/// |---|---|
/// | single object | one object, of the shape |
/// | colours | one object, its shape and colour, and the background within 60 a channel |
/// | two objects | two objects, each with its shape and colour |
/// | counting | that many objects, all of the shape and colour |
/// | position | as two objects, and the first one's centre at least 24 px from the second's in the direction named, and farther so than aside |
/// | attribute binding | as two objects, each with its size too |
pub fn evaluate(image: &SceneImage, prompt: &ScenePrompt) -> Verdict {
    Verdict {
        fault: check(&observe(image), prompt).err(),
    }
}

fn check(seen: &Observation, prompt: &ScenePrompt) -> Result<(), Fault> {
    let category = prompt.category();
    let expected = prompt.content().kinds();
    let regions = &seen.regions;
    if regions.len() != expected.len() {
        return Err(Fault::Count {
            expected: expected.len(),
            found: regions.len(),
        });
    }

    let fits = |(region, kind): (&Region, &ObjectKind)| {
        region.kind.shape == kind.shape
            && (region.kind.color == kind.color || category == Category::SingleObject)
            && (region.kind.size == kind.size || category != Category::AttributeBinding)
    };
    let straight = regions.iter().zip(&expected).all(fits);
    let crossed = regions.len() == 2 && regions.iter().rev().zip(&expected).all(fits);
    if !straight && !crossed {
        let found = regions.iter().map(|region| region.kind).collect();
        return Err(Fault::Objects { expected, found });
    }

    if let (Some(relation), [a, b]) = (prompt.content().relation(), regions.as_slice()) {
        let holds = |first: &Region, second: &Region| {
            let (along, aside) = relation.along_and_aside(first.center, second.center);
            along >= LEAST_DISTANCE && along > aside
        };
        if !(straight && holds(a, b) || crossed && holds(b, a)) {
            let (first, second) = if straight { (a, b) } else { (b, a) };
            let x = first.center.0 - second.center.0;
            let y = first.center.1 - second.center.1;
            return Err(Fault::Relation { relation, x, y });
        }
    }

    let background = prompt.background();
    let differs = seen
        .background
        .iter()
        .zip(background.rgb())
        .any(|(a, b)| a.abs_diff(b) > CONTRAST);
    if category == Category::Colors && differs {
        return Err(Fault::Background {
            expected: background,
            found: seen.background,
        });
    }
    Ok(())
}
