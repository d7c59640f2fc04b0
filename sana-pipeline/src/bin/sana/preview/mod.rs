//! The image as it is while it is made: in a file, in the terminal, over HTTP.

mod terminal;

use std::path::{Path, PathBuf};

use clap::Args;
use sana_pipeline::image::{self, GridOptions, RgbImage};
use sana_pipeline::preview::{enlarged, sample_images};
use sana_pipeline::request::Settings;
use sana_pipeline::{PipelineError, StepInfo};

use self::terminal::{Graphics, Terminal};
use crate::args::{Shard, positive};
use crate::files::{Files, marked};
use crate::model::Model;
use crate::terminal::{Progress, note, warning};

/// Latents of an image, at most, that is decoded for a preview: its decode takes next to nothing, and
/// an image of so few pixels shows next to nothing.
const DECODED_LATENTS: usize = 64;

/// What is shown of images before they are done.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Preview")]
pub struct PreviewArgs {
    /// File that shows the image while it is generated, .png, .jpg, .jpeg or .webp; it is replaced
    /// whole, step by step. With --shard each share has its own, such as NAME-2-of-4.png
    #[arg(long, value_name = "PATH")]
    pub preview: Option<PathBuf>,
    /// Show every N-th step [default: 1]
    #[arg(long, value_name = "N", requires = "shown", allow_negative_numbers = true, value_parser = positive())]
    pub preview_every: Option<usize>,
    /// Show the image in the terminal: with kitty's, iTerm's or sixel graphics where it has them, else in
    /// half blocks
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        conflicts_with = "json"
    )]
    pub preview_terminal: Option<Graphics>,
}

/// Shows steps.
pub struct Previews {
    file: Option<PathBuf>,
    terminal: Option<Terminal>,
    every: usize,
    no_mark: bool,
}

impl PreviewArgs {
    /// Checks before the work that previews of a share can be shown.
    pub fn open(&self, no_mark: bool, shard: Shard, files: &mut Files) -> anyhow::Result<Previews> {
        let file = self.preview.as_deref().map(|path| of_share(path, shard));
        if let Some(path) = &file {
            files.writes(path, "--preview", "the preview")?;
            image::FileFormat::of(path)?;
            image::check_writable(path)?;
        }
        Ok(Previews {
            file,
            terminal: self.preview_terminal.map(Terminal::open).transpose()?,
            every: self.preview_every.unwrap_or(1),
            no_mark,
        })
    }
}

/// The file of a share, which no other share writes.
fn of_share(path: &Path, shard: Shard) -> PathBuf {
    if shard.is_whole() {
        return path.to_path_buf();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{}-of-{}", shard.number(), shard.count()));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

impl Previews {
    /// Makes sure that the images of a request can be shown, also those of a second pass, which are
    /// larger: fits the colours of latents where they are not known.
    pub fn prepare(&self, model: &mut Model, settings: &Settings) -> anyhow::Result<()> {
        if self.file.is_none() && self.terminal.is_none() {
            return Ok(());
        }
        let size = match settings.hires {
            Some(hires) => [hires.width, hires.height],
            None => [settings.width, settings.height],
        };
        let latents = size.map(|side| side / model.pipeline.spec().compression());
        let decoded = is_decoded(latents) && !model.pipeline.releases_stages();
        if model.pipeline.latent_rgb().is_none() && !decoded {
            fit(model)?;
            note(
                "the colours of previews were fitted to the autoencoder: sana latent-rgb keeps them",
            );
        }
        Ok(())
    }

    /// Shows a step, unless it is one of those between. What goes wrong with that is no reason to end
    /// the work: it is reported once.
    pub fn show(&mut self, step: &mut StepInfo<'_>, progress: &Progress) {
        if !self.is_shown(step.index + 1, step.steps) {
            return;
        }
        if let Err(error) = self.try_show(step, progress) {
            progress.suspend(|| warning(format!("no previews from here on: {error:#}")));
            (self.file, self.terminal) = (None, None);
        }
    }

    fn is_shown(&self, done: usize, steps: usize) -> bool {
        let wanted = self.file.is_some() || self.terminal.is_some();
        wanted && (done.is_multiple_of(self.every) || done == steps)
    }

    fn try_show(&mut self, step: &mut StepInfo<'_>, progress: &Progress) -> anyhow::Result<()> {
        let images = of_step(step, false)?;
        let image = match images.as_slice() {
            [] => return Ok(()),
            [image] => image,
            images => &image::grid(images, &GridOptions::default())?,
        };
        if let Some(path) = &self.file {
            marked::save(path, image, self.no_mark)?;
        }
        if let Some(terminal) = &mut self.terminal {
            progress.suspend(|| terminal.show(image))?;
        }
        Ok(())
    }
}

/// Fits the colours of latents to the model's autoencoder.
pub fn fit(model: &mut Model) -> Result<f64, PipelineError> {
    let spec = model.pipeline.spec();
    let side = (spec.transformer.sample_size.min(8) * spec.compression()) as u32;
    #[cfg(feature = "scenes-model")]
    if model.name == crate::model::BUILT_IN {
        let images = sana_pipeline::preview::scene_images(side);
        let fitted = model
            .pipeline
            .fit_latent_rgb("images of the scene language", images)?;
        return Ok(fitted.psnr);
    }
    let fitted = model
        .pipeline
        .fit_latent_rgb("drawn shapes", sample_images(side))?;
    Ok(fitted.psnr)
}

/// The images of a step: decoded where `decode` says so or they are small, else by the colours of their
/// latents, enlarged. None where neither is possible.
pub fn of_step(step: &mut StepInfo<'_>, decode: bool) -> Result<Vec<RgbImage>, PipelineError> {
    let [.., height, width] = step.denoised.dims();
    let decode = decode || is_decoded([width, height]);
    if decode && let Some(images) = step.decode_preview()? {
        return Ok(images);
    }
    match step.preview()? {
        Some(images) => Ok(images.iter().map(enlarged).collect()),
        None => Ok(step.decode_preview()?.unwrap_or_default()),
    }
}

/// Whether images of so many latents are decoded for a preview.
pub fn is_decoded([width, height]: [usize; 2]) -> bool {
    width.saturating_mul(height) <= DECODED_LATENTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_shown() {
        let shown = |args: &PreviewArgs| -> Vec<usize> {
            let previews = args
                .open(false, Shard::default(), &mut Files::default())
                .unwrap();
            (1..=10)
                .filter(|done| previews.is_shown(*done, 10))
                .collect()
        };
        // Without a preview no step asks the device for anything.
        assert_eq!(shown(&PreviewArgs::default()), [] as [usize; 0]);
        let folder = tempfile::tempdir().unwrap();
        let preview = Some(folder.path().join("a.png"));
        let every = |preview_every| PreviewArgs {
            preview: preview.clone(),
            preview_every,
            preview_terminal: None,
        };
        assert_eq!(shown(&every(None)), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(shown(&every(Some(4))), [4, 8, 10]);
        assert_eq!(shown(&every(Some(100))), [10]);
    }

    #[test]
    fn shares_have_files_of_their_own() {
        let file = |path: &str, shard: &str| of_share(path.as_ref(), shard.parse().unwrap());
        assert_eq!(file("a/p.png", "1/1"), Path::new("a/p.png"));
        assert_eq!(file("a/p.png", "2/4"), Path::new("a/p-2-of-4.png"));
        assert_eq!(file("a.b.webp", "1/2"), Path::new("a.b-1-of-2.webp"));
    }
}
