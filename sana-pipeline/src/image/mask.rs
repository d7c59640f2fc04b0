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
    let mask = DynamicImage::from(mask.clone());
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
    if feather == 0 {
        return weights;
    }
    let reach = f64::from(feather) + 1.0;
    for (weight, squared) in weights.iter_mut().zip(squared_distances(mask, feather)) {
        if let Some(squared) = squared {
            let ramp = 1.0 - (squared as f64).sqrt() / reach;
            *weight = weight.max(ramp as f32);
        }
    }
    weights
}

/// The squared distance of every pixel to the nearest one of at least [`WHITE`]; `None` where it is
/// surely more than `reach`. Distances in a column first, then the nearest over the row.
fn squared_distances(mask: &GrayImage, reach: u32) -> Vec<Option<u64>> {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let white: Vec<bool> = mask.as_raw().iter().map(|value| *value >= WHITE).collect();
    let mut in_column: Vec<Option<u64>> = vec![None; white.len()];
    for x in 0..width {
        let mut sweep = |rows: &mut dyn Iterator<Item = usize>| {
            let mut distance: Option<u64> = None;
            for y in rows {
                let at = y * width + x;
                distance = match white[at] {
                    true => Some(0),
                    false => distance.map(|distance| distance + 1),
                };
                in_column[at] = in_column[at].into_iter().chain(distance).min();
            }
        };
        sweep(&mut (0..height));
        sweep(&mut (0..height).rev());
    }
    let reach = reach as usize;
    in_column
        .chunks(width.max(1))
        .flat_map(|row| {
            (0..row.len()).map(move |x| {
                let near = x.saturating_sub(reach)..row.len().min(x.saturating_add(reach + 1));
                near.filter_map(|other| {
                    let across = x.abs_diff(other) as u64;
                    row[other].map(|down| across * across + down * down)
                })
                .min()
            })
        })
        .collect()
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
