use image::RgbImage;

use super::canvas::Canvas;
use super::matching::{Match, Region};
use super::pieces::{Bounds, NONE, Piece, pieces};
use super::pose::covered;
use super::scenery::Scenery;
use super::templates::{Template, templates};
use crate::sprites::backdrop::Backdrop;
use crate::sprites::sheet::SpriteSheet;

/// A region with both sides shorter than this, in units, is no thing.
const LEAST_SIDE: f32 = 0.1;
/// A piece with both sides shorter than this is no thing without a larger one: a star or a flake of snow.
const LEAST_PIECE: f32 = 0.08;
/// Pieces this far apart, in units, may be of one thing.
const REACHES: [f32; 3] = [0.03, 0.08, 0.16];
/// Several pieces are one thing if that is this much better than the largest one alone.
const TOGETHER: f32 = 1.05;
/// A piece is explained where a thing covers this share of it.
const EXPLAINED: f32 = 0.5;
/// A region that differs by more from all things shows none of them.
const UNLIKE: f32 = 0.5;
/// Things of an image that are looked for, at most.
const MOST: usize = 8;

/// Names what images show: the things of a sheet and the backdrops.
#[derive(Debug)]
pub struct SpriteEvaluator {
    templates: Vec<Template>,
    mirrors: Vec<bool>,
    names: Vec<String>,
}

/// What a program sees in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct SpriteObservation {
    /// What is behind the things.
    pub backdrop: Backdrop,
    /// The things, the largest first.
    pub things: Vec<FoundSprite>,
}

/// A region that differs from the backdrop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundSprite {
    /// The number of the thing that it shows, if it shows one.
    pub thing: Option<usize>,
    /// Its middle, in pixels of the image from the upper left corner.
    pub center: (f32, f32),
    /// Width and height, in pixels of the image.
    pub extent: (f32, f32),
    /// How much it differs from the thing in [0, 1]: the root mean square over the pixels, where 1 is a
    /// distance of 90 levels.
    pub difference: f32,
}

impl SpriteEvaluator {
    /// Prepares the images of a sheet for comparison.
    pub fn new(sheet: &SpriteSheet) -> Self {
        Self {
            templates: templates(sheet),
            mirrors: sheet.things().iter().map(|thing| thing.mirrors).collect(),
            names: (sheet.things().iter())
                .map(|thing| thing.name.clone())
                .collect(),
        }
    }

    /// What captions call the things.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Finds the backdrop and the things of an image of any size.
    ///
    /// # Panics
    /// If the image has no pixels.
    pub fn observe(&self, image: &RgbImage) -> SpriteObservation {
        let canvas = Canvas::new(image);
        let scenery = Scenery::find(&canvas);
        let (pieces, owners) = pieces(&canvas, &scenery.visible);
        let least = LEAST_SIDE * canvas.unit();
        let mut left: Vec<bool> = vec![true; pieces.len()];
        let large = |piece: &Piece| piece.bounds.longer() >= LEAST_PIECE * canvas.unit();
        let large: Vec<bool> = pieces.iter().map(large).collect();
        let mut things = Vec::new();
        while things.len() < MOST {
            let groups = groups(&pieces, &left, &large, canvas.unit());
            let mut best: Option<(Match, Vec<bool>, Bounds)> = None;
            for members in groups {
                let bounds = bounds_of(&pieces, &members);
                let Some(bounds) = bounds.filter(|bounds| bounds.longer() >= least) else {
                    continue;
                };
                let region = Region::new(&canvas, &scenery.behind, &owners, &members, bounds);
                if let Some(found) = region.best(&self.templates, &self.mirrors)
                    && best
                        .as_ref()
                        .is_none_or(|(best, ..)| found.difference < TOGETHER * best.difference)
                {
                    best = Some((found, members, bounds));
                }
            }
            let Some((found, members, bounds)) = best else {
                // The largest piece is too small to be a thing.
                match first_large(&left, &large) {
                    Some(piece) => left[piece] = false,
                    None => break,
                }
                continue;
            };
            let template = &self.templates[found.thing];
            let mut shares = vec![0usize; pieces.len()];
            for pixel in covered(&canvas, template, &found.pose) {
                if owners[pixel] != NONE {
                    shares[usize::from(owners[pixel])] += 1;
                }
            }
            for (number, piece) in pieces.iter().enumerate() {
                let covered = shares[number] as f32 > EXPLAINED * piece.pixels.len() as f32;
                left[number] &= !members[number] && !covered;
            }
            things.push(self.found(&canvas, found, bounds));
        }
        SpriteObservation {
            backdrop: scenery.backdrop,
            things,
        }
    }

    fn found(&self, canvas: &Canvas, found: Match, bounds: Bounds) -> FoundSprite {
        let likes = found.difference <= UNLIKE;
        let bounds = match likes {
            true => found.pose.bounds(&self.templates[found.thing]),
            false => bounds,
        };
        let (x, y) = bounds.center();
        let (along, down) = canvas.span;
        FoundSprite {
            thing: likes.then_some(found.thing),
            center: (x * along, y * down),
            extent: (
                (bounds.right - bounds.left) * along,
                (bounds.bottom - bounds.top) * down,
            ),
            difference: found.difference,
        }
    }
}

/// The largest piece that is left, alone and with those near it.
fn groups(pieces: &[Piece], left: &[bool], large: &[bool], unit: f32) -> Vec<Vec<bool>> {
    let Some(first) = first_large(left, large) else {
        return Vec::new();
    };
    let mut members = vec![false; pieces.len()];
    members[first] = true;
    let mut groups = vec![members.clone()];
    for reach in REACHES {
        loop {
            let near = (0..pieces.len()).find(|&piece| {
                left[piece]
                    && !members[piece]
                    && (0..pieces.len()).any(|other| {
                        members[other]
                            && pieces[piece].bounds.distance(pieces[other].bounds) <= reach * unit
                    })
            });
            match near {
                Some(piece) => members[piece] = true,
                None => break,
            }
        }
        if groups.last() != Some(&members) {
            groups.push(members.clone());
        }
    }
    groups
}

fn first_large(left: &[bool], large: &[bool]) -> Option<usize> {
    left.iter()
        .zip(large)
        .position(|(&left, &large)| left && large)
}

fn bounds_of(pieces: &[Piece], members: &[bool]) -> Option<Bounds> {
    let own = pieces.iter().zip(members).filter(|(_, own)| **own);
    own.map(|(piece, _)| piece.bounds).reduce(Bounds::with)
}
