//! The things that scenes are made of.

mod sprite;

use std::collections::HashSet;
use std::path::{Component, Path};

use sana_linear_attn::weights::read_bounded;
use serde::Deserialize;

use super::error::SpriteError;
use super::words::words;
use crate::support::fnv::{OFFSET, fnv1a};
pub(super) use sprite::{Sprite, from_linear, to_linear};

/// The list of the things in the folder.
const LIST: &str = "sprites.json";
/// Bytes of the list and of each image, at most.
const LARGEST_FILE: u64 = 16 << 20;

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
    /// Opens a folder with `sprites.json`, a list of [`Thing`]s, and their images. Only regular files inside
    /// the folder are read, of up to 16 MiB each.
    ///
    /// # Errors
    /// When a file cannot be read, the list is empty or not of that form, a word is blank or stands for two
    /// things, or an image has no visible pixel or more than 1024 along a side.
    pub fn open(folder: &Path) -> Result<Self, SpriteError> {
        let path = folder.join(LIST);
        let bad = |reason: String| SpriteError::File {
            path: path.clone(),
            reason,
        };
        let bytes = read_bounded(&path, LARGEST_FILE).map_err(|error| {
            bad(format!(
                "{error}; docs/tools/sprites/fetch makes such a folder"
            ))
        })?;
        let things: Vec<Thing> =
            serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        check_words(&things).map_err(bad)?;
        let mut sprites = Vec::with_capacity(things.len());
        let mut hash = fnv1a(OFFSET, &bytes);
        for thing in &things {
            let path = folder.join(&thing.file);
            let bad = |reason: String| SpriteError::File {
                path: path.clone(),
                reason,
            };
            let mut components = Path::new(&thing.file).components();
            if !components.all(|component| matches!(component, Component::Normal(_))) {
                return Err(bad("it is not inside the folder of the list".to_owned()));
            }
            let bytes =
                read_bounded(&path, LARGEST_FILE).map_err(|error| bad(error.to_string()))?;
            hash = fnv1a(hash, &bytes);
            sprites.push(Sprite::read(&bytes).map_err(bad)?);
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

/// Refuses an empty list and words that captions could not be made of.
fn check_words(things: &[Thing]) -> Result<(), String> {
    if things.is_empty() {
        return Err("it lists no things".to_owned());
    }
    let (mut known, mut plurals) = (HashSet::new(), HashSet::new());
    for thing in things {
        let Thing { name, article, .. } = thing;
        if !["", "a", "an"].contains(&&**article) {
            return Err(format!(
                "the article of {name:?} is {article:?}, expected \"a\", \"an\" or none"
            ));
        }
        let others = thing.synonyms.iter().chain(&thing.plural);
        if let Some(blank) = others.chain([name]).find(|word| word.trim().is_empty()) {
            return Err(format!("{name:?} has the word {blank:?}"));
        }
        for word in thing.synonyms.iter().chain([name]) {
            if !known.insert(words(word)) {
                return Err(format!("{word:?} is listed twice"));
            }
        }
        if let Some(plural) = thing
            .plural
            .as_ref()
            .filter(|plural| !plurals.insert(words(plural)))
        {
            return Err(format!("the plural {plural:?} is listed twice"));
        }
    }
    Ok(())
}
