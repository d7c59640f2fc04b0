use rand::{Rng, RngExt};

use super::scene::{Background, Object, ObjectKind, REFERENCE_CANVAS, Relation};

/// Least distance from an object to the edge of the canvas, in reference pixels.
const MARGIN: f32 = 8.0;
/// Least distance between the bounding boxes of two objects.
const GAP: f32 = 10.0;
/// A size varies by this share of itself.
const SIZE_JITTER: f32 = 0.1;
/// Each colour channel varies by this much.
const COLOR_JITTER: i16 = 8;
/// Least difference from the background in some channel. The evaluator sees what
/// differs by more than 60, and purple on gray differs by 68 +- 8: its jitter is
/// drawn again until it shows. Every other pair is above it anyway.
const LEAST_CONTRAST: u8 = 70;
/// In a position prompt the centres are this far apart in the named direction and
/// this many times as far as aside: the evaluator asks for 24 px and for 1.
const RELATION_DISTANCE: f32 = 40.0;
const RELATION_RATIO: f32 = 1.25;
/// Positions tried for an object before the arrangement is given up.
const POSITIONS: usize = 24;
/// Arrangements tried before the sizes are drawn again.
const ARRANGEMENTS: usize = 16;

/// Puts `kinds` on the canvas. The first two stand in `relation`, if there is one.
///
/// Two to four objects always fit, whatever their sizes (four large ones take
/// 2 x 105.6 + 10 of 240 px), so this ends.
pub(super) fn place<R: Rng + ?Sized>(
    rng: &mut R,
    background: Background,
    kinds: &[ObjectKind],
    relation: Option<Relation>,
) -> Vec<Object> {
    let mut objects: Vec<Object> = kinds
        .iter()
        .map(|&kind| unplaced(rng, background, kind))
        .collect();
    loop {
        for object in &mut objects {
            object.extent = extent(rng, object.kind);
        }
        if (0..ARRANGEMENTS).any(|_| arrange(rng, &mut objects, relation)) {
            return objects;
        }
    }
}

/// Puts those of `kinds` on the canvas that find a place clear of the earlier ones.
pub(super) fn crowd<R: Rng + ?Sized>(
    rng: &mut R,
    background: Background,
    kinds: &[ObjectKind],
) -> Vec<Object> {
    let mut placed = Vec::new();
    for &kind in kinds {
        let mut object = unplaced(rng, background, kind);
        object.extent = extent(rng, kind);
        if find_place(rng, &mut object, |object| {
            placed.iter().all(|other| gap(object, other) >= GAP)
        }) {
            placed.push(object);
        }
    }
    placed
}

/// An object with its colour, but without size and place.
fn unplaced<R: Rng + ?Sized>(rng: &mut R, background: Background, kind: ObjectKind) -> Object {
    Object {
        kind,
        rgb: jittered(rng, kind.color.rgb(), background.rgb()),
        extent: 0.0,
        center: (0.0, 0.0),
    }
}

fn extent<R: Rng + ?Sized>(rng: &mut R, kind: ObjectKind) -> f32 {
    kind.size.extent() * rng.random_range(1.0 - SIZE_JITTER..=1.0 + SIZE_JITTER)
}

/// Tries random places until one fits.
fn find_place<R: Rng + ?Sized>(
    rng: &mut R,
    object: &mut Object,
    fits: impl Fn(&Object) -> bool,
) -> bool {
    let (width, height) = object.kind.shape.bounding_box(object.extent);
    (0..POSITIONS).any(|_| {
        object.center = (coordinate(rng, width), coordinate(rng, height));
        fits(object)
    })
}

/// Gives each object in turn a random place clear of the earlier ones.
fn arrange<R: Rng + ?Sized>(
    rng: &mut R,
    objects: &mut [Object],
    relation: Option<Relation>,
) -> bool {
    (0..objects.len()).all(|index| {
        let (placed, rest) = objects.split_at_mut(index);
        find_place(rng, &mut rest[0], |object| {
            placed.iter().all(|other| {
                let related = relation.is_none_or(|relation| {
                    let (along, aside) = relation.along_and_aside(other.center, object.center);
                    along >= RELATION_DISTANCE && along >= RELATION_RATIO * aside
                });
                related && gap(object, other) >= GAP
            })
        })
    })
}

fn coordinate<R: Rng + ?Sized>(rng: &mut R, length: f32) -> f32 {
    let least = MARGIN + length / 2.0;
    rng.random_range(least..=REFERENCE_CANVAS - least)
}

/// Distance between two bounding boxes along the axis that separates them more.
pub(super) fn gap(a: &Object, b: &Object) -> f32 {
    let ([a_left, a_top, a_right, a_bottom], [b_left, b_top, b_right, b_bottom]) =
        (a.bounds(), b.bounds());
    let horizontal = (a_left - b_right).max(b_left - a_right);
    let vertical = (a_top - b_bottom).max(b_top - a_bottom);
    horizontal.max(vertical)
}

fn jittered<R: Rng + ?Sized>(rng: &mut R, rgb: [u8; 3], background: [u8; 3]) -> [u8; 3] {
    loop {
        let jittered = rgb.map(|channel| {
            let moved = i16::from(channel) + rng.random_range(-COLOR_JITTER..=COLOR_JITTER);
            moved.clamp(0, 255) as u8
        });
        if jittered
            .iter()
            .zip(background)
            .any(|(a, b)| a.abs_diff(b) >= LEAST_CONTRAST)
        {
            return jittered;
        }
    }
}
