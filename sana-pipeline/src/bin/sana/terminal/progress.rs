//! Progress on a terminal, and the report of the stages at the end.

use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressState, ProgressStyle};
use sana_pipeline::memory::StageReport;

/// A bar on stderr with the time left; nothing at all when stderr is not a terminal.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar that counts to `length`, behind `message`.
    pub fn new(length: usize, message: &'static str) -> Self {
        let bar = Self::styled("{msg} {wide_bar} {pos}/{len}  {elapsed}{left}", message);
        bar.bar.set_length(length as u64);
        bar
    }

    /// A bar that counts bytes, behind `message`.
    pub fn bytes(message: &'static str) -> Self {
        Self::styled(
            "{msg} {wide_bar} {bytes}/{total_bytes}  {elapsed}{left}",
            message,
        )
    }

    fn styled(template: &str, message: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(message);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("left", time_left));
        }
        tick(&bar);
        Self { bar }
    }

    /// What is done now.
    pub fn phase(&self, message: &'static str) {
        self.bar.set_message(message);
    }

    /// So much is done of all. The clock of the time left starts at the first call: what came
    /// before it, such as reading weights, says nothing about the rest.
    pub fn advance(&self, done: u64, all: u64) {
        let first = self.bar.position() == 0;
        self.bar.set_length(all);
        self.bar.set_position(done);
        if first {
            self.bar.reset_eta();
        }
    }

    /// Does what writes to the terminal itself, without the bar in its way.
    pub fn suspend<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    /// Removes the bar.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Redraws the bar while it is there, so that its clock runs. Where the system gives no thread for
/// that, which indicatif's own would end the program for, it is redrawn when something is done.
fn tick(bar: &ProgressBar) {
    if bar.is_hidden() {
        return;
    }
    let bar = bar.downgrade();
    let _ = thread::Builder::new().spawn(move || {
        while let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
            bar.tick();
            drop(bar);
            thread::sleep(Duration::from_millis(200));
        }
    });
}

/// Unknown until the second of the parts is done, and at the end none.
fn time_left(state: &ProgressState, out: &mut dyn fmt::Write) {
    let seconds = state.eta().as_secs();
    if seconds > 0 {
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let _ = match hours {
            0 => write!(out, ", {minutes}:{seconds:02} left"),
            _ => write!(out, ", {hours}:{minutes:02}:{seconds:02} left"),
        };
    }
}

/// Removes the bar when an error ends the work.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// One line per stage: its name, seconds, and the largest memory of the process during it; on a
/// GPU also what the memory pool of the device holds.
pub fn write_stages(stages: &[StageReport], out: &mut impl Write) -> io::Result<()> {
    for stage in stages {
        write!(out, "{:<8} {:>9.2} s", stage.name, stage.seconds)?;
        if let Some(bytes) = stage.peak_memory_bytes {
            write!(out, "  peak {}", DecimalBytes(bytes))?;
        }
        if let Some(bytes) = stage.device_memory_bytes {
            write!(out, "  on the device {}", DecimalBytes(bytes))?;
        }
        writeln!(out)?;
    }
    Ok(())
}
