//! The images of one prompt, and where they go.

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sana_linear_attn::weights::replace_file;
use sana_pipeline::image::{self, GridOptions, RgbImage};

use crate::files::marked;
use crate::generate::Record;

/// A prompt of a benchmark.
pub struct Item {
    pub prompt: String,
    pub place: Place,
}

/// Where the images of a prompt go.
pub enum Place {
    /// A file each.
    Files {
        paths: Vec<PathBuf>,
        /// A text that goes before them.
        text: Option<(PathBuf, String)>,
        /// All of them once more, as a grid to look at.
        grid: Option<PathBuf>,
    },
    /// One file, in two columns without gaps. It is there when all of them are made.
    Sheet { path: PathBuf, images: usize },
}

impl Place {
    /// Images of the prompt.
    pub fn images(&self) -> usize {
        match self {
            Self::Files { paths, .. } => paths.len(),
            Self::Sheet { images, .. } => *images,
        }
    }

    /// The files with images, and of each the first image in it.
    pub fn files(&self) -> Vec<(usize, &Path)> {
        match self {
            Self::Files { paths, .. } => {
                let paths = paths.iter().enumerate();
                paths.map(|(index, path)| (index, path.as_path())).collect()
            }
            Self::Sheet { path, .. } => vec![(0, path)],
        }
    }

    /// The images that are not there yet.
    pub fn missing(&self) -> Vec<usize> {
        match self {
            Self::Files { paths, .. } => (0..paths.len())
                .filter(|index| !paths[*index].exists())
                .collect(),
            Self::Sheet { path, images } => match path.exists() {
                true => Vec::new(),
                false => (0..*images).collect(),
            },
        }
    }

    /// Makes the folder of the images, and what goes before them.
    pub fn begin(&self) -> anyhow::Result<()> {
        let (_, first) = self.files()[0];
        let folder = first.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let Self::Files {
            text: Some((path, text)),
            ..
        } = self
        else {
            return Ok(());
        };
        if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(());
        }
        replace_file(path, |file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes the grid, when all images are there and it is not, or is of others.
    pub fn finish(&self, made: bool) -> anyhow::Result<()> {
        if let Self::Files {
            paths,
            grid: Some(grid),
            ..
        } = self
            && (made || !grid.exists())
        {
            let all = image::grid_of_files(paths, &GridOptions::default())?;
            marked::save(grid, &all, false)?;
        }
        Ok(())
    }
}

/// Takes the images of a prompt in their order, and writes what is complete.
#[derive(Default)]
pub struct Writer {
    /// Images of a sheet that is not complete.
    waiting: Vec<RgbImage>,
    /// The record of its first one.
    first: Option<Record>,
}

impl Writer {
    /// Keeps the `index`-th image of a prompt.
    pub fn add(
        &mut self,
        place: &Place,
        index: usize,
        image: &RgbImage,
        record: Record,
    ) -> anyhow::Result<()> {
        let (path, images) = match place {
            Place::Files { paths, .. } => {
                return Ok(image::save(&paths[index], image, &record.texts())?);
            }
            Place::Sheet { path, images } => (path, *images),
        };
        if index != self.waiting.len() {
            bail!("image {index} of {} came out of order", path.display());
        }
        self.waiting.push(image.clone());
        let first = self.first.get_or_insert(record);
        if self.waiting.len() == images {
            let sheet = sheet(&self.waiting)?;
            image::save(path, &sheet, &first.texts())?;
            *self = Self::default();
        }
        Ok(())
    }
}

/// Images in two columns without gaps, as evaluators cut them.
fn sheet(images: &[RgbImage]) -> anyhow::Result<RgbImage> {
    let options = GridOptions {
        columns: NonZeroUsize::new(2),
        gap: 0,
        ..GridOptions::default()
    };
    let sheet = image::grid(images, &options)?;
    let width = images.first().map_or(0, RgbImage::width);
    // A larger one would be shrunk.
    if sheet.width() != 2 * width {
        bail!("{width} pixels are too wide for a grid of two columns: give a smaller --size");
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_of_a_sheet_are_its_images() {
        let images: Vec<RgbImage> = (0..4)
            .map(|index| RgbImage::from_fn(6, 6, |x, y| [index, x as u8, y as u8].into()))
            .collect();
        let sheet = sheet(&images).unwrap();
        assert_eq!(sheet.dimensions(), (12, 12));
        for (image, [left, top]) in images.iter().zip([[0, 0], [6, 0], [0, 6], [6, 6]]) {
            let crop = RgbImage::from_fn(6, 6, |x, y| *sheet.get_pixel(left + x, top + y));
            assert_eq!(&crop, image);
        }
    }
}
