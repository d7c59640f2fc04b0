//! Draws random scenes of every category on one sheet and prints their captions.
//!
//! `cargo run -p sana-pipeline --example scenes -- [PNG] [CANVAS] [SEED]`
//! (default: `scenes.png`, 128 px, seed 0).

use image::{Rgb, RgbImage, imageops};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sana_pipeline::scenes::{Category, ScenePrompt, evaluate};

const COLUMNS: u32 = 8;
const BORDER: u32 = 4;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "scenes.png".into());
    let canvas = arguments
        .next()
        .map_or(Ok(128), |text| text.parse::<u32>())?;
    let seed = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);

    let tile = canvas + BORDER;
    let rows = Category::ALL.len() as u32;
    let mut sheet = RgbImage::from_pixel(
        COLUMNS * tile + BORDER,
        rows * tile + BORDER,
        Rgb([90, 200, 210]),
    );
    for (row, category) in Category::ALL.into_iter().enumerate() {
        println!("{category}");
        for column in 0..COLUMNS {
            let prompt = ScenePrompt::sample(&mut rng, category);
            let picture = prompt.scene(&mut rng).render(canvas as usize);
            let verdict = evaluate(&picture, &prompt);
            println!("  {:<64} {verdict}", prompt.caption(&mut rng));
            let picture = RgbImage::from_raw(canvas, canvas, picture.into_rgb())
                .ok_or_else(|| anyhow::anyhow!("a scene is square"))?;
            let (x, y) = (BORDER + column * tile, BORDER + row as u32 * tile);
            imageops::replace(&mut sheet, &picture, x.into(), y.into());
        }
    }
    sheet.save(&path)?;
    println!("wrote {path}");
    Ok(())
}
