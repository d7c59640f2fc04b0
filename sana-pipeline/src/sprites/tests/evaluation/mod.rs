//! The things of these tests are drawn by a program.

mod images;
mod verdicts;

use std::path::Path;

use image::{Rgba, RgbaImage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::sprites::{
    Backdrop, PlainColor, Relation, SpriteCaption, SpriteCategory, SpriteContent, SpriteEvaluator,
    SpriteFault, SpritePrompt, SpriteReport, SpriteScene, SpriteSheet,
};

/// Pixels along each side of a drawn thing.
const SIDE: u32 = 80;
/// Edges are the mean of this many samples, squared.
const SAMPLES: u32 = 4;

/// The colour of a thing at a place in [-1, 1] x [-1, 1], if it is there.
type Drawing = fn(f32, f32) -> Option<[f32; 3]>;

const RED: [f32; 3] = [220.0, 40.0, 50.0];
const GOLD: [f32; 3] = [245.0, 190.0, 30.0];
const VIOLET: [f32; 3] = [110.0, 50.0, 190.0];
const DARK: [f32; 3] = [40.0, 35.0, 45.0];
const IVORY: [f32; 3] = [250.0, 235.0, 245.0];

const DRAWINGS: [(&str, Drawing); 6] = [
    ("ball", |x, y| {
        let color = if (x + 0.3).hypot(y + 0.3) < 0.4 {
            IVORY
        } else {
            RED
        };
        (x.hypot(y) < 0.95).then_some(color)
    }),
    ("crate", |x, y| {
        let color = if (6.0 * y).sin() > 0.0 { GOLD } else { DARK };
        (x.abs() < 0.9 && y.abs() < 0.65).then_some(color)
    }),
    ("tent", |x, y| {
        let color = if x.abs() < 0.2 && y > 0.1 {
            DARK
        } else {
            VIOLET
        };
        (y < 0.9 && y > 2.0 * x.abs() - 0.9).then_some(color)
    }),
    ("wheel", |x, y| {
        let (radius, spoke) = (x.hypot(y), x.abs().min(y.abs()) < 0.12);
        (radius < 0.95 && (radius > 0.6 || spoke)).then_some(DARK)
    }),
    // Two pieces.
    ("berries", |x, y| {
        let near = |left: f32, down: f32| (x - left).hypot(y - down) < 0.4;
        (near(-0.5, 0.3) || near(0.5, -0.1)).then_some(if y < 0.0 { GOLD } else { VIOLET })
    }),
    // White, which snow and clouds are too.
    ("ghost", |x, y| {
        let eye = (x.abs() - 0.3).hypot(y + 0.3) < 0.16;
        let body = y < 0.85 && x.abs() < 0.7 && (y > -0.2 || x.hypot(y + 0.2) < 0.7);
        let light = 1.0 - 0.12 * (x + 0.7);
        body.then_some(if eye {
            DARK
        } else {
            IVORY.map(|value| value * light)
        })
    }),
];

fn draw(drawing: Drawing) -> RgbaImage {
    RgbaImage::from_fn(SIDE, SIDE, |column, row| {
        let mut sum = [0.0f32; 4];
        for sample in 0..SAMPLES * SAMPLES {
            let place = |pixel: u32, part: u32| {
                let part = (part as f32 + 0.5) / SAMPLES as f32;
                2.0 * (pixel as f32 + part) / SIDE as f32 - 1.0
            };
            let (x, y) = (
                place(column, sample % SAMPLES),
                place(row, sample / SAMPLES),
            );
            if let Some([r, g, b]) = drawing(x, y) {
                for (sum, value) in sum.iter_mut().zip([r, g, b, 1.0]) {
                    *sum += value;
                }
            }
        }
        let [r, g, b, alpha] = sum;
        let color = |value: f32| (value / alpha.max(1.0)).round() as u8;
        let alpha = (255.0 * alpha / (SAMPLES * SAMPLES) as f32).round() as u8;
        Rgba([color(r), color(g), color(b), alpha])
    })
}

/// A folder of the first so many things.
fn write_sheet(folder: &Path, count: usize) -> SpriteSheet {
    let mut list = Vec::new();
    for (name, drawing) in &DRAWINGS[..count] {
        let file = format!("{name}.png");
        draw(*drawing).save(folder.join(&file)).unwrap();
        let thing = serde_json::json!({
            "file": file,
            "name": name,
            "article": "a",
            "plural": format!("{name}s"),
            "mirrors": true,
        });
        list.push(thing);
    }
    let list = serde_json::to_string(&list).unwrap();
    std::fs::write(folder.join("sprites.json"), list).unwrap();
    SpriteSheet::open(folder).unwrap()
}

fn sheet() -> SpriteSheet {
    write_sheet(tempfile::tempdir().unwrap().path(), DRAWINGS.len())
}

fn thing(name: &str) -> usize {
    let mut names = DRAWINGS.iter().map(|(name, _)| name);
    names.position(|found| *found == name).unwrap()
}

fn scene(sheet: &SpriteSheet, prompt: &SpritePrompt, seed: u64, size: [usize; 2]) -> SpriteScene {
    prompt.scene(sheet, &mut ChaCha8Rng::seed_from_u64(seed), size)
}
