//! The grid of all images of a run.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use sana_pipeline::image::{self, FileFormat, GridOptions};

use crate::args::positive;
use crate::files::{Files, paths};

/// The grid of all images of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batch and grid")]
pub struct GridArgs {
    /// Write a grid of all images as well [default of PATH: NAME-grid.png, or grid.png in the
    /// folder of --prompts]
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true)]
    grid: Option<Option<PathBuf>>,
    /// Images in a row of the grid [default: as many as rows, or one more]
    #[arg(long, value_name = "N", requires = "grid", allow_negative_numbers = true, value_parser = positive())]
    grid_columns: Option<usize>,
}

impl GridArgs {
    /// Where the grid goes if one was asked for, by default to `usual`; it can be written there,
    /// and no other file of the run is there.
    ///
    /// # Errors
    /// When it cannot.
    pub fn path(&self, usual: PathBuf, files: &mut Files) -> anyhow::Result<Option<PathBuf>> {
        let Some(path) = &self.grid else {
            return Ok(None);
        };
        let path = path.clone().unwrap_or(usual);
        FileFormat::of(&path).with_context(|| format!("--grid {}", path.display()))?;
        files.writes(&path, "--grid", "the grid")?;
        image::check_writable(&path)?;
        Ok(Some(path))
    }

    /// The layout.
    pub fn options(&self) -> GridOptions {
        GridOptions {
            columns: self.grid_columns.and_then(NonZeroUsize::new),
            ..GridOptions::default()
        }
    }
}

/// `NAME-grid.png` with the ending of `out`, next to the images of one prompt.
pub fn next_to(out: &Path) -> PathBuf {
    paths::suffixed(out, "-grid")
}
