use std::fs;
use std::path::{Path, PathBuf};

use rand::{Rng, RngExt};

use super::error::TrainError;
use crate::image::{dimensions, load_as_is, shortened};
use crate::scenes::{Category, Scene, ScenePrompt};

/// Objects of a scene for the autoencoder, at most.
const CROWD: usize = 6;

/// Categories of scenes with captions, each drawn as often as it is listed: what is learned last is
/// shown most.
const MIX: [Category; 12] = [
    Category::SingleObject,
    Category::Colors,
    Category::TwoObjects,
    Category::Counting,
    Category::Counting,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::Position,
    Category::AttributeBinding,
];

/// One image with its caption.
#[derive(Debug, Clone)]
pub struct Sample {
    /// `[3, size, size]` in [-1, 1].
    pub pixels: Vec<f32>,
    /// Its caption.
    pub caption: String,
}

/// Where images and captions come from.
#[derive(Debug, Clone)]
pub enum Data {
    /// The scene language, drawn as it is needed; held-out prompts never occur.
    Scenes {
        /// Side of the images in pixels.
        size: usize,
    },
    /// Images of a folder, resized to cover a square and cropped to its middle.
    Folder {
        /// Side of the images in pixels.
        size: usize,
        /// Image files and captions.
        items: Vec<(PathBuf, String)>,
    },
}

impl Data {
    /// Opens a folder: `metadata.jsonl` with `file_name` and `text` in each line, or images
    /// `NAME.png`, `NAME.jpg`, `NAME.webp` next to captions `NAME.txt`.
    ///
    /// # Errors
    /// When the folder cannot be read, holds no such pair, a line of the metadata is not of that
    /// form or names a file outside the folder, or a file is not an image.
    pub fn open_folder(folder: &Path, size: usize) -> Result<Self, TrainError> {
        let metadata = folder.join("metadata.jsonl");
        let items = if metadata.is_file() {
            read_metadata(&metadata)?
        } else {
            read_pairs(folder)?
        };
        if items.is_empty() {
            let reason =
                "expected NAME.png with NAME.txt, or metadata.jsonl with file_name and text";
            return Err(TrainError::Data {
                path: folder.to_path_buf(),
                reason: reason.to_owned(),
            });
        }
        // Headers alone: a missing image is found now and not hours later.
        for (path, _) in &items {
            dimensions(path).map_err(TrainError::image)?;
        }
        Ok(Self::Folder { size, items })
    }

    /// Side of the images in pixels.
    pub fn size(&self) -> usize {
        match self {
            Data::Scenes { size } | Data::Folder { size, .. } => *size,
        }
    }

    /// Draws an image for an autoencoder, `[3, size, size]` in [-1, 1]. Scenes are crowded ones, of
    /// up to six objects: there is more to learn in them than in those that captions describe.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn image<R: Rng>(&self, rng: &mut R) -> Result<Vec<f32>, TrainError> {
        match self {
            Data::Scenes { size } => {
                let objects = rng.random_range(1..=CROWD);
                Ok(Scene::crowded(rng, objects).render(*size).to_chw_f32())
            }
            Data::Folder { .. } => Ok(self.sample(rng)?.pixels),
        }
    }

    /// Draws an image with its caption.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn sample<R: Rng>(&self, rng: &mut R) -> Result<Sample, TrainError> {
        match self {
            Data::Scenes { size } => {
                let category = MIX[rng.random_range(0..MIX.len())];
                let prompt = ScenePrompt::sample_training_of(rng, category);
                let caption = prompt.caption(rng);
                let pixels = prompt.scene(rng).render(*size).to_chw_f32();
                Ok(Sample { pixels, caption })
            }
            Data::Folder { size, items } => {
                let (path, caption) = &items[rng.random_range(0..items.len())];
                Ok(Sample {
                    pixels: read_square(path, *size)?,
                    caption: caption.clone(),
                })
            }
        }
    }
}

fn read_metadata(path: &Path) -> Result<Vec<(PathBuf, String)>, TrainError> {
    #[derive(serde::Deserialize)]
    struct Line {
        file_name: String,
        text: String,
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let text = fs::read_to_string(path).map_err(TrainError::io(path))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let bad = |reason: String| TrainError::Data {
                path: path.to_path_buf(),
                reason: format!("line {}: {reason}", index + 1),
            };
            let line: Line = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
            let name = Path::new(&line.file_name);
            let inside = name
                .components()
                .all(|component| matches!(component, std::path::Component::Normal(_)));
            if !inside {
                return Err(bad(format!("{:?} leaves the folder", line.file_name)));
            }
            Ok((folder.join(name), line.text))
        })
        .collect()
}

fn read_pairs(folder: &Path) -> Result<Vec<(PathBuf, String)>, TrainError> {
    let mut items = Vec::new();
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
        let path = entry.map_err(TrainError::io(folder))?.path();
        let is_image = path.extension().is_some_and(|e| {
            ["png", "jpg", "jpeg", "webp"]
                .iter()
                .any(|known| e.eq_ignore_ascii_case(known))
        });
        if let (true, Ok(caption)) = (is_image, fs::read_to_string(path.with_extension("txt"))) {
            items.push((path, caption.trim().to_owned()));
        }
    }
    // Folders list their files in no particular order; runs must not depend on it.
    items.sort();
    Ok(items)
}

fn read_square(path: &Path, size: usize) -> Result<Vec<f32>, TrainError> {
    let image = load_as_is(path, [255; 3]).map_err(TrainError::image)?;
    let image = shortened(image, size as u32, size as u32);
    let filter = image::imageops::FilterType::Triangle;
    let image = image
        .resize_to_fill(size as u32, size as u32, filter)
        .to_rgb8();
    let plane = size * size;
    let mut pixels = vec![0.0; 3 * plane];
    for (index, pixel) in image.pixels().enumerate() {
        for (channel, value) in pixel.0.into_iter().enumerate() {
            pixels[channel * plane + index] = f32::from(value) / 127.5 - 1.0;
        }
    }
    Ok(pixels)
}
