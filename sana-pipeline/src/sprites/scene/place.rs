use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::placed::PlacedSprite;
use crate::scenes::Relation;
use crate::sprites::backdrop::Backdrop;
use crate::sprites::sheet::SpriteSheet;

/// Longer sides of one, two and three things, in units of the square root of the image's area.
const SIZES: [(f32, f32); 3] = [(0.48, 0.66), (0.36, 0.46), (0.28, 0.35)];
/// Longer sides in a crowd.
const CROWD_SIZES: (f32, f32) = (0.25, 0.66);
/// Least distance to the edge of the image.
const MARGIN: f32 = 0.03;
/// Least distance between two bounding boxes.
const GAP: f32 = 0.04;
/// Lowest place of a thing on the ground, as a share of the height.
const LOWEST: f32 = 0.95;
/// Turned by up to this, in radians: six degrees.
const TURN: f32 = 0.105;
/// With a relation the centres are this far apart in its direction, and this many times as far as aside.
const RELATION_DISTANCE: f32 = 0.2;
const RELATION_RATIO: f32 = 1.4;
/// Arrangements tried before the things become smaller by [`SMALLER`].
const ARRANGEMENTS: usize = 60;
const SMALLER: f32 = 0.9;

/// Puts things into an image of `size`, the first two in `relation` if there is one. It ends at the
/// sizes that are allowed: things become smaller until they find room.
pub(super) fn place<R: Rng + ?Sized>(
    sheet: &SpriteSheet,
    rng: &mut R,
    (backdrop, backdrop_seed): (Backdrop, u64),
    things: &[usize],
    relation: Option<Relation>,
    size: [usize; 2],
) -> Vec<PlacedSprite> {
    let ground = backdrop.has_ground().then(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(backdrop_seed);
        backdrop.ground(&mut rng)
    });
    let sizes = SIZES[things.len().clamp(1, SIZES.len()) - 1];
    let mut scale = 1.0;
    loop {
        for _ in 0..ARRANGEMENTS {
            let mut sprites = Vec::with_capacity(things.len());
            // Of a relation that is above or below, one thing floats.
            let floating = match relation {
                Some(Relation::Above) => Some(0),
                Some(Relation::Below) => Some(1),
                _ => None,
            };
            for (index, &thing) in things.iter().enumerate() {
                let longer = scale * rng.random_range(sizes.0..sizes.1);
                let ground = ground.filter(|_| floating != Some(index));
                let mut sprite = unplaced(sheet, rng, thing, longer, size);
                sprite.grounded = ground.is_some()
                    || matches!(backdrop, Backdrop::Plain(_)) && floating != Some(index);
                sprite.center = anywhere(rng, &sprite, ground, size);
                sprites.push(sprite);
            }
            if fits(&sprites, relation, size) {
                return sprites;
            }
        }
        scale *= SMALLER;
    }
}

/// Puts those of the things into an image that find a place apart from the earlier ones.
pub(super) fn crowd<R: Rng + ?Sized>(
    sheet: &SpriteSheet,
    rng: &mut R,
    things: &[usize],
    size: [usize; 2],
) -> Vec<PlacedSprite> {
    let mut sprites: Vec<PlacedSprite> = Vec::new();
    for &thing in things {
        let longer = rng.random_range(CROWD_SIZES.0..CROWD_SIZES.1);
        let mut sprite = unplaced(sheet, rng, thing, longer, size);
        sprite.grounded = rng.random_bool(0.5);
        for _ in 0..ARRANGEMENTS {
            let [width, height] = size.map(|side| side as f32);
            sprite.center = (rng.random_range(0.0..width), rng.random_range(0.0..height));
            if sprites.iter().all(|other| gap(&sprite, other) >= 0.0) {
                sprites.push(sprite);
                break;
            }
        }
    }
    sprites
}

fn unit([width, height]: [usize; 2]) -> f32 {
    ((width * height) as f32).sqrt()
}

fn unplaced<R: Rng + ?Sized>(
    sheet: &SpriteSheet,
    rng: &mut R,
    thing: usize,
    longer: f32,
    size: [usize; 2],
) -> PlacedSprite {
    let (width, height) = sheet.sprite(thing).extent;
    let scale = longer * unit(size) / width.max(height);
    PlacedSprite {
        thing,
        center: (0.0, 0.0),
        extent: (scale * width, scale * height),
        angle: rng.random_range(-TURN..TURN),
        mirrored: sheet.things()[thing].mirrors && rng.random_bool(0.5),
        grounded: false,
    }
}

/// A random centre, on the ground if there is one, which begins at a share of the height.
fn anywhere<R: Rng + ?Sized>(
    rng: &mut R,
    sprite: &PlacedSprite,
    ground: Option<f32>,
    size: [usize; 2],
) -> (f32, f32) {
    let [width, height] = size.map(|side| side as f32);
    let (half_width, half_height) = half(sprite.bounding_box());
    let margin = MARGIN * unit(size);
    let mut between = |from: f32, to: f32| match from < to {
        true => rng.random_range(from..to),
        false => (from + to) / 2.0,
    };
    let x = between(margin + half_width, width - margin - half_width);
    let y = match ground {
        None => between(margin + half_height, height - margin - half_height),
        Some(ground) => {
            let highest = (ground + 0.06) * height;
            between(highest, LOWEST * height).max(margin + 2.0 * half_height) - half_height
        }
    };
    (x, y)
}

fn half((width, height): (f32, f32)) -> (f32, f32) {
    (width / 2.0, height / 2.0)
}

/// The distance between two bounding boxes along the axis where it is larger; negative if they overlap.
fn gap(a: &PlacedSprite, b: &PlacedSprite) -> f32 {
    let ((a_width, a_height), (b_width, b_height)) = (a.bounding_box(), b.bounding_box());
    let along = (a.center.0 - b.center.0).abs() - (a_width + b_width) / 2.0;
    let down = (a.center.1 - b.center.1).abs() - (a_height + b_height) / 2.0;
    along.max(down)
}

fn fits(sprites: &[PlacedSprite], relation: Option<Relation>, size: [usize; 2]) -> bool {
    let unit = unit(size);
    let [width, height] = size.map(|side| side as f32);
    let margin = MARGIN * unit - 0.01;
    let inside = |sprite: &PlacedSprite| {
        let (half_width, half_height) = half(sprite.bounding_box());
        let (x, y) = sprite.center;
        x - half_width >= margin
            && y - half_height >= margin
            && x + half_width <= width - margin
            && y + half_height <= height - margin
    };
    let apart = sprites.iter().enumerate().all(|(index, sprite)| {
        sprites[..index]
            .iter()
            .all(|other| gap(sprite, other) >= GAP * unit)
    });
    let related = match (relation, sprites) {
        (Some(relation), [first, second]) => {
            let (along, aside) = relation.along_and_aside(first.center, second.center);
            along >= RELATION_DISTANCE * unit && along > RELATION_RATIO * aside
        }
        _ => true,
    };
    sprites.iter().all(inside) && apart && related
}
