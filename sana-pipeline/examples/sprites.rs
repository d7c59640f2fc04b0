//! Draws held-out scenes of little things in a grid, prints their captions, and evaluates the images.
//!
//! `cargo run -p sana-pipeline --example sprites -- FOLDER [PNG] [WIDTHxHEIGHT] [COUNT] [SEED]`
//! (default: `sprites.png`, 256x256, 40 scenes, seed 0). The grid shows the first 40, eight a row.
//! `docs/tools/sprites/fetch FOLDER` makes the folder.

use std::error::Error;
use std::path::Path;

use image::{RgbImage, imageops};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sana_pipeline::sprites::{SpriteEvaluator, SpritePrompt, SpriteReport, SpriteSheet};

const COLUMNS: u32 = 8;
const ROWS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder of sprites?")?;
    let path = arguments.next().unwrap_or_else(|| "sprites.png".into());
    let size = arguments.next().unwrap_or_else(|| "256x256".into());
    let (width, height) = size.split_once('x').ok_or("the size is WIDTHxHEIGHT")?;
    let (width, height): (u32, u32) = (width.parse()?, height.parse()?);
    let count = arguments.next().map_or(Ok(40), |text| text.parse())?;
    let seed = arguments.next().map_or(Ok(0), |text| text.parse())?;

    let sheet = SpriteSheet::open(Path::new(&folder))?;
    let evaluator = SpriteEvaluator::new(&sheet);
    let mut report = SpriteReport::default();
    let mut grid = RgbImage::new(COLUMNS * width, ROWS * height);
    let prompts = SpritePrompt::held_out(&sheet, count, seed);
    for (index, prompt) in (0..).zip(&prompts) {
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(index));
        let scene = prompt.scene(&sheet, &mut rng, [width as usize, height as usize]);
        let image = scene.render(&sheet);
        let verdict = evaluator.evaluate(&image, prompt);
        report.add(&verdict);
        let caption = prompt.caption(&sheet, &mut rng);
        match verdict.is_right() {
            true => println!("{caption}"),
            false => println!("{caption}: {verdict}"),
        }
        if index < COLUMNS * ROWS {
            let (x, y) = (index % COLUMNS * width, index / COLUMNS * height);
            imageops::replace(&mut grid, &image, x.into(), y.into());
        }
    }
    grid.save(&path)?;
    println!("{report}\nwrote {path}");
    Ok(())
}
