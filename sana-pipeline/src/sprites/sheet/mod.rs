//! The things that scenes are made of.

mod sprite;

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::error::SpriteError;
use crate::support::fnv::{OFFSET, fnv1a};
pub(super) use sprite::{Sprite, from_linear, to_linear};

/// The list of the things in the folder.
const LIST: &str = "sprites.json";

/// One thing and the words for it, as `sprites.json` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Thing {
    /// Its image in the folder, a PNG or WebP with transparency.
    pub file: String,
    /// What captions call it: `fox`.
    pub name: String,
    /// `a`, `an` or nothing.
    #[serde(default)]
    pub article: String,
    /// Several of it, `foxes`; it is never counted if there is no such word.
    #[serde(default)]
    pub plural: Option<String>,
    /// Other words for it.
    #[serde(default)]
    pub synonyms: Vec<String>,
    /// Whether its mirror image is as good: there is no writing on it.
    #[serde(default)]
    pub mirrors: bool,
}

/// Things with their images.
#[derive(Debug)]
pub struct SpriteSheet {
    things: Vec<Thing>,
    sprites: Vec<Sprite>,
    hash: u64,
}

impl SpriteSheet {
    /// Opens a folder with `sprites.json`, a list of [`Thing`]s, and their images.
    ///
    /// # Errors
    /// When a file cannot be read, the list is empty or not of that form, two things have one name, or an
    /// image is empty or larger than 1024 pixels.
    pub fn open(folder: &Path) -> Result<Self, SpriteError> {
        let path = folder.join(LIST);
        let bytes = fs::read(&path).map_err(|error| SpriteError::File {
            path: path.clone(),
            reason: format!("{error}; docs/tools/sprites/fetch makes such a folder"),
        })?;
        let bad = |reason: String| SpriteError::File {
            path: path.clone(),
            reason,
        };
        let things: Vec<Thing> =
            serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        if things.is_empty() {
            return Err(bad("it lists no things".to_owned()));
        }
        let mut names: Vec<&str> = things.iter().map(|thing| &*thing.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(bad(format!("{:?} is listed twice", pair[0])));
        }
        let mut sprites = Vec::with_capacity(things.len());
        let mut hash = fnv1a(OFFSET, &bytes);
        for thing in &things {
            let path = folder.join(&thing.file);
            let bad = |reason: String| SpriteError::File {
                path: path.clone(),
                reason,
            };
            let bytes = fs::read(&path).map_err(|error| bad(error.to_string()))?;
            hash = fnv1a(hash, &bytes);
            let image = image::load_from_memory(&bytes).map_err(|error| bad(error.to_string()))?;
            sprites.push(Sprite::new(&image.to_rgba8()).map_err(bad)?);
        }
        Ok(Self {
            things,
            sprites,
            hash,
        })
    }

    /// What there is, in the order of the list.
    pub fn things(&self) -> &[Thing] {
        &self.things
    }

    /// FNV-1a of the list and the images, to tell sheets apart.
    pub fn stable_hash(&self) -> u64 {
        self.hash
    }

    /// The image of a thing.
    pub(super) fn sprite(&self, thing: usize) -> &Sprite {
        &self.sprites[thing]
    }
}
