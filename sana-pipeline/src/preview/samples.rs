//! Images to fit on where there are no others.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::image::RgbImage;

/// Square images of flat and textured shapes on flat and graded backgrounds, in any colours: the same
/// ones each time. Endless.
pub fn sample_images(side: u32) -> impl Iterator<Item = RgbImage> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    std::iter::repeat_with(move || sample(&mut rng, side))
}

type Color = [f32; 3];

/// What covers a part of an image, in units of its side.
struct Shape {
    center: [f32; 2],
    radii: [f32; 2],
    is_round: bool,
    color: Color,
    /// Amplitude of stripes, and how many there are.
    stripes: [f32; 2],
}

fn sample(rng: &mut ChaCha8Rng, side: u32) -> RgbImage {
    let color = |rng: &mut ChaCha8Rng| -> Color { [(); 3].map(|()| rng.random_range(0.0..255.0)) };
    let from = color(rng);
    let to = match rng.random_bool(0.5) {
        true => from,
        false => color(rng),
    };
    let direction = rng.random_range(0.0..std::f32::consts::TAU);
    let shapes: Vec<Shape> = (0..rng.random_range(1..=6))
        .map(|_| Shape {
            center: [(); 2].map(|()| rng.random_range(0.0..1.0)),
            radii: [(); 2].map(|()| rng.random_range(0.05..0.4)),
            is_round: rng.random_bool(0.5),
            color: color(rng),
            stripes: match rng.random_bool(0.3) {
                true => [rng.random_range(10.0..60.0), rng.random_range(4.0..40.0)],
                false => [0.0, 1.0],
            },
        })
        .collect();
    let noise = match rng.random_bool(0.3) {
        true => rng.random_range(4.0..30.0),
        false => 0.0,
    };
    let (sin, cos) = direction.sin_cos();
    RgbImage::from_fn(side, side, |x, y| {
        let [x, y] = [x, y].map(|at| (at as f32 + 0.5) / side as f32);
        let along = (0.5 + (x - 0.5) * cos + (y - 0.5) * sin).clamp(0.0, 1.0);
        let mut pixel = [0, 1, 2].map(|i| from[i] + (to[i] - from[i]) * along);
        for shape in &shapes {
            let [dx, dy] = [
                (x - shape.center[0]) / shape.radii[0],
                (y - shape.center[1]) / shape.radii[1],
            ];
            let is_in = match shape.is_round {
                true => dx * dx + dy * dy < 1.0,
                false => dx.abs().max(dy.abs()) < 1.0,
            };
            if is_in {
                let [amplitude, stripes] = shape.stripes;
                let wave = amplitude * (std::f32::consts::TAU * stripes * (x + y)).sin();
                pixel = shape.color.map(|value| value + wave);
            }
        }
        let amount = match noise > 0.0 {
            true => rng.random_range(-noise..noise),
            false => 0.0,
        };
        image::Rgb(pixel.map(|value| (value + amount).clamp(0.0, 255.0) as u8))
    })
}

/// Images of the [scene language](crate::scenes), what the built-in checkpoint was trained on: the same
/// ones each time. Endless.
#[cfg(feature = "scenes")]
#[cfg_attr(docsrs, doc(cfg(feature = "scenes")))]
pub fn scene_images(side: u32) -> impl Iterator<Item = RgbImage> {
    use crate::scenes::ScenePrompt;

    let mut rng = ChaCha8Rng::seed_from_u64(0);
    std::iter::repeat_with(move || {
        let prompt = ScenePrompt::sample_training(&mut rng);
        let scene = prompt.scene(&mut rng).render(side as usize);
        RgbImage::from_raw(side, side, scene.into_rgb()).unwrap_or_default()
    })
}
