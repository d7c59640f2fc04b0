use std::io::Cursor;

use image::{ImageFormat, ImageReader, RgbaImage};

/// Pixels of an image of a thing, at most, along each side.
const LARGEST: u32 = 1024;
/// Alpha above which a pixel belongs to the thing.
const VISIBLE: u8 = 25;
/// Halvings stop at this size.
const SMALLEST: usize = 16;
/// Transparent pixels around the thing, so that its edge fades.
const BORDER: usize = 2;
/// What stands for 1 in 16 bits.
const ONE: f32 = 65535.0;

/// The image of a thing without the empty space around it, in halving sizes. Colours are linear light
/// and multiplied by alpha, so that any mean of pixels is right.
#[derive(Debug)]
pub(in crate::sprites) struct Sprite {
    /// Width and height of the thing in pixels of the largest size.
    pub extent: (f32, f32),
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    width: usize,
    height: usize,
    /// Red, green, blue, alpha.
    pixels: Vec<[u16; 4]>,
}

/// A value of sRGB in [0, 1] as linear light in [0, 1]; IEC 61966-2-1.
pub(in crate::sprites) fn to_linear(value: f32) -> f32 {
    if value <= 0.04045 {
        value / 12.92
    } else {
        ((value + 0.055) / 1.055).powf(2.4)
    }
}

/// Linear light in [0, 1] in the curve of sRGB.
pub(in crate::sprites) fn from_linear(value: f32) -> f32 {
    if value <= 0.003_130_8 {
        value * 12.92
    } else {
        1.055 * value.powf(1.0 / 2.4) - 0.055
    }
}

impl Sprite {
    /// Decodes a PNG or WebP, after a look at its size.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let open = || ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let said = |error: &dyn ToString| error.to_string();
        let reader = open().map_err(|error| said(&error))?;
        if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::WebP)) {
            return Err("it is neither a PNG nor a WebP".to_owned());
        }
        let (width, height) = reader.into_dimensions().map_err(|error| said(&error))?;
        if width > LARGEST || height > LARGEST {
            return Err(format!(
                "it has {width} x {height} pixels, and {LARGEST} x {LARGEST} are read at most"
            ));
        }
        let reader = open().map_err(|error| said(&error))?;
        let image = reader.decode().map_err(|error| said(&error))?;
        Self::new(&image.to_rgba8())
    }

    fn new(image: &RgbaImage) -> Result<Self, String> {
        let (width, height) = image.dimensions();
        let visible = |&(_, _, pixel): &(u32, u32, &image::Rgba<u8>)| pixel.0[3] > VISIBLE;
        let (mut left, mut top, mut right, mut bottom) = (width, height, 0, 0);
        for (x, y, _) in image.enumerate_pixels().filter(visible) {
            (left, right) = (left.min(x), right.max(x + 1));
            (top, bottom) = (top.min(y), bottom.max(y + 1));
        }
        if left >= right {
            return Err("it is transparent everywhere".to_owned());
        }
        let linear: Vec<f32> = (0..=255)
            .map(|byte| to_linear(byte as f32 / 255.0))
            .collect();
        let (thing_width, thing_height) = ((right - left) as usize, (bottom - top) as usize);
        let mut level = Level {
            width: thing_width + 2 * BORDER,
            height: thing_height + 2 * BORDER,
            pixels: Vec::new(),
        };
        level.pixels = vec![[0; 4]; level.width * level.height];
        for y in 0..thing_height {
            for x in 0..thing_width {
                let [r, g, b, a] = image.get_pixel(left + x as u32, top + y as u32).0;
                let alpha = f32::from(a) / 255.0;
                let color = |byte: u8| (linear[usize::from(byte)] * alpha * ONE).round() as u16;
                level.pixels[(y + BORDER) * level.width + x + BORDER] =
                    [color(r), color(g), color(b), (alpha * ONE).round() as u16];
            }
        }
        let mut levels = vec![level];
        while let Some(next) = levels.last().and_then(Level::halved) {
            levels.push(next);
        }
        Ok(Self {
            extent: (thing_width as f32, thing_height as f32),
            levels,
        })
    }

    /// The smallest size whose pixels are no larger than those of an image that shows the thing at `scale`,
    /// and the length of its pixels in those of the largest size.
    pub fn level_for(&self, scale: f32) -> (usize, f32) {
        let mut level = 0;
        while level + 1 < self.levels.len() && scale * (2 << level) as f32 <= 1.0 {
            level += 1;
        }
        (level, (1 << level) as f32)
    }

    /// Red, green, blue (linear light, multiplied by alpha) and alpha at a place of a size, in pixels of it
    /// from the middle of the thing. Bilinear; nothing outside.
    pub fn sample(&self, level: usize, x: f32, y: f32) -> [f32; 4] {
        let level = &self.levels[level];
        let x = x + level.width as f32 / 2.0 - 0.5;
        let y = y + level.height as f32 / 2.0 - 0.5;
        if x <= -1.0 || y <= -1.0 || x >= level.width as f32 || y >= level.height as f32 {
            return [0.0; 4];
        }
        let (column, row) = (x.floor(), y.floor());
        let (along, down) = (x - column, y - row);
        let mut sum = [0.0; 4];
        for (row, weight_y) in [(row, 1.0 - down), (row + 1.0, down)] {
            for (column, weight_x) in [(column, 1.0 - along), (column + 1.0, along)] {
                let inside = column >= 0.0
                    && row >= 0.0
                    && (column as usize) < level.width
                    && (row as usize) < level.height;
                if inside {
                    let pixel = level.pixels[row as usize * level.width + column as usize];
                    let weight = weight_x * weight_y / ONE;
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += weight * f32::from(value);
                    }
                }
            }
        }
        sum
    }
}

impl Level {
    /// The mean of each four pixels, unless it is small already.
    fn halved(&self) -> Option<Self> {
        if self.width.max(self.height) < 2 * SMALLEST {
            return None;
        }
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        // The middle stays the middle: an odd side gets half an empty pixel at each end.
        let (shift_x, shift_y) = (2 * width - self.width, 2 * height - self.height);
        let at = |x: isize, y: isize| match (usize::try_from(x), usize::try_from(y)) {
            (Ok(x), Ok(y)) if x < self.width && y < self.height => {
                self.pixels[y * self.width + x].map(f32::from)
            }
            _ => [0.0; 4],
        };
        // Weights of the pixels that a pair of half the length covers.
        let taps = |shift: usize| match shift {
            0 => [0.0, 0.5, 0.5],
            _ => [0.25, 0.5, 0.25],
        };
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let mut sum = [0.0; 4];
                for (down, weight_y) in taps(shift_y).into_iter().enumerate() {
                    for (along, weight_x) in taps(shift_x).into_iter().enumerate() {
                        let pixel = at((2 * x + along) as isize - 1, (2 * y + down) as isize - 1);
                        for (sum, value) in sum.iter_mut().zip(pixel) {
                            *sum += weight_x * weight_y * value;
                        }
                    }
                }
                pixels.push(sum.map(|value| value.round() as u16));
            }
        }
        Some(Self {
            width,
            height,
            pixels,
        })
    }
}
