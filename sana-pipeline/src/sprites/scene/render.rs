use image::{Rgb, RgbImage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{PlacedSprite, SpriteScene};
use crate::sprites::sheet::{Sprite, SpriteSheet, from_linear, to_linear};

/// Samples along each side of a pixel.
const SAMPLES: usize = 2;
/// How much light a shadow takes, at most.
const SHADOW: f32 = 0.45;

impl SpriteScene {
    /// Paints the backdrop and lays the things over it, the lowest last. Light is added up as light is,
    /// not in the curve of sRGB.
    pub fn render(&self, sheet: &SpriteSheet) -> RgbImage {
        let [width, height] = self.size;
        let mut rng = ChaCha8Rng::seed_from_u64(self.backdrop_seed);
        let painting = self.backdrop.paint(&mut rng, self.size);
        let mut pixels: Vec<[f32; 3]> = painting
            .into_iter()
            .map(|pixel| pixel.map(to_linear))
            .collect();
        let mut sprites: Vec<&PlacedSprite> = self.sprites.iter().collect();
        let bottom = |sprite: &PlacedSprite| sprite.center.1 + sprite.extent.1 / 2.0;
        sprites.sort_by(|a, b| bottom(a).total_cmp(&bottom(b)));
        for sprite in sprites {
            if sprite.grounded {
                shade(&mut pixels, width, sprite);
            }
            lay(&mut pixels, width, sprite, sheet.sprite(sprite.thing));
        }
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let pixel = pixels[y as usize * width + x as usize];
            Rgb(pixel.map(|light| (from_linear(light.clamp(0.0, 1.0)) * 255.0).round() as u8))
        })
    }
}

/// A soft shadow under a thing, an ellipse of normal falloff.
fn shade(pixels: &mut [[f32; 3]], width: usize, sprite: &PlacedSprite) {
    let (x, y) = (sprite.center.0, sprite.center.1 + 0.48 * sprite.extent.1);
    let half_width = 0.42 * sprite.extent.0;
    let half_height = 0.05 * sprite.extent.0 + 0.03 * sprite.extent.1;
    for (index, pixel) in pixels.iter_mut().enumerate() {
        let along = ((index % width) as f32 + 0.5 - x) / half_width;
        let down = ((index / width) as f32 + 0.5 - y) / half_height;
        let distance = along * along + down * down;
        if distance < 6.0 {
            let light = 1.0 - SHADOW * (-1.5 * distance).exp();
            *pixel = pixel.map(|channel| channel * light);
        }
    }
}

fn lay(pixels: &mut [[f32; 3]], width: usize, placed: &PlacedSprite, sprite: &Sprite) {
    let height = pixels.len() / width;
    let scale = placed.extent.0 / sprite.extent.0;
    let (level, length) = sprite.level_for(scale);
    let (sin, cos) = placed.angle.sin_cos();
    let mirror = if placed.mirrored { -1.0 } else { 1.0 };
    // Turned it stays within this distance of its centre.
    let reach = placed.extent.0.hypot(placed.extent.1) / 2.0 + 2.0;
    let range = |center: f32, end: usize| {
        let from = (center - reach).floor().max(0.0) as usize;
        from.min(end)..((center + reach).ceil().max(0.0) as usize).min(end)
    };
    for row in range(placed.center.1, height) {
        for column in range(placed.center.0, width) {
            let mut sum = [0.0; 4];
            for sample in 0..SAMPLES * SAMPLES {
                let part = |index: usize| (index as f32 + 0.5) / SAMPLES as f32;
                let x = column as f32 + part(sample % SAMPLES) - placed.center.0;
                let y = row as f32 + part(sample / SAMPLES) - placed.center.1;
                let (along, down) = (mirror * (cos * x + sin * y), cos * y - sin * x);
                let per_pixel = 1.0 / (scale * length);
                let found = sprite.sample(level, along * per_pixel, down * per_pixel);
                for (sum, value) in sum.iter_mut().zip(found) {
                    *sum += value / (SAMPLES * SAMPLES) as f32;
                }
            }
            let [r, g, b, alpha] = sum;
            if alpha > 0.0 {
                let pixel = &mut pixels[row * width + column];
                for (channel, light) in pixel.iter_mut().zip([r, g, b]) {
                    *channel = *channel * (1.0 - alpha) + light;
                }
            }
        }
    }
}
