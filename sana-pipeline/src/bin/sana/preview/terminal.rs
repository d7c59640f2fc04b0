//! Images in a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use sana_pipeline::image::RgbImage;

/// Rows of a terminal that an image may take, at most.
const MOST_ROWS: u32 = 24;
/// How long a terminal may take to say what it can.
const PATIENCE: Duration = Duration::from_secs(2);
/// Columns of a terminal that does not say how many it has.
const USUAL_COLUMNS: u32 = 80;

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
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
            && answers();
        let config = viuer::Config {
            absolute_offset: false,
            use_kitty: can_answer,
            use_iterm: can_answer,
            use_sixel: can_answer,
            ..viuer::Config::default()
        };
        Ok(Self { config, rows: 0 })
    }

    /// Shows an image in place of the one before.
    pub fn show(&mut self, image: &RgbImage) -> anyhow::Result<()> {
        (self.config.width, self.config.height) =
            bounds(image.dimensions(), viuer::terminal_size());
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

/// Whether the terminal says in time what it can, which viuer keeps; it waits without end for one that says
/// nothing.
fn answers() -> bool {
    let (sender, answered) = mpsc::channel();
    thread::spawn(move || {
        // In its order of preference.
        let _ = viuer::is_sixel_supported()
            || viuer::is_iterm_supported()
            || viuer::get_kitty_support() != viuer::KittySupport::None;
        let _ = sender.send(());
    });
    answered.recv_timeout(PATIENCE).is_ok()
}

/// What bounds an image in a terminal of `(columns, rows)`, the other side following: its width where it is
/// so wide that its lines would be broken, else its height.
fn bounds((width, height): (u32, u32), (columns, rows): (u16, u16)) -> (Option<u32>, Option<u32>) {
    let columns = match u32::from(columns) {
        0 => USUAL_COLUMNS,
        columns => columns,
    };
    let rows = (u32::from(rows) / 2).clamp(1, MOST_ROWS);
    // A cell is twice as high as it is wide.
    let wanted = u64::from(2 * rows) * u64::from(width) / u64::from(height.max(1));
    match wanted > u64::from(columns) {
        true => (Some(columns), None),
        false => (None, Some(rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stay_within_the_terminal() {
        assert_eq!(bounds((128, 128), (80, 24)), (None, Some(12)));
        assert_eq!(bounds((128, 128), (80, 200)), (None, Some(24)));
        // Two images side by side.
        assert_eq!(bounds((260, 128), (80, 24)), (None, Some(12)));
        assert_eq!(bounds((260, 128), (80, 50)), (Some(80), None));
        assert_eq!(bounds((128, 4096), (80, 50)), (None, Some(24)));
        // One that does not know its size.
        assert_eq!(bounds((64, 64), (0, 0)), (None, Some(1)));
        assert_eq!(bounds((4096, 32), (0, 0)), (Some(80), None));
    }
}
