//! `log.csv` and `loss.png`: what the steps of a run reported.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::curve::draw_curve;
use crate::support::files;
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

/// Drops what is not a line of a step up to `step`, each once: steps after it are taken again, and a
/// run that was killed may have left half a line. A log without such lines is removed.
pub(super) fn cut(folder: &Path, step: usize) -> Result<(), TrainError> {
    let path = folder.join(LOG);
    // What is no regular file has nothing to read, and may have no end.
    if !path.is_file() {
        return Ok(());
    }
    let text = fs::read(&path).map_err(TrainError::io(&path))?;
    let text = String::from_utf8_lossy(&text);
    if !COLUMNS.starts_with(text.lines().next().unwrap_or_default()) {
        return Err(TrainError::State {
            path,
            reason: "it is not the log of a run".to_owned(),
        });
    }
    let (mut kept, mut last) = (format!("{COLUMNS}\n"), 0);
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        let found = line.split(',').next().and_then(|text| text.parse().ok());
        let Some(found) = found.filter(|found| (last + 1..=step).contains(found)) else {
            continue;
        };
        if line.split(',').count() == COLUMNS.split(',').count() {
            kept += line;
            last = found;
        }
    }
    if last == 0 {
        return fs::remove_file(&path).map_err(TrainError::io(&path));
    }
    files::write_text(&path, &kept).map_err(TrainError::io(&path))
}

/// Draws the losses of the log, if there is one.
pub(super) fn draw(folder: &Path) -> Result<(), TrainError> {
    let log = folder.join(LOG);
    if !log.is_file() {
        return Ok(());
    }
    draw_curve(&log, &folder.join(CURVE))
}
