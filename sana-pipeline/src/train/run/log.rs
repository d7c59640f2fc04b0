//! `log.csv` and `loss.png`: what the steps of a run reported.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::curve::draw_curve;
use crate::files;
use crate::train::error::TrainError;

/// One line per step.
pub(super) const LOG: &str = "log.csv";
/// The losses as an image.
pub(super) const CURVE: &str = "loss.png";

const COLUMNS: &str = "step,loss,gradient_norm,learning_rate,seconds";

/// What a step reports.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps taken.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Loss of the step.
    pub loss: f32,
    /// Norm of all gradients together, before the clip.
    pub gradient_norm: f32,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Wall time of the step.
    pub seconds: f64,
}

/// Adds a line to the log of a run's folder.
pub(super) fn append(folder: &Path, progress: &Progress) -> Result<(), TrainError> {
    let path = folder.join(LOG);
    let new = !path.exists();
    let Progress {
        step,
        loss,
        gradient_norm,
        learning_rate,
        seconds,
        ..
    } = progress;
    let write = || {
        let mut file = fs::File::options().create(true).append(true).open(&path)?;
        if new {
            writeln!(file, "{COLUMNS}")?;
        }
        writeln!(
            file,
            "{step},{loss:.6},{gradient_norm:.5},{learning_rate:.7},{seconds:.3}"
        )
    };
    write().map_err(TrainError::io(&path))
}

/// Drops the lines of steps after `step`: they will be taken again.
pub(super) fn cut(folder: &Path, step: usize) -> Result<(), TrainError> {
    let path = folder.join(LOG);
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let kept: String = text
        .lines()
        .filter(
            |line| match line.split(',').next().map(str::parse::<usize>) {
                Some(Ok(found)) => found <= step,
                _ => true,
            },
        )
        .flat_map(|line| [line, "\n"])
        .collect();
    files::write_text(&path, &kept).map_err(TrainError::io(&path))
}

/// Draws the losses of the log.
pub(super) fn draw(folder: &Path) -> Result<(), TrainError> {
    draw_curve(&folder.join(LOG), &folder.join(CURVE))
}
