use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};

use crate::support::files;
use crate::train::error::TrainError;

const WIDTH: u32 = 800;
const HEIGHT: u32 = 400;

/// Draws the loss of a log against the step: every step in light gray, their running mean in
/// blue, loss on a logarithmic axis with a line at every factor of two.
pub(super) fn draw_curve(log: &Path, image: &Path) -> Result<(), TrainError> {
    let text = fs::read_to_string(log).map_err(TrainError::io(log))?;
    let losses: Vec<f64> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').nth(1)?.parse().ok())
        .filter(|loss: &f64| *loss > 0.0)
        .map(f64::log2)
        .collect();
    let mut canvas = RgbImage::from_pixel(WIDTH, HEIGHT, Rgb([255; 3]));
    if losses.len() > 1 {
        let low = losses.iter().copied().fold(f64::INFINITY, f64::min);
        let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let span = (high - low).max(1e-6);
        let row = |loss: f64| ((high - loss) / span * f64::from(HEIGHT - 1)) as u32;
        let column = |step: usize| (step * (WIDTH as usize - 1) / (losses.len() - 1)) as u32;
        for power in low.ceil() as i64..=high.floor() as i64 {
            for x in (0..WIDTH).step_by(4) {
                canvas.put_pixel(x, row(power as f64), Rgb([200; 3]));
            }
        }
        for (step, &loss) in losses.iter().enumerate() {
            canvas.put_pixel(column(step), row(loss), Rgb([190, 200, 220]));
        }
        let mut mean = losses[0];
        let keep = 1.0 - 1.0 / (losses.len() as f64 / 50.0).max(1.0);
        for (step, &loss) in losses.iter().enumerate() {
            mean = keep * mean + (1.0 - keep) * loss;
            let (x, y) = (column(step), row(mean));
            for y in y.saturating_sub(1)..=(y + 1).min(HEIGHT - 1) {
                canvas.put_pixel(x, y, Rgb([40, 80, 220]));
            }
        }
    }
    files::write_whole(image, |file| {
        let encoder = ::image::codecs::png::PngEncoder::new(file);
        canvas
            .write_with_encoder(encoder)
            .map_err(std::io::Error::other)
    })
    .map_err(TrainError::io(image))
}
