//! Scenes: which things are where, in front of what.

mod place;
mod placed;
mod render;

use rand::{Rng, RngExt};

use super::backdrop::Backdrop;
use super::error::SpriteError;
use super::prompt::SpritePrompt;
use super::sheet::SpriteSheet;
pub use placed::PlacedSprite;

/// What an image shows.
#[derive(Debug, Clone, PartialEq)]
pub struct SpriteScene {
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// What is behind the things.
    pub backdrop: Backdrop,
    /// Chooses what varies in the backdrop.
    pub backdrop_seed: u64,
    /// The things, in the order of the caption.
    pub sprites: Vec<PlacedSprite>,
}

impl SpritePrompt {
    /// A random scene of `size` (width and height in pixels) that shows the prompt: things lie wholly in
    /// the image and apart from each other, turned by up to six degrees, of sizes that go with their
    /// number, and with a relation well within it.
    ///
    /// # Panics
    /// If the size is one that [`SpriteScene::check_size`] refuses.
    pub fn scene<R: Rng + ?Sized>(
        &self,
        sheet: &SpriteSheet,
        rng: &mut R,
        size: [usize; 2],
    ) -> SpriteScene {
        assert!(SpriteScene::check_size(size).is_ok(), "{size:?}");
        let backdrop_seed = rng.random();
        let things = self.content().things();
        SpriteScene {
            size,
            backdrop: self.backdrop(),
            backdrop_seed,
            sprites: place::place(
                sheet,
                rng,
                (self.backdrop(), backdrop_seed),
                &things,
                self.content().relation(),
                size,
            ),
        }
    }
}

/// The largest ratio of the sides of an image: in longer ones things become too small to be recognised.
const MOST_ASPECT: usize = 4;

impl SpriteScene {
    /// Whether things find room in images of `size`, width and height in pixels.
    ///
    /// # Errors
    /// [`SpriteError::Size`] for a side of 0, or one of more than four times the other.
    pub fn check_size([width, height]: [usize; 2]) -> Result<(), SpriteError> {
        let (shorter, longer) = (width.min(height), width.max(height));
        if shorter == 0 || longer > shorter.saturating_mul(MOST_ASPECT) {
            return Err(SpriteError::Size {
                width,
                height,
                most: MOST_ASPECT,
            });
        }
        Ok(())
    }

    /// A random scene that no caption describes: up to `things` of any kind, some of them cut off by the
    /// edge. It shows more edges and textures than a prompt's scene, for training an autoencoder.
    ///
    /// # Panics
    /// As [`SpritePrompt::scene`].
    pub fn crowded<R: Rng + ?Sized>(
        sheet: &SpriteSheet,
        rng: &mut R,
        things: usize,
        size: [usize; 2],
    ) -> Self {
        assert!(Self::check_size(size).is_ok(), "{size:?}");
        let all: Vec<Backdrop> = Backdrop::all().collect();
        let backdrop_seed = rng.random();
        let count = sheet.things().len();
        let things: Vec<usize> = (0..things).map(|_| rng.random_range(0..count)).collect();
        Self {
            size,
            backdrop: all[rng.random_range(0..all.len())],
            backdrop_seed,
            sprites: place::crowd(sheet, rng, &things, size),
        }
    }
}
