//! Draws random scenes of every category in a grid and prints their captions.
//!
//! `cargo run -p sana-pipeline --example scenes -- [PNG] [CANVAS] [SEED]`
//! (default: `scenes.png`, 128 px, seed 0).

use std::error::Error;

use image::{Rgb, RgbImage, imageops};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sana_pipeline::scenes::{Category, ScenePrompt, evaluate};

const COLUMNS: u32 = 8;
const BORDER: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "scenes.png".into());
    let canvas = arguments
        .next()
        .map_or(Ok(128), |text| text.parse::<u32>())?;
    let seed = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);

    let tile = canvas + BORDER;
    let rows = Category::ALL.len() as u32;
    let mut grid = RgbImage::from_pixel(
        COLUMNS * tile + BORDER,
        rows * tile + BORDER,
        Rgb([90, 200, 210]),
    );
    for (row, category) in Category::ALL.into_iter().enumerate() {
        println!("{category}");
        for column in 0..COLUMNS {
            let prompt = ScenePrompt::sample(&mut rng, category);
            let image = prompt.scene(&mut rng).render(canvas as usize);
            let verdict = evaluate(&image, &prompt);
            println!("  {:<64} {verdict}", prompt.caption(&mut rng));
            let image =
                RgbImage::from_raw(canvas, canvas, image.into_rgb()).ok_or("a scene is square")?;
            let (x, y) = (BORDER + column * tile, BORDER + row as u32 * tile);
            imageops::replace(&mut grid, &image, x.into(), y.into());
        }
    }
    grid.save(&path)?;
    println!("wrote {path}");
    Ok(())
}
