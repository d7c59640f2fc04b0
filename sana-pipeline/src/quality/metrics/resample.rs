//! Resizing as Pillow does it, bit for bit: measures depend on it, so it has to be the same. It is that
//! of Pillow 11 and before; 13 takes columns first where that is less work, which changes single
//! values where one side grows and the other shrinks.
//!
//! Each pass weighs the pixels under a filter that widens when an image shrinks (antialiasing), with
//! weights rounded to 22 bits, and rounds to eight bits: rows first, then columns.

use std::ops::Range;

use image::imageops;

use crate::image::RgbImage;

/// Bits of a weight after the point.
const PRECISION: u32 = 22;

/// A filter of Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Bilinear,
    /// Keys' cubic with a = -1/2.
    Bicubic,
}

impl Filter {
    /// Half of its width where nothing shrinks.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// The pixels that make one, and their weights.
struct Window {
    first: usize,
    weights: Vec<i64>,
}

/// Those of the pixels `kept` of `to` that `from` are resized to.
fn windows(from: u32, to: u32, kept: Range<u32>, filter: Filter) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let widened = scale.max(1.0);
    let support = filter.support() * widened;
    kept.map(|pixel| {
        let center = (f64::from(pixel) + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from as usize);
        let place = |index: usize| (index as f64 - center + 0.5) / widened;
        let weights: Vec<f64> = (first..end).map(|index| filter.at(place(index))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: f64| (weight / sum * f64::from(1 << PRECISION)).round() as i64;
        Window {
            first,
            weights: weights.into_iter().map(fixed).collect(),
        }
    })
    .collect()
}

/// A part of an image of another size: `columns` and `rows` of the `width` x `height` pixels that it
/// is resized to. Nothing else is computed.
pub(super) fn resize(
    image: &RgbImage,
    [width, height]: [u32; 2],
    [columns, rows]: [Range<u32>; 2],
    filter: Filter,
) -> RgbImage {
    // A side that stays is not filtered.
    let narrow = match image.width() == width {
        true => imageops::crop_imm(
            image,
            columns.start,
            0,
            columns.len() as u32,
            image.height(),
        )
        .to_image(),
        false => {
            let windows = windows(image.width(), width, columns, filter);
            RgbImage::from_fn(windows.len() as u32, image.height(), |x, y| {
                weighed(&windows[x as usize], |index| *image.get_pixel(index, y))
            })
        }
    };
    if narrow.height() == height {
        let rows = [rows.start, rows.len() as u32];
        return imageops::crop_imm(&narrow, 0, rows[0], narrow.width(), rows[1]).to_image();
    }
    let windows = windows(narrow.height(), height, rows, filter);
    RgbImage::from_fn(narrow.width(), windows.len() as u32, |x, y| {
        weighed(&windows[y as usize], |index| *narrow.get_pixel(x, index))
    })
}

fn weighed(window: &Window, pixel: impl Fn(u32) -> image::Rgb<u8>) -> image::Rgb<u8> {
    let mut sums = [1_i64 << (PRECISION - 1); 3];
    for (index, weight) in window.weights.iter().enumerate() {
        let image::Rgb(values) = pixel((window.first + index) as u32);
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += weight * i64::from(value);
        }
    }
    image::Rgb(sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8))
}

/// Width and height whose shorter one is `side`, the other rounded down.
pub(super) fn shorter_side(image: &RgbImage, side: u32) -> [u32; 2] {
    let (width, height) = image.dimensions();
    let longer =
        |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
    match width <= height {
        true => [side, longer(height, width)],
        false => [longer(width, height), side],
    }
}

#[cfg(test)]
mod tests {
    use sana_linear_attn::parity::Fixture;

    use super::*;
    use crate::quality::metrics::tests::formula_image;

    #[test]
    fn every_pixel_is_pillow_s() {
        let fixture = Fixture::open(env!("CARGO_MANIFEST_DIR"), "metrics/pillow.safetensors");
        let size = |text: &str| {
            let (width, height) = text.split_once('x').unwrap();
            [width, height].map(|side| side.parse::<u32>().unwrap())
        };
        let names = fixture.names();
        assert_eq!(names.len(), 16);
        for name in names {
            let parts: Vec<&str> = name.split('.').collect();
            let [from, filter, to] = parts[..] else {
                panic!("{name}")
            };
            let [width, height] = size(from);
            let filter = match filter {
                "bicubic" => Filter::Bicubic,
                _ => Filter::Bilinear,
            };
            let image = formula_image(width, height);
            let [width, height] = size(to);
            let resized = resize(&image, [width, height], [0..width, 0..height], filter);
            let kept = [1..width - 2, 3..height - 1];
            let part = resize(&image, [width, height], kept, filter);
            let expected = imageops::crop_imm(&resized, 1, 3, width - 3, height - 4);
            assert_eq!(part, expected.to_image(), "{name}");
            let found: Vec<f64> = resized.as_raw().iter().copied().map(f64::from).collect();
            assert_eq!(found, fixture.values(&name), "{name}");
        }
    }

    #[test]
    fn sides_are_rounded_down() {
        for (size, expected) in [
            ([37, 23], [51, 32]),
            ([23, 37], [32, 51]),
            ([9, 9], [32, 32]),
            ([1, 1000], [32, 32_000]),
        ] {
            let [width, height] = size;
            assert_eq!(shorter_side(&RgbImage::new(width, height), 32), expected);
        }
    }
}
