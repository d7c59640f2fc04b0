//! Edges of images by Canny's method, as control images: white lines on black.

use image::{Rgb, RgbImage};

/// Options of [`edges`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canny {
    /// Standard deviation in pixels of the blur before the gradient is taken: larger leaves fewer
    /// and smoother lines. 0 turns it off.
    pub sigma: f32,
    /// Lines continue where the gradient is at least this, in grey levels of 255 per pixel.
    pub low: f32,
    /// Lines begin where the gradient is at least this.
    pub high: f32,
}

impl Default for Canny {
    /// A blur of 1.4 pixels. It makes of a sharp edge between two greys that differ by `c` a slope
    /// of about `c / 4` per pixel, so that lines begin at differences of about 48 and continue down to
    /// 24.
    fn default() -> Self {
        Self {
            sigma: 1.4,
            low: 6.0,
            high: 12.0,
        }
    }
}

/// The edges of an image as white lines on black, of its size (Canny, 1986): the brightness is
/// blurred, pixels whose gradient (Sobel) is a maximum across its direction are kept, and of these
/// all that are `high`, and those that are `low` and hang together with one that is `high`.
///
/// ```
/// use sana_pipeline::image::{Canny, edges};
/// use sana_pipeline::image::RgbImage;
///
/// let image = RgbImage::new(96, 64);
/// let lines = edges(&image, &Canny::default());
/// assert_eq!(lines, image); // nothing but black has no edges
/// ```
pub fn edges(image: &RgbImage, options: &Canny) -> RgbImage {
    let grey = Grey::of(image).blurred(options.sigma);
    let ridges = ridges(&grey);
    let lines = connected(&ridges, options.low, options.high);
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let index = y as usize * grey.width + x as usize;
        Rgb([if lines[index] { 255 } else { 0 }; 3])
    })
}

/// One number a pixel, in row-major order.
struct Grey {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Grey {
    /// Brightness (ITU-R BT.601) from 0 to 255.
    fn of(image: &RgbImage) -> Self {
        let (width, height) = image.dimensions();
        let brightness = |Rgb([r, g, b]): &Rgb<u8>| {
            0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b)
        };
        Self {
            width: width as usize,
            height: height as usize,
            values: image.pixels().map(brightness).collect(),
        }
    }

    /// Beyond the border the value at the border is repeated.
    fn at(&self, x: isize, y: isize) -> f32 {
        let clamp = |place: isize, length: usize| place.clamp(0, length as isize - 1) as usize;
        self.values[clamp(y, self.height) * self.width + clamp(x, self.width)]
    }

    /// A value for each pixel of its place.
    fn map(&self, value: impl Fn(isize, isize) -> f32) -> Self {
        let rows = 0..self.height as isize;
        let values = rows
            .flat_map(|y| (0..self.width as isize).map(move |x| (x, y)))
            .map(|(x, y)| value(x, y))
            .collect();
        Self { values, ..*self }
    }

    /// Gaussian blur, rows and then columns.
    fn blurred(self, sigma: f32) -> Self {
        let longest = self.width.max(self.height);
        if sigma.is_nan() || sigma <= 0.0 || longest == 0 {
            return self;
        }
        let radius = ((3.0 * sigma).ceil() as usize).min(longest) as isize;
        let weights: Vec<f32> = (-radius..=radius)
            .map(|offset| (-0.5 * (offset as f32 / sigma).powi(2)).exp())
            .collect();
        let sum: f32 = weights.iter().sum();
        let taps = || (-radius..=radius).zip(weights.iter().map(|weight| weight / sum));
        let rows = self.map(|x, y| taps().map(|(o, weight)| weight * self.at(x + o, y)).sum());
        rows.map(|x, y| taps().map(|(o, weight)| weight * rows.at(x, y + o)).sum())
    }
}

/// The size of the gradient in grey levels per pixel where it is a maximum across its direction, 0
/// elsewhere.
fn ridges(grey: &Grey) -> Grey {
    // Sobel's kernels, which sum to 8 for a slope of 1.
    let gradient = |x: isize, y: isize| {
        let at = |dx: isize, dy: isize| grey.at(x + dx, y + dy);
        let across = |sign: isize| at(sign, -1) + 2.0 * at(sign, 0) + at(sign, 1);
        let down = |sign: isize| at(-1, sign) + 2.0 * at(0, sign) + at(1, sign);
        [(across(1) - across(-1)) / 8.0, (down(1) - down(-1)) / 8.0]
    };
    let size = grey.map(|x, y| {
        let [dx, dy] = gradient(x, y);
        dx.hypot(dy)
    });
    grey.map(|x, y| {
        let [dx, dy] = gradient(x, y);
        // The neighbours across the edge, to the nearest of four directions.
        let [ax, ay] = [dx.abs(), dy.abs()];
        let steep = (std::f32::consts::PI / 8.0).tan();
        let along = |slope: f32| if slope < 0.0 { -1 } else { 1 };
        let [sx, sy] = if ay <= steep * ax {
            [1, 0]
        } else if ax <= steep * ay {
            [0, 1]
        } else {
            [1, along(dx * dy)]
        };
        let here = size.at(x, y);
        // On a plateau of two the first is the line.
        if here > size.at(x - sx, y - sy) && here >= size.at(x + sx, y + sy) {
            here
        } else {
            0.0
        }
    })
}

/// Pixels of at least `high`, and of at least `low` that are connected to one of them.
fn connected(ridges: &Grey, low: f32, high: f32) -> Vec<bool> {
    let mut lines: Vec<bool> = ridges
        .values
        .iter()
        .map(|value| *value > 0.0 && *value >= high)
        .collect();
    let mut open: Vec<usize> = (0..lines.len()).filter(|index| lines[*index]).collect();
    while let Some(index) = open.pop() {
        let (x, y) = (index % ridges.width, index / ridges.width);
        let around = |place: usize, length: usize| place.saturating_sub(1)..(place + 2).min(length);
        for y in around(y, ridges.height) {
            for x in around(x, ridges.width) {
                let next = y * ridges.width + x;
                let value = ridges.values[next];
                if !lines[next] && value > 0.0 && value >= low {
                    lines[next] = true;
                    open.push(next);
                }
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of greys.
    fn greys(width: u32, height: u32, grey: impl Fn(u32, u32) -> u8) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([grey(x, y); 3]))
    }

    fn white(lines: &RgbImage) -> Vec<(u32, u32)> {
        let pixels = lines.enumerate_pixels();
        let white = pixels.filter(|(_, _, pixel)| pixel.0 == [255; 3]);
        white.map(|(x, y, _)| (x, y)).collect()
    }

    fn found(image: &RgbImage) -> Vec<(u32, u32)> {
        let lines = edges(image, &Canny::default());
        assert_eq!(lines.dimensions(), image.dimensions());
        let black_or_white = |pixel: &Rgb<u8>| [[0; 3], [255; 3]].contains(&pixel.0);
        assert!(lines.pixels().all(black_or_white));
        white(&lines)
    }

    /// One line of one pixel along each of the four sides, where the change is.
    #[test]
    fn a_square_has_its_outline() {
        let inside = |x: u32, y: u32| (20..50).contains(&x) && (15..35).contains(&y);
        let image = greys(70, 50, |x, y| if inside(x, y) { 220 } else { 30 });
        let lines = found(&image);
        for y in 20..30 {
            let row: Vec<u32> = lines.iter().filter(|p| p.1 == y).map(|p| p.0).collect();
            assert_eq!(row.len(), 2, "{row:?}");
            assert!(
                row[0].abs_diff(19) <= 1 && row[1].abs_diff(49) <= 1,
                "{row:?}"
            );
        }
        for x in 25..45 {
            let column: Vec<u32> = lines.iter().filter(|p| p.0 == x).map(|p| p.1).collect();
            assert_eq!(column.len(), 2, "{column:?}");
        }
        let near = |(x, y): &(u32, u32)| (17..52).contains(x) && (12..37).contains(y);
        assert!(lines.iter().all(near), "{lines:?}");
        // The outline is whole: from any of its pixels all others can be reached.
        let mut reached = vec![lines[0]];
        let mut next = 0;
        while next < reached.len() {
            let (x, y) = reached[next];
            for other in &lines {
                let neighbour = other.0.abs_diff(x) <= 1 && other.1.abs_diff(y) <= 1;
                if neighbour && !reached.contains(other) {
                    reached.push(*other);
                }
            }
            next += 1;
        }
        assert_eq!(reached.len(), lines.len());
    }

    #[test]
    fn slanted_lines_are_found_in_both_directions() {
        for slope in [1i64, -1] {
            let image = greys(60, 60, |x, y| {
                let side = i64::from(y) - 30 - slope * (i64::from(x) - 30);
                if side > 0 { 200 } else { 40 }
            });
            let lines = found(&image);
            let off = |(x, y): &(u32, u32)| i64::from(*y) - 30 - slope * (i64::from(*x) - 30);
            assert!(lines.iter().all(|place| off(place).abs() <= 2), "{lines:?}");
            // A pixel in each column, or two where the line steps.
            let middle = lines.iter().filter(|(x, _)| (10..50).contains(x)).count();
            assert!((40..=80).contains(&middle), "{middle}");
        }
    }

    #[test]
    fn colour_counts_by_its_brightness() {
        let halves = |left: [u8; 3], right: [u8; 3]| {
            RgbImage::from_fn(40, 20, |x, _| Rgb(if x < 20 { left } else { right }))
        };
        assert_eq!(found(&halves([255, 0, 0], [0, 255, 0])).len(), 20);
        assert_eq!(found(&halves([90, 90, 90], [90, 90, 90])).len(), 0);
    }

    /// A faint edge is a line only where it continues a strong one.
    #[test]
    fn faint_edges_need_a_strong_one() {
        let halves = |contrast: u8| greys(40, 20, |x, _| if x < 20 { 100 } else { 100 + contrast });
        assert_eq!(found(&halves(0)).len(), 0);
        assert_eq!(found(&halves(15)).len(), 0);
        assert_eq!(found(&halves(35)).len(), 0);
        assert_eq!(found(&halves(100)).len(), 20);
        // The contrast falls from 100 at the top to 35 at the bottom.
        let fading = greys(40, 40, |x, y| {
            if x < 20 {
                100
            } else {
                200 - (65 * y / 39) as u8
            }
        });
        assert_eq!(found(&fading).len(), 40);
        let only = |low, high| Canny {
            low,
            high,
            ..Canny::default()
        };
        let strong = white(&edges(&fading, &only(12.0, 12.0))).len();
        assert!((10..36).contains(&strong), "{strong}");
    }

    #[test]
    fn blur_leaves_out_what_is_small() {
        let dots = greys(
            40,
            40,
            |x, y| if x % 8 == 4 && y % 8 == 4 { 255 } else { 0 },
        );
        let sharp = Canny {
            sigma: 0.0,
            ..Canny::default()
        };
        let blurred = Canny {
            sigma: 4.0,
            ..sharp
        };
        assert!(white(&edges(&dots, &sharp)).len() > 50);
        assert_eq!(white(&edges(&dots, &blurred)).len(), 0);
    }

    #[test]
    fn any_size_and_any_option() {
        let odd = [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e30];
        for (width, height) in [(0, 0), (0, 5), (1, 1), (1, 9), (2, 2), (13, 3)] {
            let image = greys(width, height, |x, y| (x * 97 + y * 61) as u8);
            for sigma in odd {
                for low in odd {
                    for high in odd {
                        let options = Canny { sigma, low, high };
                        let lines = edges(&image, &options);
                        assert_eq!(lines.dimensions(), (width, height));
                    }
                }
            }
        }
    }
}
