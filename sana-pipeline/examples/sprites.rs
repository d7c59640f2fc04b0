//! Draws random scenes of little things in a grid and prints their captions.
//!
//! `cargo run -p sana-pipeline --example sprites -- FOLDER [PNG] [WIDTHxHEIGHT] [SEED]`
//! (default: `sprites.png`, 256x256, seed 0). `docs/tools/sprites/fetch FOLDER` makes the folder.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use image::{RgbImage, imageops};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sana_pipeline::sprites::{SpritePrompt, SpriteSheet};

const COLUMNS: u32 = 8;
const ROWS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder of sprites?")?;
    let path = arguments.next().unwrap_or_else(|| "sprites.png".into());
    let size = arguments.next().unwrap_or_else(|| "256x256".into());
    let (width, height) = size.split_once('x').ok_or("the size is WIDTHxHEIGHT")?;
    let (width, height): (u32, u32) = (width.parse()?, height.parse()?);
    let seed = arguments.next().map_or(Ok(0), |text| text.parse())?;

    let sheet = SpriteSheet::open(Path::new(&folder))?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut grid = RgbImage::new(COLUMNS * width, ROWS * height);
    let begin = Instant::now();
    for index in 0..COLUMNS * ROWS {
        let prompt = SpritePrompt::sample_training(&sheet, &mut rng);
        let scene = prompt.scene(&sheet, &mut rng, [width as usize, height as usize]);
        println!("{}", prompt.caption(&sheet, &mut rng));
        let (x, y) = (index % COLUMNS * width, index / COLUMNS * height);
        imageops::replace(&mut grid, &scene.render(&sheet), x.into(), y.into());
    }
    let seconds = begin.elapsed().as_secs_f64() / f64::from(COLUMNS * ROWS);
    grid.save(&path)?;
    println!("wrote {path}, {:.1} ms for each image", 1000.0 * seconds);
    Ok(())
}
