mod captions;
mod evaluation;
mod prompts;
mod scenes;
mod sheets;

use std::fs;
use std::path::Path;

use image::{Rgba, RgbaImage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::SpriteSheet;

pub(super) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A red disc, a blue bar, a green ring, and drops that cannot be counted, with words for them.
pub(super) const LIST: &str = r#"[
    {"file": "disc.png", "name": "disc", "article": "a", "plural": "discs", "synonyms": ["orb"]},
    {"file": "bar.png", "name": "bar", "article": "a", "plural": "bars", "mirrors": true},
    {"file": "ring.png", "name": "ring", "article": "a", "plural": "rings"},
    {"file": "drops.png", "name": "drops"}
]"#;

/// Draws an image of 64 pixels: a colour where `inside` says so, in [-1, 1] from the middle.
pub(super) fn draw(path: &Path, color: [u8; 3], inside: impl Fn(f32, f32) -> bool) {
    let image = RgbaImage::from_fn(64, 64, |x, y| {
        let at = |index: u32| (index as f32 + 0.5) / 32.0 - 1.0;
        let [r, g, b] = color;
        match inside(at(x), at(y)) {
            true => Rgba([r, g, b, 255]),
            false => Rgba([0, 0, 0, 0]),
        }
    });
    image.save(path).unwrap();
}

/// The folder of [`LIST`].
pub(super) fn write_sheet(folder: &Path) {
    fs::write(folder.join("sprites.json"), LIST).unwrap();
    draw(&folder.join("disc.png"), [220, 40, 40], |x, y| {
        x.hypot(y) < 0.8
    });
    draw(&folder.join("bar.png"), [40, 60, 220], |x, y| {
        x.abs() < 0.9 && y.abs() < 0.3
    });
    draw(&folder.join("ring.png"), [30, 150, 60], |x, y| {
        (0.5..0.9).contains(&x.hypot(y))
    });
    draw(&folder.join("drops.png"), [150, 60, 180], |x, y| {
        (x.abs() - 0.5).hypot(y) < 0.35
    });
}

pub(crate) fn sheet() -> SpriteSheet {
    let folder = tempfile::tempdir().unwrap();
    write_sheet(folder.path());
    SpriteSheet::open(folder.path()).unwrap()
}
