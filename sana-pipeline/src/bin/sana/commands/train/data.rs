//! What `--data` names.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sana_dcae::DcAeConfig;
use sana_pipeline::sprites::SpriteSheet;
use sana_pipeline::train::{
    DataSource, FlatShapes, ImageFolder, SpriteScenes, scenes_autoencoder, sprites_autoencoder,
};

use super::new_model::NewModel;
use crate::terminal::complain;

/// Images with captions.
#[derive(Debug, Clone)]
pub enum DataName {
    /// Flat shapes, drawn as they are needed.
    Scenes,
    /// Scenes of little things, composed as they are needed, of a folder of sprites.
    Sprites(PathBuf),
    /// A folder of images.
    Folder(PathBuf),
}

/// What precedes a folder of sprites.
const SPRITES: &str = "sprites:";

impl FromStr for DataName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.strip_prefix(SPRITES)) {
            ("scenes", _) => Self::Scenes,
            (_, Some(folder)) => Self::Sprites(folder.into()),
            (folder, None) => Self::Folder(folder.into()),
        })
    }
}

impl DataName {
    /// Images of these sizes.
    pub fn open(&self, sizes: &[[usize; 2]]) -> anyhow::Result<Arc<dyn DataSource>> {
        let data: Arc<dyn DataSource> = match self {
            Self::Scenes => Arc::new(FlatShapes::new(sizes)),
            Self::Sprites(folder) => Arc::new(SpriteScenes::new(
                Arc::new(SpriteSheet::open(folder)?),
                sizes,
            )?),
            Self::Folder(folder) => Arc::new(ImageFolder::open(folder, sizes)?),
        };
        warn_of_skipped(&*data);
        Ok(data)
    }

    /// The architecture of a new autoencoder for it.
    pub fn new_autoencoder(&self) -> DcAeConfig {
        match self {
            Self::Scenes | Self::Folder(_) => scenes_autoencoder(),
            Self::Sprites(_) => sprites_autoencoder(),
        }
    }

    /// The architecture of a new transformer for it, for images of `size` pixels.
    pub fn new_model(&self, size: usize) -> NewModel {
        match self {
            Self::Scenes | Self::Folder(_) => NewModel::scenes(size),
            Self::Sprites(_) => NewModel::sprites(size),
        }
    }
}

/// Width and height of the largest images.
pub fn largest(data: &dyn DataSource) -> [usize; 2] {
    let sizes = data.buckets().iter().map(|bucket| bucket.size);
    let area = |[width, height]: &[usize; 2]| *width as u128 * *height as u128;
    sizes.max_by_key(area).unwrap_or_default()
}

/// Images named before the rest is only counted.
const NAMED: usize = 3;

fn warn_of_skipped(data: &dyn DataSource) {
    let skipped = data.skipped();
    if skipped.is_empty() {
        return;
    }
    let mut text = format!(
        "warning: {} of {} images are left out, without a caption that can be read:\n",
        skipped.len(),
        skipped.len() + data.count().unwrap_or(0)
    );
    for (image, reason) in skipped.iter().take(NAMED) {
        text += &format!("  {:?}: {}\n", image, reason.escape_debug());
    }
    if skipped.len() > NAMED {
        text += &format!("  and {} more\n", skipped.len() - NAMED);
    }
    complain(&text);
}
