use crate::sprites::sheet::{Sprite, SpriteSheet, from_linear};

/// Pixels of the longer side in each size, the largest first.
const SIDES: [usize; 3] = [64, 32, 16];
/// Empty pixels around it.
const BORDER: usize = 2;
/// Pixels along each side of a thumbnail, the thing in its middle, and those of the thing's longer side.
pub(super) const THUMBNAIL: usize = 20;
pub(super) const THUMBNAIL_THING: f32 = 16.0;
/// Samples along each side of a pixel.
const SAMPLES: usize = 2;

/// A thing as images are compared with it: colours in the curve of sRGB, in [0, 255], multiplied by alpha
/// in [0, 1].
#[derive(Debug)]
pub(super) struct Template {
    /// Width and height, the longer one 1.
    pub extent: (f32, f32),
    levels: Vec<Level>,
    /// A small one as it is and one mirrored.
    pub thumbnails: [Thumbnail; 2],
}

/// Planes of red, green, blue and alpha, and the same with half as many pixels along each side.
#[derive(Debug)]
pub(super) struct Thumbnail {
    pub fine: [[f32; FINE]; 4],
    pub coarse: [[f32; COARSE]; 4],
}

/// Pixels of thumbnails.
pub(super) const FINE: usize = THUMBNAIL * THUMBNAIL;
pub(super) const COARSE: usize = FINE / 4;

/// The mean of each four pixels of a plane.
pub(super) fn halved(plane: &[f32; FINE]) -> [f32; COARSE] {
    std::array::from_fn(|index| {
        let half = THUMBNAIL / 2;
        let first = 2 * (index / half) * THUMBNAIL + 2 * (index % half);
        let pixels = [first, first + 1, first + THUMBNAIL, first + THUMBNAIL + 1];
        pixels.into_iter().map(|pixel| plane[pixel] / 4.0).sum()
    })
}

#[derive(Debug)]
struct Level {
    side: f32,
    width: usize,
    height: usize,
    pixels: Vec<[f32; 4]>,
}

pub(super) fn templates(sheet: &SpriteSheet) -> Vec<Template> {
    (0..sheet.things().len())
        .map(|thing| Template::new(sheet.sprite(thing)))
        .collect()
}

/// The mean of a thing over a pixel that lies `x`, `y` from the middle, `scale` pixels of the largest size
/// wide.
fn mean(sprite: &Sprite, x: f32, y: f32, scale: f32) -> [f32; 4] {
    let (level, length) = sprite.level_for(1.0 / scale);
    let mut sum = [0.0; 4];
    for sample in 0..SAMPLES * SAMPLES {
        let part = |index: usize| (index as f32 + 0.5) / SAMPLES as f32 - 0.5;
        let x = (x + part(sample % SAMPLES)) * scale / length;
        let y = (y + part(sample / SAMPLES)) * scale / length;
        for (sum, value) in sum.iter_mut().zip(sprite.sample(level, x, y)) {
            *sum += value / (SAMPLES * SAMPLES) as f32;
        }
    }
    let [r, g, b, alpha] = sum;
    if alpha <= 0.0 {
        return [0.0; 4];
    }
    let curved = |light: f32| 255.0 * alpha * from_linear((light / alpha).clamp(0.0, 1.0));
    [curved(r), curved(g), curved(b), alpha]
}

impl Template {
    fn new(sprite: &Sprite) -> Self {
        let longer = sprite.extent.0.max(sprite.extent.1);
        let extent = (sprite.extent.0 / longer, sprite.extent.1 / longer);
        let levels = SIDES.map(|side| {
            let pixels = |share: f32| (share * side as f32).ceil() as usize + 2 * BORDER;
            let (width, height) = (pixels(extent.0), pixels(extent.1));
            let pixels = (0..width * height)
                .map(|index| {
                    let x = (index % width) as f32 + 0.5 - width as f32 / 2.0;
                    let y = (index / width) as f32 + 0.5 - height as f32 / 2.0;
                    mean(sprite, x, y, longer / side as f32)
                })
                .collect();
            Level {
                side: side as f32,
                width,
                height,
                pixels,
            }
        });
        let mut thumbnails = [[[0.0; FINE]; 4]; 2];
        for index in 0..FINE {
            let half = THUMBNAIL as f32 / 2.0;
            let x = (index % THUMBNAIL) as f32 + 0.5 - half;
            let y = (index / THUMBNAIL) as f32 + 0.5 - half;
            for (planes, x) in thumbnails.iter_mut().zip([x, -x]) {
                let pixel = mean(sprite, x, y, longer / THUMBNAIL_THING);
                for (plane, value) in planes.iter_mut().zip(pixel) {
                    plane[index] = value;
                }
            }
        }
        Self {
            extent,
            levels: levels.into(),
            thumbnails: thumbnails.map(|fine| Thumbnail {
                coarse: std::array::from_fn(|plane| halved(&fine[plane])),
                fine,
            }),
        }
    }

    /// The size to sample where the longer side has some pixels.
    pub fn level_for(&self, longer: f32) -> usize {
        let fine_enough = |level: &Level| level.side >= 0.9 * longer;
        self.levels.iter().rposition(fine_enough).unwrap_or(0)
    }

    /// The thing at a place relative to its middle, in longer sides. Bilinear.
    pub fn sample(&self, level: usize, x: f32, y: f32) -> [f32; 4] {
        let level = &self.levels[level];
        let x = x * level.side + level.width as f32 / 2.0 - 0.5;
        let y = y * level.side + level.height as f32 / 2.0 - 0.5;
        let (last_column, last_row) = (level.width as f32 - 1.0, level.height as f32 - 1.0);
        // The border is empty.
        if !(x >= 0.0 && y >= 0.0 && x < last_column && y < last_row) {
            return [0.0; 4];
        }
        let (column, row) = (x as usize, y as usize);
        let (along, down) = (x - column as f32, y - row as f32);
        let upper = &level.pixels[row * level.width + column..][..2];
        let lower = &level.pixels[(row + 1) * level.width + column..][..2];
        std::array::from_fn(|channel| {
            let upper = upper[0][channel] + along * (upper[1][channel] - upper[0][channel]);
            let lower = lower[0][channel] + along * (lower[1][channel] - lower[0][channel]);
            upper + down * (lower - upper)
        })
    }
}
