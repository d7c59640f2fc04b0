use image::RgbImage;

/// Working images have this many pixels in a unit, the square root of the area, at most.
const UNIT: f32 = 128.0;

/// An image at the resolution at which it is evaluated: colours in the curve of sRGB, in [0, 255].
#[derive(Debug)]
pub(super) struct Canvas {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[f32; 3]>,
    /// Pixels of the image that a pixel of this one spans, along and down.
    pub span: (f32, f32),
}

impl Canvas {
    /// The image with the mean of the pixels that each new one covers.
    pub fn new(image: &RgbImage) -> Self {
        let (from_width, from_height) = (image.width() as usize, image.height() as usize);
        let unit = ((from_width * from_height) as f32).sqrt();
        let factor = (unit / UNIT).max(1.0);
        let shrunk = |side: usize| ((side as f32 / factor).round() as usize).max(1);
        let (width, height) = (shrunk(from_width), shrunk(from_height));
        let (columns, rows) = (shares(from_width, width), shares(from_height, height));
        let bytes = image.as_raw();
        let mut narrow = vec![[0.0; 3]; width * from_height];
        for row in 0..from_height {
            for (column, (first, weights)) in columns.iter().enumerate() {
                let sum = &mut narrow[row * width + column];
                for (index, weight) in weights.iter().enumerate() {
                    let pixel = &bytes[3 * (row * from_width + first + index)..][..3];
                    for (sum, &value) in sum.iter_mut().zip(pixel) {
                        *sum += weight * f32::from(value);
                    }
                }
            }
        }
        let mut pixels = vec![[0.0; 3]; width * height];
        for (row, (first, weights)) in rows.iter().enumerate() {
            for (index, weight) in weights.iter().enumerate() {
                let line = &narrow[(first + index) * width..][..width];
                for (sum, pixel) in pixels[row * width..][..width].iter_mut().zip(line) {
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += weight * value;
                    }
                }
            }
        }
        Self {
            width,
            height,
            pixels,
            span: (
                from_width as f32 / width as f32,
                from_height as f32 / height as f32,
            ),
        }
    }

    /// Pixels of a unit.
    pub fn unit(&self) -> f32 {
        ((self.width * self.height) as f32).sqrt()
    }
}

/// For each of `to` pixels the first of `from` that it covers, and the shares of it and the next ones.
fn shares(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let step = from as f32 / to as f32;
    (0..to)
        .map(|index| {
            let (begin, end) = (index as f32 * step, (index + 1) as f32 * step);
            let first = (begin.floor() as usize).min(from - 1);
            let last = (end.ceil() as usize).clamp(first + 1, from);
            let weights = (first..last)
                .map(|pixel| {
                    let covered = end.min((pixel + 1) as f32) - begin.max(pixel as f32);
                    covered.max(0.0) / step
                })
                .collect();
            (first, weights)
        })
        .collect()
}
