//! Which backdrop an image has, and which of its pixels show it.

mod fit;
mod recipe;

use super::canvas::Canvas;
use super::pieces::pieces;
use crate::sprites::backdrop::Backdrop;
use fit::{Fit, Row};

/// Of this many pixels in a row one is looked at to find the backdrop.
const STRIDE: usize = 4;
/// Heights of the ground that are tried at first and then.
const GROUNDS: [f32; 3] = [0.53, 0.57, 0.61];
const FINE_GROUNDS: [f32; 10] = [
    0.525, 0.535, 0.545, 0.555, 0.565, 0.575, 0.585, 0.595, 0.605, 0.615,
];
/// Steps by which the best of these is then moved.
const GROUND_STEPS: [f32; 2] = [0.004, 0.002];
/// Backdrops of which a second, closer look is taken.
const CLOSER: usize = 3;
/// The least and the greatest distance at which a pixel is no longer backdrop.
const TOLERANCE: (f32, f32) = (6.0, 18.0);
/// What is this close to the backdrop counts for the noise of the image.
const NOISE: f32 = 20.0;

/// The colours of narrow layers are less sure, by this much.
const NARROW: f32 = 4.0;
/// Edges of the backdrop may be off by this many rows.
const NEAR: usize = 4;
/// A line of at most two pixels among patches is an edge if it differs by no more than this many times the
/// tolerance.
const LIKE_EDGES: f32 = 4.0;
/// A piece is a cloud if this share of it has the colours of clouds.
const CLOUDY: f32 = 0.97;

/// The backdrop of an image.
#[derive(Debug)]
pub(super) struct Scenery {
    pub backdrop: Backdrop,
    /// The pixels that are not backdrop.
    pub visible: Vec<bool>,
    /// What is behind each pixel: itself where it is backdrop.
    pub behind: Vec<[f32; 3]>,
}

impl Scenery {
    /// The backdrop that explains most of an image.
    pub fn find(canvas: &Canvas) -> Self {
        let mut ranking: Vec<([f32; 2], Fit)> = Backdrop::all()
            .map(|backdrop| Fit::best(canvas, backdrop, &GROUNDS, 1, STRIDE))
            .collect();
        ranking.sort_by(|a, b| a.0[1].total_cmp(&b.0[1]));
        let closer = ranking
            .iter()
            .take(CLOSER)
            .map(|(_, fit)| Fit::best(canvas, fit.backdrop(), &FINE_GROUNDS, 2, STRIDE));
        let best = closer.min_by(|a, b| a.0[1].total_cmp(&b.0[1]));
        let fit = match best {
            Some((_, fit)) => fit.refined(canvas, STRIDE, &GROUND_STEPS),
            None => Fit::nominal(Backdrop::Sky, GROUNDS[0], canvas),
        };
        Self::with(canvas, &fit)
    }

    fn with(canvas: &Canvas, fit: &Fit) -> Self {
        let rows: Vec<_> = (0..canvas.height).map(|row| fit.row(canvas, row)).collect();
        let distances: Vec<f32> = canvas
            .pixels
            .iter()
            .enumerate()
            .map(|(index, &pixel)| rows[index / canvas.width].distance(pixel))
            .collect();
        let layers = canvas.pixels.iter().enumerate();
        let layers = layers.map(|(index, &pixel)| rows[index / canvas.width].layer_distance(pixel));
        let mut near: Vec<f32> = layers.filter(|&distance| distance < NOISE).collect();
        near.sort_by(f32::total_cmp);
        let noise = near.get(near.len() / 2).copied().unwrap_or(0.0);
        let tolerance = (3.0 * noise + 3.0).clamp(TOLERANCE.0, TOLERANCE.1);
        let mut visible: Vec<bool> = canvas
            .pixels
            .iter()
            .zip(&distances)
            .enumerate()
            .map(|(index, (&pixel, &distance))| {
                distance > tolerance
                    && rows[index / canvas.width].shaded_distance(pixel) > tolerance
            })
            .collect();
        clear_edges(canvas, &mut visible, &rows, tolerance);
        clear_clouds(canvas, &mut visible, &rows, tolerance);
        let behind = canvas
            .pixels
            .iter()
            .zip(&visible)
            .enumerate()
            .map(|(index, (&pixel, &out))| match out {
                true => rows[index / canvas.width].base,
                false => pixel,
            })
            .collect();
        Self {
            backdrop: fit.backdrop(),
            visible,
            behind,
        }
    }
}

/// Clears what would be backdrop a few rows away, where edges between layers are, and thin lines among
/// patches.
fn clear_edges(canvas: &Canvas, visible: &mut [bool], rows: &[Row], tolerance: f32) {
    let (width, height) = (canvas.width, canvas.height);
    for y in 0..height {
        let near = &rows[y.saturating_sub(NEAR)..(y + NEAR + 1).min(height)];
        if !near.iter().any(|row| row.edges) {
            continue;
        }
        for x in 0..width {
            let pixel = canvas.pixels[y * width + x];
            let out = &mut visible[y * width + x];
            *out = *out
                && near
                    .iter()
                    .all(|row| row.distance(pixel) > tolerance + NARROW);
        }
    }
    let before = visible.to_vec();
    for y in (0..height).filter(|&y| rows[y].patches) {
        for x in 0..width {
            let is_out = |x: usize| x < width && before[y * width + x];
            let [before_last, last, next, after_next] =
                [x.wrapping_sub(2), x.wrapping_sub(1), x + 1, x + 2].map(is_out);
            let line = !(last && (before_last || next) || next && after_next);
            let pixel = canvas.pixels[y * width + x];
            if line && rows[y].distance(pixel) < LIKE_EDGES * tolerance {
                visible[y * width + x] = false;
            }
        }
    }
}

/// Clears pieces that are nothing but clouds over each other.
fn clear_clouds(canvas: &Canvas, visible: &mut [bool], rows: &[Row], tolerance: f32) {
    let (pieces, _) = pieces(canvas, visible);
    for piece in pieces {
        let cloud = |pixel: &&usize| {
            let row = &rows[**pixel / canvas.width];
            row.cloud_distance(canvas.pixels[**pixel]) <= tolerance
        };
        let clouds = piece.pixels.iter().filter(cloud).count();
        if clouds as f32 > CLOUDY * piece.pixels.len() as f32 {
            for pixel in piece.pixels {
                visible[pixel] = false;
            }
        }
    }
}
