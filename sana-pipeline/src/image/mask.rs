//! Masks: which latents and which pixels of an image are kept.
//!
//! A mask is white where the image is regenerated and black where it is kept. Two grids are made of
//! it:
//!
//! - on latents, a cell is regenerated if any pixel of it is at least [`WHITE`] (a maximum over the
//!   `compression x compression` pixels of the cell), so no pixel that is to change depends on a cell
//!   that is kept;
//! - on pixels, the weight of the generated image is `max(value / 255, 1 - d / (feather + 1))`, with
//!   `d` the distance in pixels to the nearest pixel of at least [`WHITE`]. Where it is 0 the pixel
//!   is that of the given image, byte for byte.

use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, RgbImage};
use rayon::prelude::*;

use super::file::shortened;

/// Pixels of a mask from this value on are regenerated. What is darker, such as the noise that JPEG
/// leaves next to an edge, regenerates no cell by itself; it only has a weight in pixels.
pub const WHITE: u8 = 128;

/// Whether a mask leaves anything to generate.
pub(crate) fn has_white(mask: &GrayImage) -> bool {
    mask.as_raw().iter().any(|value| *value >= WHITE)
}

/// A mask resized and cropped to `[width, height]` as [`fit`](super::fit) does with images, but with
/// a triangle for a filter, which leaves no dark or bright fringes next to an edge.
pub(crate) fn fit_mask(mask: &GrayImage, [width, height]: [u32; 2]) -> GrayImage {
    if mask.dimensions() == (width, height) {
        return mask.clone();
    }
    let mask = shortened(DynamicImage::from(mask.clone()), width, height);
    mask.resize_to_fill(width, height, FilterType::Triangle)
        .into_luma8()
}

/// Which cells of the latent grid are kept, row by row: those without a pixel of at least [`WHITE`].
pub(crate) fn kept_cells(mask: &GrayImage, compression: usize) -> Vec<bool> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let (columns, rows) = (width / compression, height / compression);
    let mut kept = vec![true; columns * rows];
    for (x, y, value) in mask.enumerate_pixels() {
        let (column, row) = (x as usize / compression, y as usize / compression);
        if value.0[0] >= WHITE && column < columns && row < rows {
            kept[row * columns + column] = false;
        }
    }
    kept
}

/// The weight in [0, 1] of what was drawn, pixel by pixel.
pub(crate) fn pixel_weights(mask: &GrayImage, feather: u32) -> Vec<f32> {
    let mut weights: Vec<f32> = mask
        .as_raw()
        .iter()
        .map(|value| f32::from(*value) / 255.0)
        .collect();
    if feather == 0 || !has_white(mask) {
        return weights;
    }
    let width = mask.width() as usize;
    let reach = f64::from(feather) + 1.0;
    let down = distances_in_columns(mask);
    let rows = weights.par_chunks_mut(width).zip(down.par_chunks(width));
    rows.for_each_init(
        || (Vec::new(), Vec::new()),
        |(lowest, squares), (weights, down)| {
            squared_distances(down, lowest, squares);
            for (weight, squared) in weights.iter_mut().zip(squares) {
                let ramp = 1.0 - (*squared as f64).sqrt() / reach;
                *weight = weight.max(ramp as f32);
            }
        },
    );
    weights
}

/// How far a pixel is from the nearest one of at least [`WHITE`] in its column, where it has one;
/// else farther than any two pixels of a mask are.
fn distances_in_columns(mask: &GrayImage) -> Vec<u32> {
    let width = mask.width() as usize;
    let far = mask.width() + mask.height();
    let mut distances: Vec<u32> = mask
        .as_raw()
        .iter()
        .map(|value| if *value >= WHITE { 0 } else { far })
        .collect();
    let nearer = |distances: &mut [u32], from: usize, to: usize| {
        for x in 0..width {
            let one_more = distances[from * width + x].saturating_add(1);
            let distance = &mut distances[to * width + x];
            *distance = (*distance).min(one_more);
        }
    };
    let height = mask.height() as usize;
    for y in 1..height {
        nearer(&mut distances, y - 1, y);
    }
    for y in (1..height).rev() {
        nearer(&mut distances, y, y - 1);
    }
    distances
}

/// The squared distances of a row to the nearest white pixel of the whole mask, from its distances
/// in columns: the lower envelope of one parabola for each column (Felzenszwalb and Huttenlocher,
/// 2012), in whole numbers (Meijster, 2000). `lowest` is scratch: columns, and from where each has
/// the lowest parabola.
fn squared_distances(down: &[u32], lowest: &mut Vec<(usize, usize)>, squares: &mut Vec<u64>) {
    let square = |value: u64| value * value;
    let parabola = |x: usize, column: usize| {
        square(x.abs_diff(column) as u64) + square(u64::from(down[column]))
    };
    lowest.clear();
    for column in 0..down.len() {
        while let Some(&(before, from)) = lowest.last()
            && parabola(from, before) > parabola(from, column)
        {
            lowest.pop();
        }
        let Some(&(before, _)) = lowest.last() else {
            lowest.push((column, 0));
            continue;
        };
        // Both at x = 0; the difference grows by 2 (column - before) with each pixel.
        let difference = parabola(0, column) - parabola(0, before);
        let last = difference / (2 * (column - before) as u64);
        if last + 1 < down.len() as u64 {
            lowest.push((column, last as usize + 1));
        }
    }
    squares.clear();
    let mut pieces = lowest.iter().peekable();
    let mut column = 0;
    squares.extend((0..down.len()).map(|x| {
        while let Some((next, _)) = pieces.next_if(|(_, from)| *from <= x) {
            column = *next;
        }
        parabola(x, column)
    }));
}

/// Pixels of weight 0 are the known ones, pixels of weight 1 the drawn ones.
pub(crate) fn blended(mut drawn: RgbImage, known: &RgbImage, weights: &[f32]) -> RgbImage {
    let pixels = drawn.pixels_mut().zip(known.pixels());
    for ((drawn, known), weight) in pixels.zip(weights) {
        for (drawn, known) in drawn.0.iter_mut().zip(known.0) {
            let (from, to) = (f32::from(known), f32::from(*drawn));
            *drawn = (from + weight * (to - from)).round() as u8;
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> GrayImage {
        GrayImage::from_fn(width, height, |x, y| image::Luma([value(x, y)]))
    }

    /// One white pixel is enough for a cell, and none of another cell is.
    #[test]
    fn a_cell_with_a_white_pixel_is_regenerated() {
        for (x, y, cell) in [(3, 3, 0), (4, 3, 1), (11, 7, 5), (0, 4, 3)] {
            let mask = mask(12, 8, |column, row| {
                let bright = if (column, row) == (x, y) { WHITE } else { 0 };
                bright.max(WHITE - 1)
            });
            let kept = kept_cells(&mask, 4);
            let expected: Vec<bool> = (0..6).map(|other| other != cell).collect();
            assert_eq!(kept, expected, "{x}, {y}");
        }
    }

    #[test]
    fn weights_without_a_feather_are_the_mask() {
        let mask = mask(3, 1, |x, _| [0, 51, 255][x as usize]);
        assert_eq!(pixel_weights(&mask, 0), [0.0, 0.2, 1.0]);
    }

    /// Against the distance to every white pixel.
    #[test]
    fn the_feather_falls_with_the_distance() {
        let white = [(4, 3), (5, 3), (13, 9), (0, 11)];
        let mask = mask(17, 12, |x, y| if white.contains(&(x, y)) { 200 } else { 3 });
        for feather in [1, 2, 5, 40, u32::MAX] {
            let weights = pixel_weights(&mask, feather);
            let reach = f64::from(feather) + 1.0;
            for (x, y, value) in mask.enumerate_pixels() {
                let squares = white.map(|(a, b): (u32, u32)| {
                    u64::from(a.abs_diff(x)).pow(2) + u64::from(b.abs_diff(y)).pow(2)
                });
                let nearest = (*squares.iter().min().unwrap() as f64).sqrt();
                let ramp = (1.0 - nearest / reach) as f32;
                let expected = ramp.max(f32::from(value.0[0]) / 255.0);
                let ours = weights[(y * mask.width() + x) as usize];
                assert!((ours - expected).abs() < 1e-6, "{feather}: {x}, {y}");
            }
        }
        // A ramp of two pixels: two thirds and one third, and nothing left at the third.
        let row = GrayImage::from_fn(5, 1, |x, _| image::Luma([if x == 0 { 255 } else { 0 }]));
        let expected = [1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0];
        for (ours, expected) in pixel_weights(&row, 2).iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-6);
        }
        assert_eq!(pixel_weights(&row, 2)[3..], [0.0, 0.0]);
    }

    /// A line is fitted in little memory: resized whole it would be 16 million pixels long.
    #[test]
    fn long_masks_are_fitted() {
        let long = mask(16_384, 1, |x, _| if x < 8192 { 0 } else { 255 });
        let fitted = fit_mask(&long, [1024, 1024]);
        assert_eq!(fitted.dimensions(), (1024, 1024));
        assert_eq!(fitted.get_pixel(0, 9).0, [0]);
        assert_eq!(fitted.get_pixel(1023, 9).0, [255]);
    }

    /// Wide masks with few white pixels, where parabolas of many columns are never the lowest.
    #[test]
    fn distances_of_sparse_masks() {
        for (width, height, step) in [(61, 3, 29), (3, 61, 29), (50, 40, 333), (7, 1, 9)] {
            let mask = mask(width, height, |x, y| {
                if (y * width + x + 1) % step == 0 {
                    WHITE
                } else {
                    0
                }
            });
            let white: Vec<(u32, u32)> = mask
                .enumerate_pixels()
                .filter(|(.., value)| value.0[0] >= WHITE)
                .map(|(x, y, _)| (x, y))
                .collect();
            let down = distances_in_columns(&mask);
            let (mut scratch, mut squares) = (Vec::new(), Vec::new());
            for (y, down) in (0..height).zip(down.chunks(width as usize)) {
                squared_distances(down, &mut scratch, &mut squares);
                for (x, found) in (0..width).zip(&squares) {
                    let all = white.iter().map(|(a, b)| {
                        u64::from(a.abs_diff(x)).pow(2) + u64::from(b.abs_diff(y)).pow(2)
                    });
                    match all.min() {
                        Some(nearest) => assert_eq!(*found, nearest, "{x}, {y}"),
                        None => assert!(*found >= u64::from(width + height).pow(2)),
                    }
                }
            }
        }
        // Nothing white: no weight anywhere.
        assert_eq!(pixel_weights(&mask(7, 2, |_, _| 0), u32::MAX), [0.0; 14]);
    }

    #[test]
    fn blending_keeps_bytes_at_both_ends() {
        let all = |value| {
            RgbImage::from_fn(256, 1, move |x, _| {
                image::Rgb([x as u8, value, 255 - value])
            })
        };
        let (known, drawn) = (all(3), all(250));
        assert_eq!(blended(drawn.clone(), &known, &[0.0; 256]), known);
        assert_eq!(blended(drawn.clone(), &known, &[1.0; 256]), drawn);
        let half = blended(drawn, &known, &[0.5; 256]);
        assert_eq!(half.get_pixel(9, 0).0, [9, 127, 129]);
    }

    #[test]
    fn fitted_masks_have_no_fringes() {
        let halves = mask(64, 32, |x, _| if x < 32 { 0 } else { 255 });
        assert_eq!(fit_mask(&halves, [64, 32]), halves);
        let fitted = fit_mask(&halves, [128, 64]);
        assert_eq!(fitted.dimensions(), (128, 64));
        for (x, y, value) in fitted.enumerate_pixels() {
            match x {
                0..62 => assert_eq!(value.0, [0], "{x}, {y}"),
                66.. => assert_eq!(value.0, [255], "{x}, {y}"),
                _ => {}
            }
        }
    }
}
