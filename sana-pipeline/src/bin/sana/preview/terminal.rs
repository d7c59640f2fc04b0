//! Images in a terminal.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, bail};
use clap::ValueEnum;
use sana_pipeline::image::RgbImage;

/// Rows of a terminal that an image may take, at most.
const MOST_ROWS: u32 = 24;

/// How an image is shown in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Graphics {
    /// As the terminal says that it can
    Auto,
    /// In half blocks, without asking the terminal
    Blocks,
}

/// Standard output, where each image takes the place of the one before.
pub struct Terminal {
    config: viuer::Config,
    /// Rows of the image before.
    rows: u32,
}

impl Terminal {
    /// # Errors
    /// When standard output is not a terminal.
    pub fn open(graphics: Graphics) -> anyhow::Result<Self> {
        if !io::stdout().is_terminal() {
            bail!("--preview-terminal: standard output is not a terminal; --preview writes a file");
        }
        let can_answer = graphics == Graphics::Auto
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let (_, rows) = viuer::terminal_size();
        let config = viuer::Config {
            absolute_offset: false,
            height: Some((u32::from(rows) / 2).clamp(1, MOST_ROWS)),
            use_kitty: can_answer,
            use_iterm: can_answer,
            use_sixel: can_answer,
            ..viuer::Config::default()
        };
        Ok(Self { config, rows: 0 })
    }

    /// Shows an image in place of the one before.
    pub fn show(&mut self, image: &RgbImage) -> anyhow::Result<()> {
        let mut out = io::stdout();
        if self.rows > 0 {
            write!(out, "\r\x1b[{}A", self.rows)?;
            out.flush()?;
        }
        let shown = viuer::print(&image.clone().into(), &self.config);
        let (_, rows) = shown.context("cannot show an image in this terminal")?;
        self.rows = rows;
        Ok(())
    }
}
